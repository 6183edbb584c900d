"""Why a model found something: planted models that look at one thing, and the shipped one.

A planted model is a graph of a few nodes that looks at one lead in one way; what it uses is known,
and nothing else may be named.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import hearts
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from pydicom.data import get_testdata_file
from scipy.stats import wilcoxon
from support import shared
from tiny_model import card

import analysis
from analysis.analyse import analyse
from analysis.card import Label
from analysis.ecg import ECG, STANDARD_12, Lead, Patient, Sex
from analysis.explain import (
    LARGEST,
    MEASURED,
    MEASURED_ON_BEATS,
    bridge,
    even,
    explain,
    explain_present,
    sentence,
)
from analysis.features import chosen, measure_features, names
from analysis.formats.content import Stated
from analysis.measure import measure
from analysis.model import Model, load_model, pack, shipped_models
from analysis.paper import render
from analysis.paper.carried import BAR, SHADE
from analysis.paper.evidence import compose_evidence
from analysis.paper.page import Page, Rect
from analysis.recipe import Length, Recipe
from analysis.result import RR_INTERVALS, SEGMENTS, Explanation, Origin, Result
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from dicom_node import offline
from dicom_node.offline import Outputs

MAN = Patient(age=60.0, sex=Sex.MALE)
RECIPE = Recipe(
    sampling_frequency=100.0, samples=1000, stride=1000, minimum_seconds=2.0, allowed_missing=11
)
Array = np.ndarray


def constant(name: str, *values: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def planted(
    key: str,
    lead: Lead,
    *,
    level: float = 0.4,
    sign: float = 1.0,
    longest: int | None = None,
    gain: float = 60.0,
    offset: float = 0.5,
    recipe: Recipe = RECIPE,
    features: Sequence[str] = (),
    weight: float = 0.0,
) -> Model:
    """Return a model of one finding: how far one lead rises above a level.

    With ``longest`` it looks for the most of it within so many samples, without at the mean; of
    the features it takes the sum of those that were measured, times ``weight``.
    """
    rows = numpy_helper.from_array(np.array([recipe.leads.index(lead)], np.int64), "row")
    nodes = [
        helper.make_node("Gather", ["waveform", "row"], ["lead"], axis=1),
        helper.make_node("Mul", ["lead", "sign"], ["signed"]),
        helper.make_node("Sub", ["signed", "level"], ["over"]),
        helper.make_node("Relu", ["over"], ["above"]),
    ]
    if longest is None:
        nodes.append(helper.make_node("ReduceMean", ["above"], ["most"], axes=[2], keepdims=0))
    else:
        nodes += [
            helper.make_node("AveragePool", ["above"], ["pooled"], kernel_shape=[longest]),
            helper.make_node("ReduceMax", ["pooled"], ["most"], axes=[2], keepdims=0),
        ]
    nodes += [
        helper.make_node("Mul", ["most", "gain"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "offset"], ["shifted"]),
    ]
    inputs = {"waveform": [len(recipe.leads), recipe.samples]}
    if features:
        inputs["features"] = [len(features)]
        nodes += [
            helper.make_node("Equal", ["features", "features"], ["measured"]),
            helper.make_node("Where", ["measured", "features", "nothing"], ["known"]),
            helper.make_node("ReduceSum", ["known", "axis"], ["sum"], keepdims=1),
            helper.make_node("Mul", ["sum", "weight"], ["weighed"]),
            helper.make_node("Add", ["shifted", "weighed"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["shifted"], ["logits"]))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "planted",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *size])
                for name, size in inputs.items()
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
            [
                rows,
                constant("sign", sign),
                constant("level", level),
                constant("gain", gain),
                constant("offset", offset),
                constant("nothing", 0.0),
                constant("weight", weight),
                numpy_helper.from_array(np.array([1], np.int64), "axis"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    labels = (Label.of(key, 0.5),)
    described = card(labels=labels, recipe=recipe, features=tuple(features), minimum_age=None)
    example = simulate(Kind.SINUS, duration=10.0).ecg
    return load_model(pack(model.SerializeToString(), described, [example]))


def told(model: Model, ecg: ECG, known: analysis.features.Table | None = None) -> Explanation:
    return explain(model, ecg, measure(ecg), model.card.labels[0].key, known)


# --- what is planted is found, and nothing else


@pytest.mark.parametrize(
    ("lead", "sign"), [(Lead.II, 1.0), (Lead.V5, 1.0), (Lead.V2, -1.0), (Lead.aVR, -1.0)]
)
def test_a_model_that_looks_at_the_qrs_of_one_lead_is_said_to(lead: Lead, sign: float) -> None:
    found = told(planted("rbbb", lead, sign=sign), simulate(Kind.SINUS, seed=3).ecg)
    assert found.carrying_leads == (lead,)
    assert found.carrying_parts == ("QRS",)
    assert {name for name, weight in found.leads.items() if weight} == {lead}
    assert sentence(found, np.empty(0)) == f"carried by QRS in {lead}"


def test_a_model_that_looks_at_broad_low_waves_is_said_to_look_at_t() -> None:
    ecg = hearts.scaled(simulate(Kind.SINUS, seed=4, heart_rate=60.0).ecg, 0.3, [Lead.V2])
    found = told(planted("t_inversion", Lead.V2, level=0.03), ecg)
    assert found.carrying_parts == ("T",)
    assert found.carrying_leads == (Lead.V2,)


def test_segments_lie_where_the_heart_has_them() -> None:
    heart = simulate(Kind.SINUS, seed=5, noise=0.002)
    found = told(planted("rbbb", Lead.II), heart.ecg)
    kinds = dict(zip(analysis.result.FIDUCIAL_KINDS, heart.fiducials, strict=True))
    for segment in found.segments:
        if segment.name in SEGMENTS:
            start, end = (kinds[kind] for kind in SEGMENTS[segment.name])
            assert segment.start == pytest.approx(start, abs=20)
            assert segment.end == pytest.approx(end, abs=20)
    assert [segment.name for segment in found.segments] == ["P", "PR", "QRS", "ST", "T", "TP"]


def test_a_model_that_looks_for_beats_close_together_is_carried_by_the_rr_intervals() -> None:
    model = planted("atrial_fibrillation", Lead.II, longest=55)
    found = told(model, simulate(Kind.ATRIAL_FIBRILLATION, seed=2).ecg)
    assert RR_INTERVALS in found.carrying_parts
    assert found.rhythm is not None
    assert found.rhythm > 0
    assert not {"QRS", "ST", "T"} & {segment.name for segment in found.segments}
    assert sentence(found, np.empty(0)) == "carried by RR intervals, read in II"


def test_even_intervals_carry_nothing() -> None:
    ecg = hearts.regular(0.8, hearts.beat(Kind.SINUS))
    found = told(planted("atrial_fibrillation", Lead.II, longest=55), ecg)
    assert abs(found.rhythm or 0) < 0.1
    assert RR_INTERVALS not in found.carrying_parts


TIMES = [0.5, 1.3, 2.1, 2.9, 3.7, 4.5, 5.3, 6.1, 6.9, 7.7, 8.5]


@pytest.mark.parametrize("wide_at", [(2.9,), (2.9, 6.1), (1.3, 4.5, 7.7)])
def test_wide_beats_carry_a_finding_of_wide_beats_also_where_each_would_do(
    wide_at: tuple[float, ...],
) -> None:
    narrow, wide = hearts.beat(Kind.SINUS), hearts.beat(Kind.LBBB, with_p=False)
    ecg = hearts.heart([(time, wide if time in wide_at else narrow) for time in TIMES])
    model = planted("pvc", Lead.V6, level=0.1, longest=15, gain=10.0)
    measured = measure(ecg)
    found = explain(model, ecg, measured, "pvc")
    seconds = measured.r_peaks / ecg.sampling_frequency
    assert seconds[list(found.carrying_beats)] == pytest.approx(wide_at, abs=0.06)
    assert found.segments == ()
    assert sentence(found, seconds).startswith("carried by the beat")


def test_a_measurement_goes_with_the_lead_and_the_part_it_is_measured_on() -> None:
    read = ("V5.r_amplitude", "pr_interval")
    model = planted("lvh", Lead.V1, level=9.0, gain=0.0, features=read, weight=1.0)
    ecg = simulate(Kind.SINUS).ecg
    found = told(model, ecg, {"V5.r_amplitude": 3.0, "pr_interval": np.nan})
    assert found.carrying_leads == (Lead.V5,)
    assert found.carrying_parts == ("QRS",)
    assert found.leads[Lead.V5] == pytest.approx(3.0, abs=1e-3)
    found = told(model, ecg, {"V5.r_amplitude": np.nan, "pr_interval": 2.0})
    assert found.carrying_leads == ()
    assert found.carrying_parts == ("PR",)


def test_every_feature_belongs_to_a_part_or_to_the_whole() -> None:
    whole = {"heart_rate", "spike", "paced_beats_share", "soundness_margin"}
    parts = tuple(start for starts in MEASURED.values() for start in starts)
    alone = {
        name
        for name in names()
        if not name.rpartition(".")[2].startswith(parts) and not name.startswith(MEASURED_ON_BEATS)
    }
    assert alone <= whole


def test_the_window_that_shows_the_finding_is_the_one_explained() -> None:
    quiet, loud = (hearts.scaled(hearts.regular(0.8, hearts.beat(Kind.SINUS)), k) for k in (0.2, 1))
    signal = np.concatenate([quiet.signal, loud.signal, quiet.signal], axis=1)
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=hearts.RATE)
    found = told(planted("rbbb", Lead.II), ecg)
    assert found.baseline > 0.5
    assert found.carrying_parts == ("QRS",)


@pytest.mark.parametrize("length", list(Length))
def test_beats_are_found_again_whatever_part_of_the_recording_is_read(length: Length) -> None:
    recipe = replace(RECIPE, length=length, samples=700, stride=700)
    ecg = simulate(Kind.SINUS, duration=12.7, sampling_frequency=360.0, seed=8).ecg
    found = told(planted("rbbb", Lead.II, recipe=recipe), ecg)
    assert found.carrying_parts == ("QRS",)


# --- faithful: what is marked matters more than what is not


def erased(ecg: ECG, leads: Sequence[Lead], ends: Array) -> ECG:
    """Return the ECG with straight lines over these spans of these leads."""
    signal = ecg.signal.copy()
    rows = [ecg.leads.index(lead) for lead in leads]
    signal[rows] = bridge(ecg.signal, ends)[rows]
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def marked(ecg: ECG, measured: analysis.Measurements, found: Explanation) -> Array:
    """Return the ends of what carried a finding, in samples of the ECG."""
    peaks, per_ms = measured.r_peaks, ecg.sampling_frequency / 1000
    if found.beats:
        around = per_ms * np.array([-250, 350])
        return np.add.outer(peaks[list(found.carrying_beats)], around)
    parts = [segment for segment in found.segments if segment.name in found.carrying_parts]
    return np.array(
        [[peak + part.start * per_ms, peak + part.end * per_ms] for peak in peaks for part in parts]
    )


def probability(model: Model, key: str, ecg: ECG) -> float:
    """Return the probability of a finding, with what can be measured on this very ECG."""
    column = [label.key for label in model.card.labels].index(key)
    windows, wanted = standardise(ecg, model.card.recipe).windows, model.card.features
    features = chosen(measure_features(ecg) if wanted else {}, wanted)
    return float(
        model.probabilities(windows, np.tile(features, (len(windows), 1)))[:, column].max()
    )


def losses(
    model: Model,
    ecg: ECG,
    measured: analysis.Measurements,
    found: Explanation,
    random: np.random.Generator,
) -> list[float]:
    """Return what is lost without the marked part, and without as much elsewhere."""
    ends, leads = marked(ecg, measured, found), found.carrying_leads or ecg.leads
    others = tuple(random.permutation(np.array(ecg.leads, dtype=object))[: len(leads)])
    moved = (ends[:, :1] + random.uniform(0, ecg.samples)) % (ecg.samples - np.diff(ends))
    elsewhere = np.concatenate([moved, moved + np.diff(ends)], axis=1)
    whole = probability(model, found.key, ecg)
    return [
        whole - probability(model, found.key, erased(ecg, *part))
        for part in ((leads, ends), (others, elsewhere), (leads, elsewhere), (others, ends))
    ]


def assert_faithful(lost: list[list[float]], level: float, least: int = 50) -> None:
    """Check that removing the marked part costs more than any other removal, by rank test.

    Where all leads carry a finding together, there are no others to compare them with.
    """
    assert len(lost) >= least
    table = np.array(lost)
    for other in table.T[1:]:
        differs = table[:, 0] != other
        assert table[:, 0].mean() >= other.mean()
        if differs.sum() >= min(20, least):
            marked_more = wilcoxon(table[differs, 0], other[differs], alternative="greater")
            assert marked_more.pvalue < level


def test_on_simulated_hearts_the_marked_part_matters_more_than_a_random_one() -> None:
    random = np.random.default_rng(7)
    looks = [(Lead.II, 1.0), (Lead.V5, 1.0), (Lead.V2, -1.0), (Lead.I, 1.0)]
    models = [planted("rbbb", lead, sign=sign) for lead, sign in looks]
    lost = []
    for seed in range(52):
        rate, model = float(random.uniform(50, 100)), models[seed % len(models)]
        ecg = simulate(Kind.SINUS, seed=seed, heart_rate=rate, noise=0.02).ecg
        lost.append(losses(model, ecg, measure(ecg), told(model, ecg), random))
    assert_faithful(lost, 1e-6)


def explained_findings(model: Model) -> Iterator[tuple[Result, Explanation]]:
    """Yield what the model finds on real ECGs of one window, and why."""
    for path in sorted(shared("data", "multisource12").rglob("*.hea")):
        recording = analysis.read(path)
        if len(standardise(recording.ecg, model.card.recipe).windows) == 1:
            result = analyse(recording, model, patient=MAN)
            for found in result.explanations:
                if found.carrying_beats or set(found.carrying_parts) - {RR_INTERVALS}:
                    yield result, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "least", "level"),
    [(0, 50, 1e-4), (1, 15, 1e-2)],  # the second finds little that rests on parts of a beat
    ids=["twelve-lead", "any-lead"],
)
def test_on_real_ecgs_the_marked_part_matters_more_to_a_shipped_model(
    place: int, least: int, level: float
) -> None:
    model, random = shipped_models()[place], np.random.default_rng(11)
    lost = [
        losses(model, result.recording.ecg, result.measurements, found, random)
        for result, found in islice(explained_findings(model), 80)
    ]
    assert_faithful(lost, level, least)


# --- null, pure and bounded

ALWAYS = {
    key: planted(key, Lead.II, level=0.1, offset=-1.0, longest=50)
    for key in ("rbbb", "pvc", "atrial_fibrillation")
}


def test_nothing_present_has_no_explanation_and_changes_nothing() -> None:
    model = planted("rbbb", Lead.II, offset=50.0)
    result = analyse(simulate(Kind.SINUS).ecg, model, patient=MAN)
    assert result.explanations == ()
    findings, explanations = explain_present(
        [model], result.recording.ecg, result.measurements, result.findings
    )
    assert findings == result.findings
    assert explanations == ()


@pytest.mark.parametrize("kind", [Kind.NOISE, Kind.FLAT_LEAD])
def test_what_abstains_has_no_explanation(kind: Kind) -> None:
    result = analyse(simulate(kind).ecg, planted("rbbb", Lead.II), patient=Patient(age=9.0))
    assert result.explanations == ()


def test_normal_rests_on_everything_and_has_no_explanation() -> None:
    result = analyse(simulate(Kind.SINUS).ecg, planted("normal", Lead.II), patient=MAN)
    assert any(item.key == "normal" and item.present for item in result.findings)
    assert result.explanations == ()


def test_model_that_is_too_large_to_be_asked_again_and_again_is_not_explained() -> None:
    model = planted("rbbb", Lead.II)
    assert analyse(simulate(Kind.SINUS).ecg, model, patient=MAN).explanations
    large = replace(model, size=LARGEST + 1)
    result = analyse(simulate(Kind.SINUS).ecg, large, patient=MAN)
    assert any(item.key == "rbbb" and item.present for item in result.findings)
    assert result.explanations == ()


def test_the_same_ecg_gives_the_same_explanation_to_the_last_digit() -> None:
    model, ecg = planted("rbbb", Lead.II), simulate(Kind.SINUS).ecg
    once = analyse(ecg, model, patient=MAN)
    again = analyse(ecg, model, patient=MAN)
    assert once.explanations
    assert once.to_json() == again.to_json()


def test_an_ecg_without_a_measured_beat_is_explained_by_its_leads() -> None:
    ecg = simulate(Kind.SINUS).ecg
    nothing = replace(measure(ecg), r_peaks=np.empty(0), fiducials={}, beat_kinds=())
    for key in ("rbbb", "pvc", "atrial_fibrillation"):
        found = explain(planted(key, Lead.II), ecg, nothing, key)
        assert found.carrying_leads == (Lead.II,)
        assert found.segments == found.beats == ()


def test_missing_leads_have_no_weight() -> None:
    ecg = simulate(Kind.SINUS).ecg.select([Lead.II, Lead.V5])
    found = told(planted("rbbb", Lead.II), ecg)
    assert set(found.leads) == {Lead.II, Lead.V5}
    assert found.carrying_leads == (Lead.II,)


def test_a_label_the_model_has_not_and_an_ecg_it_cannot_read_are_refused() -> None:
    model, ecg = planted("rbbb", Lead.II), simulate(Kind.SINUS).ecg
    with pytest.raises(ValueError, match="no label lbbb"):
        explain(model, ecg, measure(ecg), "lbbb")
    short = simulate(Kind.SINUS, duration=1.0).ecg
    with pytest.raises(ValueError, match="cannot read"):
        explain(model, short, measure(short), "rbbb")
    reads = planted("lvh", Lead.II, features=("pr_interval",), weight=1.0)
    with pytest.raises(ValueError, match="features"):
        explain(reads, ecg, measure(ecg), "lvh")


@settings(max_examples=40, deadline=None)
@given(
    key=st.sampled_from(["rbbb", "pvc", "atrial_fibrillation"]),
    kind=st.sampled_from(list(Kind)),
    seconds=st.sampled_from([4.0, 10.0, 10.5, 24.0]),
    rate=st.sampled_from([100.0, 257.0, 500.0]),
    heart_rate=st.sampled_from([25.0, 70.0, 240.0]),
    holes=st.sampled_from([0.0, 0.01, 0.4]),
    seed=st.integers(0, 99),
)
def test_whatever_was_recorded_is_explained_in_numbers_that_can_be_stored(
    *, key: str, kind: Kind, seconds: float, rate: float, heart_rate: float, holes: float, seed: int
) -> None:
    ecg = simulate(
        kind, duration=seconds, sampling_frequency=rate, heart_rate=heart_rate, seed=seed
    ).ecg
    signal = ecg.signal.copy()
    signal[np.random.default_rng(seed).random(signal.shape) < holes] = np.nan
    ecg = ECG(signal=signal, leads=ecg.leads, sampling_frequency=rate)
    measured = measure(ecg)
    found = explain(ALWAYS[key], ecg, measured, key)
    weights = [*found.leads.values(), *(weight for _, weight in found.beats), found.baseline]
    weights += [value for part in found.segments for value in (part.start, part.end, part.weight)]
    assert np.isfinite(weights).all()
    assert {row for row, _ in found.beats} <= set(range(measured.r_peaks.size))
    assert all(part.start <= part.end for part in found.segments)


def test_even_beats_stand_at_even_intervals_and_keep_their_height() -> None:
    peaks = np.array([100.0, 180.0, 290.0, 340.0, 460.0, 500.0])
    signal = np.zeros((1, 600), np.float32)
    signal[0, peaks.astype(int)] = 1.0
    moved = np.flatnonzero(even(signal, peaks, 10.0)[0] > 0.99)
    assert moved.tolist() == [100, 180, 260, 340, 420, 500]


# --- where it is told


@pytest.fixture(scope="module")
def explained() -> Result:
    return analyse(simulate(Kind.SINUS, seed=3).ecg, planted("rbbb", Lead.V5), patient=MAN)


def test_finding_and_statement_say_what_carried_them(explained: Result) -> None:
    (statement,) = [line for line in explained.statements if line.origin is Origin.MODEL]
    assert "carried by QRS in V5" in statement.evidence
    assert statement.leads == (Lead.V5,)
    assert statement.evidence[0].startswith("probability")


def test_the_document_of_a_file_holds_what_carried_a_finding_and_the_text_says_it() -> None:
    cart = Path(str(get_testdata_file("waveform_ecg.dcm")))
    nothing = Outputs(pdf=None, dicom=None, study=None)
    document = offline.analyse(cart, [planted("rbbb", Lead.V5)], nothing, Stated())
    (found,) = [item for item in document["findings"] if item["origin"] == "model"]
    evidence = json.loads(json.dumps(found))["evidence"]
    assert evidence["leads"] == ["V5"]
    assert max(evidence["lead_weights"], key=evidence["lead_weights"].get) == "V5"
    assert max(evidence["segments"], key=lambda part: part["weight"])["name"] == "QRS"
    assert evidence["probability"] == pytest.approx(found["probability"])
    (line,) = [text for text in offline.describe(document).splitlines() if "carried by" in text]
    assert f"probability {found['probability']:.2f}, threshold" in line


def test_the_durable_form_keeps_the_explanation_and_reads_what_has_none(
    explained: Result,
) -> None:
    again = Result.from_json(explained.to_json(), explained.recording)
    assert again.explanations == explained.explanations
    assert again.to_json() == explained.to_json()
    older = json.loads(explained.to_json())
    del older["explanations"]
    assert Result.from_json(json.dumps(older), explained.recording).explanations == ()


def of_colour(page: Page, colour: str) -> list[Rect]:
    return [rect for rect in page.rects if rect.colour == colour]


def test_the_second_page_shades_the_part_in_the_lead_that_carried_it(explained: Result) -> None:
    page = compose_evidence(explained, "1")
    (shade,) = of_colour(page, SHADE)
    (bar,) = of_colour(page, BAR)
    (name,) = [text for text in page.texts if text.text == "V5"]
    assert name.x < shade.x < name.x + 35
    assert name.y < shade.y < name.y + 4
    assert abs(bar.y - name.y) < 4
    width = explained.measurements.qrs_duration.value or 0.0
    assert shade.width == pytest.approx(width / 1000 * 50, abs=0.3)
    assert any("Grey: what carried" in text.text for text in page.texts)


def test_the_second_page_shades_the_beat_that_carried_an_ectopic_finding() -> None:
    narrow, wide = hearts.beat(Kind.SINUS), hearts.beat(Kind.LBBB, with_p=False)
    ecg = hearts.heart([(time, wide if time == 2.9 else narrow) for time in TIMES])
    model = planted("pvc", Lead.V6, level=0.1, longest=15, gain=10.0)
    page = compose_evidence(analyse(ecg, model, patient=MAN), "1")
    (shade,) = of_colour(page, SHADE)
    assert shade.x < 28.5 + 2.9 * 25 < shade.x + shade.width
    assert shade.y > 110


def test_the_second_page_shades_the_rr_intervals_of_an_irregular_rhythm() -> None:
    ecg = simulate(Kind.ATRIAL_FIBRILLATION, seed=2).ecg
    model = planted("atrial_fibrillation", Lead.II, longest=55)
    result = analyse(ecg, model, patient=MAN)
    assert result.explanations == ()  # the criterion decides: nobody is asked what moved the model
    carried = explain(model, ecg, result.measurements, "atrial_fibrillation")
    assert RR_INTERVALS in carried.carrying_parts
    page = compose_evidence(replace(result, explanations=(carried,)), "1")
    (shade,) = of_colour(page, SHADE)
    assert shade.width == pytest.approx(250, abs=1)


def test_leads_are_named_in_their_usual_order_after_storage_too() -> None:
    found = Explanation(
        key="rbbb",
        model="Tiny",
        baseline=0.9,
        leads={Lead.V6: 1.0, Lead.aVL: 0.8, Lead.I: 0.7, Lead.V1: 0.2},
        method="none",
    )
    assert found.carrying_leads == (Lead.I, Lead.aVL, Lead.V6)


def test_without_an_explanation_the_page_has_no_grey(explained: Result) -> None:
    page = compose_evidence(replace(explained, explanations=()), "1")
    assert of_colour(page, SHADE) == of_colour(page, BAR) == []
    assert not any("rey" in text.text for text in page.texts)


def test_a_stored_result_is_drawn_to_the_same_bytes(explained: Result, tmp_path: Path) -> None:
    again = Result.from_json(explained.to_json(), explained.recording)
    assert render(again, "pdf") == render(explained, "pdf")
    analysis.draw(explained, tmp_path / "sheet.pdf")
    assert (tmp_path / "sheet.pdf").stat().st_size > 1000
