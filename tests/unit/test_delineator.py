"""The learned delineator: its package, its checks, and its marks on hearts of known intervals."""

import json

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from analysis import delineator as module
from analysis.beats import detect, prepare
from analysis.card import Source
from analysis.delineator import (
    BEFORE,
    CARD_KEY,
    INPUT,
    OUTPUTS,
    SAMPLES,
    SAMPLING_FREQUENCY,
    SELF_TEST_KEY,
    Card,
    Error,
    load_delineator,
    pack,
    shipped,
)
from analysis.ecg import ECG, Lead
from analysis.errors import ModelReason, ModelRejected
from analysis.fiducials import delineate
from analysis.measure import GLOBAL, measure, of_examined
from analysis.quality import examine
from analysis.result import FIDUCIAL_KINDS
from analysis.synthetic import Kind, simulate

CARD = Card(
    name="Marks",
    version="1",
    created="2026-11-20",
    intended_use="Tests.",
    limits="Everything.",
    p_threshold=0.5,
    training_data=(Source(name="none", records=1, licence="none", citation="none"),),
    errors=(Error(kind="p_onset", data="none", mean=0.5, deviation=10.0, marks=3),),
)
RANDOM = np.random.default_rng(3)
BEAT = RANDOM.standard_normal((3, SAMPLES)).astype(np.float32)


def graph(marks: npt.ArrayLike = range(80, 170, 10), *, samples: int = SAMPLES) -> bytes:
    """Return a graph that gives the same marks for every lead and beat, and a P wave."""
    constants = {
        "marks_": np.asarray(marks, np.float32)[None],
        "zero": np.zeros((samples, 1), np.float32),
        "p_": np.array([0.75], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", [INPUT, "zero"], ["nothing"]),
        helper.make_node("ReduceMean", ["nothing"], ["one"], axes=[0], keepdims=1),
        helper.make_node("Concat", ["nothing", "one"], ["rows"], axis=0),
        helper.make_node("Add", ["rows", "marks_"], [OUTPUTS[0]]),
        helper.make_node("Squeeze", ["one", "axis"], ["still"]),
        helper.make_node("Add", ["still", "p_"], [OUTPUTS[1]]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "marks",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["leads", samples])],
            [
                helper.make_tensor_value_info(OUTPUTS[0], TensorProto.FLOAT, ["rows", 9]),
                helper.make_tensor_value_info(OUTPUTS[1], TensorProto.FLOAT, [1]),
            ],
            [
                *(onnx.numpy_helper.from_array(value, name) for name, value in constants.items()),
                onnx.numpy_helper.from_array(np.array([1]), "axis"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    content: bytes = model.SerializeToString()
    return content


def changed(package: bytes, key: str, text: str) -> bytes:
    model = onnx.load_model_from_string(package)
    kept = {item.key: item.value for item in model.metadata_props}
    helper.set_model_props(model, kept | {key: text})
    content: bytes = model.SerializeToString()
    return content


def assert_refused(content: bytes, reason: ModelReason) -> None:
    with pytest.raises(ModelRejected) as refusal:
        load_delineator(content)
    assert refusal.value.reason is reason


# --- the package


def test_a_package_gives_back_its_card_and_its_marks() -> None:
    loaded = load_delineator(pack(graph(), CARD, [BEAT]))
    assert loaded.card == CARD
    answer = loaded.mark(BEAT)
    assert answer.marks.shape == (4, 9)
    np.testing.assert_allclose(answer.marks, np.tile(np.arange(80, 170, 10), (4, 1)))
    assert answer.p_wave == pytest.approx(0.75)


def test_the_card_survives_json() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        CARD.to_json().replace('"p_threshold":0.5', '"p_threshold":7'),
    ],
)
def test_what_is_no_card_is_refused(text: str) -> None:
    package = pack(graph(), CARD, [BEAT])
    assert_refused(changed(package, CARD_KEY, text), ModelReason.INVALID_CARD)


def test_a_graph_without_card_is_refused() -> None:
    assert_refused(graph(), ModelReason.NO_CARD)


def test_what_is_no_onnx_file_is_refused() -> None:
    assert_refused(b"no model", ModelReason.UNREADABLE)


def test_a_graph_of_another_beat_is_refused() -> None:
    with pytest.raises(ModelRejected) as refusal:
        pack(graph(samples=SAMPLES - 1), CARD, [BEAT])
    assert refusal.value.reason is ModelReason.WRONG_SHAPE


def test_a_graph_that_marks_elsewhere_than_when_packed_fails_its_self_test() -> None:
    package = pack(graph(), CARD, [BEAT])
    cases = json.loads(
        next(
            item.value
            for item in onnx.load_model_from_string(package).metadata_props
            if item.key == SELF_TEST_KEY
        )
    )
    cases[0]["marks"][1][3] += 0.1
    assert_refused(changed(package, SELF_TEST_KEY, json.dumps(cases)), ModelReason.SELF_TEST_FAILED)


@pytest.mark.parametrize("text", ["", "[]", "{}", '[{"leads": 1}]'])
def test_an_unreadable_self_test_fails(text: str) -> None:
    package = pack(graph(), CARD, [BEAT])
    assert_refused(changed(package, SELF_TEST_KEY, text), ModelReason.SELF_TEST_FAILED)


@pytest.mark.parametrize("shape", [(0, SAMPLES), (3, SAMPLES - 1), (SAMPLES,), (1, 3, SAMPLES)])
def test_a_beat_of_another_form_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="reads"):
        load_delineator(pack(graph(), CARD, [BEAT])).mark(np.zeros(shape, np.float32))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, SAMPLES - 1), min_size=9, max_size=9))
def test_marks_come_in_order_of_time_whatever_the_network_says(marks: list[float]) -> None:
    found = load_delineator(pack(graph(marks), CARD, [BEAT])).mark(BEAT).marks
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose(found[:, 3], np.float32(marks[3]))


# --- in the measurements


def test_a_network_whose_qrs_misses_r_gives_way_to_the_classical_marks() -> None:
    astray = load_delineator(pack(graph(range(180, 270, 10)), CARD, [BEAT]))
    prepared = prepare(simulate(Kind.SINUS).ecg)
    beats = detect(prepared)
    found, classical = delineate(prepared, beats, astray), delineate(prepared, beats)
    assert found is not None
    assert classical is not None
    np.testing.assert_array_equal(found.marks, classical.marks)


def test_a_p_wave_that_the_network_denies_is_not_marked() -> None:
    prepared = prepare(simulate(Kind.SINUS).ecg)
    denies = Card.from_json(CARD.to_json().replace('"p_threshold":0.5', '"p_threshold":0.9'))
    near = [BEFORE + at for at in (-42, -30, -18, -10, 0, 13, 30, 65, 90)]
    found = delineate(
        prepared, detect(prepared), load_delineator(pack(graph(near), denies, [BEAT]))
    )
    assert found is not None
    assert np.isnan(found.marks[..., :3]).all()
    assert np.isfinite(found.median_marks[..., 3:]).all()


def test_without_a_sound_package_the_classical_marks_measure_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHIPPED", "absent.onnx")
    shipped.cache_clear()
    try:
        assert shipped() is None
        made = simulate(Kind.SINUS, noise=0.0)
        assert measure(made.ecg).qt_interval.value == pytest.approx(
            made.truth["qt_interval"], abs=10
        )
    finally:
        shipped.cache_clear()


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.NOISE])
def test_the_classical_marks_alone_are_within_10_ms(kind: Kind) -> None:
    made = simulate(kind, noise=0.0, seed=5)
    found = of_examined(made.ecg, examine(made.ecg, expected=made.ecg.leads), lambda: None)
    for name in ("p_duration", "pr_interval", "qrs_duration", "qt_interval"):
        value = getattr(found, name).value
        if name in made.truth:
            assert value == pytest.approx(made.truth[name], abs=10), name
        else:
            assert value is None


# --- the shipped one


def test_the_shipped_package_is_sound_small_and_says_how_far_off_it_is() -> None:
    loaded = shipped()
    assert loaded is not None
    assert {error.kind for error in loaded.card.errors} == set(FIDUCIAL_KINDS)
    assert all(abs(error.mean) < 8 for error in loaded.card.errors)


def shipped_marks(beat: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    loaded = shipped()
    assert loaded is not None
    return loaded.mark(beat).marks


def median_beat(kind: Kind = Kind.SINUS) -> npt.NDArray[np.floating]:
    prepared = prepare(simulate(kind, noise=0.005).ecg)
    found = delineate(prepared, detect(prepared))
    assert found is not None
    return found.median_beat[:, :: round(prepared.sampling_frequency / SAMPLING_FREQUENCY)]


def test_the_scale_of_a_beat_does_not_matter() -> None:
    beat = median_beat()
    np.testing.assert_allclose(shipped_marks(20 * beat), shipped_marks(beat), atol=0.5)


def test_the_order_of_leads_does_not_matter() -> None:
    beat = median_beat()
    order = np.random.default_rng(0).permutation(len(beat))
    marks, permuted = shipped_marks(beat), shipped_marks(beat[order])
    np.testing.assert_allclose(permuted[:-1], marks[order], atol=0.05)
    np.testing.assert_allclose(permuted[-1], marks[-1], atol=0.05)


@pytest.mark.parametrize("lead", [Lead.I, Lead.II, Lead.V2, Lead.V5])
def test_one_lead_upside_down_is_marked_as_well(lead: Lead) -> None:
    made = simulate(Kind.SINUS, noise=0.005)
    ecg = made.ecg.select([lead])
    upside_down = ECG(signal=-ecg.signal, leads=ecg.leads, sampling_frequency=500.0)
    value = measure(upside_down).qt_interval.value
    assert value == pytest.approx(made.truth["qt_interval"], abs=15)


@settings(max_examples=40, deadline=None)
@given(leads=st.integers(1, 16), seed=st.integers(0, 99), scale=st.sampled_from([0.0, 1e-3, 1e3]))
def test_whatever_the_beat_its_marks_are_finite_and_in_order(
    leads: int, seed: int, scale: float
) -> None:
    beat = scale * np.random.default_rng(seed).standard_normal((leads, SAMPLES))
    found = shipped_marks(beat)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found < SAMPLES)).all()
    assert (np.diff(found, axis=1) >= 0).all()


@pytest.mark.parametrize("seed", range(12))
def test_fibrillation_gets_no_p_wave_and_its_own_qt(seed: int) -> None:
    made = simulate(Kind.ATRIAL_FIBRILLATION, seed=seed)
    found = measure(made.ecg)
    assert found.pr_interval.value is None
    assert np.isnan(found.fiducials[GLOBAL]["p_peak"]).all()
    assert found.qt_interval.value == pytest.approx(made.truth["qt_interval"], abs=12)
