import onnx
import pytest
import tiny_model
from onnx import helper
from support import shared

from analysis.card import Activation
from analysis.ecg import STANDARD_12
from analysis.errors import ModelReason, ModelRejected
from analysis.recipe import Baseline, Length, Normalisation, Unit
from training.exchangeai import describe, described

SUPER = {"target_keys": "['CD', 'HYP', 'MI', 'STTC']", "scale": "mikroVolt"}


def with_metadata(*pairs: tuple[str, str]) -> bytes:
    model = tiny_model.graph()
    for key, value in pairs:
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def refusal(**metadata: str) -> str:
    with pytest.raises(ModelRejected) as caught:
        described(SUPER | metadata, 1000)
    assert caught.value.reason is ModelReason.INVALID_CARD
    return caught.value.message


def test_the_pretrained_model_keeps_its_microvolts_and_its_labels() -> None:
    found = describe(shared("models", "xc_super_pretrained.onnx").read_bytes())
    assert found.recipe.unit is Unit.MICROVOLT
    assert (found.recipe.sampling_frequency, found.recipe.samples) == (100.0, 1000)
    assert found.recipe.leads == STANDARD_12
    assert found.recipe.length is Length.CROP_START
    assert found.recipe.baseline is Baseline.MOVING_MEDIAN
    assert found.recipe.normalisation is Normalisation.NONE
    assert found.activation is Activation.SOFTMAX
    assert [label.key for label in found.labels] == [
        "conduction_disturbance",
        "hypertrophy",
        "myocardial_infarction",
        "st_t_abnormality",
    ]


@pytest.mark.parametrize("name", ["XceptionTime_untrained", "InceptionTime_untrained"])
def test_an_untrained_model_says_no_scale_and_nobody_guesses_one(name: str) -> None:
    content = shared("models", f"{name}.onnx").read_bytes()
    with pytest.raises(ModelRejected, match="say whether its input is in mV or uV"):
        describe(content)
    found = describe(content, unit=Unit.MICROVOLT)
    assert found.recipe.unit is Unit.MICROVOLT
    assert found.keys == (None, None)
    assert any("What the output" in sentence for sentence in found.unknown)
    with pytest.raises(ValueError, match="These outputs are no findings"):
        _ = found.labels


def test_what_stays_unknown_is_said() -> None:
    said = " ".join(described(SUPER, 1000).unknown)
    for part in ("trained on", "Thresholds", "softmax", "sampling frequency", "normalisation"):
        assert part in said
    whole = described(SUPER | {"sampling_rate": "500", "standardizer": "None"}, 5000)
    assert "sampling frequency" not in " ".join(whole.unknown)
    assert whole.recipe.sampling_frequency == 500.0


def test_metadata_are_data_and_never_run() -> None:
    assert "no list of names" in refusal(target_keys="__import__('os').system('touch /tmp/x')")
    assert "no list of names" in refusal(target_keys="[" * 9_000)
    assert "no list of names" in refusal(target_keys="['a', 1]")
    assert "stands twice" in refusal(target_keys="['MI', 'MI']")
    assert "no number of Hz" in refusal(sampling_rate="__import__('os')")
    assert "no number of Hz" in refusal(sampling_rate="nan")


def test_what_a_recipe_cannot_say_is_refused_rather_than_left_out() -> None:
    assert "standardizer" in refusal(standardizer="minMax")
    assert "scale" in refusal(scale="volt")
    with pytest.raises(ModelRejected, match="not mV"):
        described(SUPER, 1000, unit=Unit.MILLIVOLT)


def test_a_key_that_stands_twice_may_repeat_itself_and_not_contradict_itself() -> None:
    same = with_metadata(*SUPER.items(), ("scale", "mikroVolt"))
    assert describe(same).recipe.unit is Unit.MICROVOLT
    with pytest.raises(ModelRejected, match="'scale' stands twice"):
        describe(with_metadata(*SUPER.items(), ("scale", "milliVolt")))


def test_other_shapes_than_twelve_leads_are_refused() -> None:
    model = tiny_model.graph(leads=8)
    helper.set_model_props(model, SUPER)
    with pytest.raises(ModelRejected, match="batch, 12, samples"):
        describe(model.SerializeToString())
    assert onnx.load_model_from_string(model.SerializeToString()).metadata_props
