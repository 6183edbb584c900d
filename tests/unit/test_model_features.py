"""Models that read measurements beside the waveform, and which of several models speaks."""

import numpy as np
import onnx
import pytest
import tiny_model
from onnx import TensorProto, helper, numpy_helper

from analysis.analyse import analyse
from analysis.card import FEATURES_INPUT, Card
from analysis.classify import classify, suited
from analysis.ecg import ECG, STANDARD_12, Lead, Patient
from analysis.errors import ModelReason, ModelRejected
from analysis.features import measure_features, names
from analysis.model import Model, load_model, pack
from analysis.recipe import Recipe
from analysis.result import Verdict
from analysis.synthetic import Kind, simulate

ADULT = Patient(age=60.0)
FEATURES = ("heart_rate", "V3.st_60")
UNKNOWN = 0.25


def graph(width: int = len(FEATURES), leads: int = 12) -> onnx.ModelProto:
    """Return a graph that answers with a hundredth of the heart rate, NaN taken for UNKNOWN."""
    labels = len(tiny_model.KEYS)
    weight = np.zeros((width, labels), np.float32)
    weight[0] = 0.01
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Equal", [FEATURES_INPUT, FEATURES_INPUT], ["known"]),
                helper.make_node("Where", ["known", FEATURES_INPUT, "unknown"], ["filled"]),
                helper.make_node("MatMul", ["filled", "weight"], ["logits"]),
            ],
            "measured",
            [
                helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["n", leads, 500]),
                helper.make_tensor_value_info(FEATURES_INPUT, TensorProto.FLOAT, ["n", width]),
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", labels])],
            [
                numpy_helper.from_array(weight, "weight"),
                numpy_helper.from_array(np.array(UNKNOWN, np.float32), "unknown"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )


def card(**changes: object) -> Card:
    return tiny_model.card(**{"features": FEATURES, **changes})


def package(**changes: object) -> bytes:
    return pack(graph().SerializeToString(), card(**changes), tiny_model.ECGS)


def expected(rate: float) -> float:
    return float(1 / (1 + np.exp(-0.01 * rate)))


def test_a_model_reads_the_measurements_that_its_card_names() -> None:
    ecg = simulate(Kind.TACHYCARDIA).ecg
    (findings,) = classify([load_model(package())], [ecg], [ADULT])
    rate = measure_features(ecg)["heart_rate"]
    assert findings[0].probability == pytest.approx(expected(rate), abs=1e-5)


def test_measurements_made_already_are_not_made_again() -> None:
    table = dict.fromkeys(names(), np.nan) | {"heart_rate": 200.0}
    (findings,) = classify(
        [load_model(package())], [simulate(Kind.SINUS).ecg], [ADULT], tables=[table]
    )
    assert findings[0].probability == pytest.approx(expected(200.0), abs=1e-5)


def test_every_window_goes_with_the_measurements_of_the_whole() -> None:
    model = load_model(package())
    long = simulate(Kind.SINUS, duration=23.0).ecg
    short = simulate(Kind.TACHYCARDIA).ecg
    both = classify([model], [long, short], [ADULT] * 2)
    for ecg, findings in zip((long, short), both, strict=True):
        rate = measure_features(ecg)["heart_rate"]
        assert findings[0].probability == pytest.approx(expected(rate), abs=1e-5)


def test_without_measurements_the_graph_answers_with_what_is_left() -> None:
    model = load_model(package())
    found = model.probabilities(np.zeros((2, 12, 500), np.float32))
    assert found == pytest.approx(expected(UNKNOWN), abs=1e-6)


def test_analysis_and_classification_give_one_answer() -> None:
    model = load_model(package(minimum_age=None))
    ecg = simulate(Kind.SINUS).ecg
    whole = {f.key: f.probability for f in analyse(ecg, model).findings if f.model == "Tiny"}
    alone = {f.key: f.probability for f in classify([model], [ecg])[0]}
    known = {key: value for key, value in whole.items() if value is not None}
    assert known
    assert known == {key: alone[key] for key in known}


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 3)])
def test_measurements_of_another_shape_are_an_error_of_the_caller(shape: tuple[int, int]) -> None:
    model = load_model(package())
    with pytest.raises(ValueError, match="features"):
        model.probabilities(np.zeros((1, 12, 500), np.float32), np.zeros(shape, np.float32))


def refused(content: bytes, changes: dict[str, object]) -> ModelReason:
    with pytest.raises(ModelRejected) as caught:
        pack(content, card(**changes), tiny_model.ECGS)
    return caught.value.reason


def test_a_feature_that_nobody_measures_is_refused() -> None:
    changes: dict[str, object] = {"features": ("heart_rate", "shoe_size")}
    assert refused(graph().SerializeToString(), changes) is ModelReason.INVALID_CARD


@pytest.mark.parametrize("features", [(), ("heart_rate",), (*FEATURES, "spike")])
def test_a_graph_that_reads_other_features_than_its_card_says_is_refused(
    features: tuple[str, ...],
) -> None:
    changes: dict[str, object] = {"features": features}
    assert refused(graph().SerializeToString(), changes) is ModelReason.WRONG_SHAPE


def test_a_card_without_features_is_written_as_before_and_one_with_them_survives() -> None:
    assert "features" not in tiny_model.card().to_json()
    assert Card.from_json(card().to_json()) == card()
    with pytest.raises(ValueError, match="twice"):
        card(features=("spike", "spike"))


# --- which model speaks


def model_of(leads: int, missing: int, **changes: object) -> Model:
    recipe = Recipe(
        **tiny_model.RECIPE.to_mapping()
        | {"leads": STANDARD_12[:leads], "allowed_missing": missing}
    )
    values = {"recipe": recipe, "name": f"{leads - missing} leads", **changes}
    content = tiny_model.graph(leads=leads).SerializeToString()
    return load_model(pack(content, tiny_model.card(**values), tiny_model.ECGS))


def test_the_fuller_model_speaks_where_it_can_and_the_other_where_it_cannot() -> None:
    twelve, few = model_of(12, 2), model_of(12, 11)
    whole = simulate(Kind.SINUS).ecg
    assert suited([few, twelve], whole) == (twelve,)
    assert suited([twelve, few], whole.select((Lead.II,))) == (twelve, few)
    assert suited([twelve], whole.select((Lead.II,))) == (twelve,)


def test_a_model_with_a_label_of_its_own_is_never_left_out() -> None:
    content = tiny_model.graph(outputs=1).SerializeToString()
    one_label = tiny_model.card(labels=tiny_model.card().labels[:1], name="One label")
    twelve, few = load_model(pack(content, one_label, tiny_model.ECGS)), model_of(12, 11)
    whole = simulate(Kind.SINUS).ecg
    assert suited([twelve, few], whole) == (twelve, few)
    assert suited([few, twelve], whole) == (few, twelve)


def test_one_lead_is_read_as_a_limited_recording() -> None:
    one = simulate(Kind.ATRIAL_FIBRILLATION, noise=0.02).ecg.select((Lead.I,))
    result = analyse(one, patient=ADULT)
    assert result.quality.verdict is Verdict.LIMITED
    found = {f.key for f in result.findings if f.present}
    assert "atrial_fibrillation" in found
    assert "normal" not in {statement.key for statement in result.statements}


def test_one_lead_without_a_heart_stays_non_diagnostic() -> None:
    noise = simulate(Kind.NOISE).ecg.select((Lead.I,))
    result = analyse(noise, patient=ADULT)
    assert result.quality.verdict is Verdict.NON_DIAGNOSTIC
    assert not [f for f in result.findings if f.present]


def test_an_empty_recording_is_non_diagnostic() -> None:
    nothing = ECG(signal=np.zeros((1, 0)), leads=(Lead.I,), sampling_frequency=500.0)
    assert analyse(nothing).quality.verdict is Verdict.NON_DIAGNOSTIC
