import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from analysis.package import open_session
from training import measures
from training.architectures import build
from training.calibrate import (
    Calibrated,
    Calibration,
    Curve,
    calibrate,
    choose_thresholds,
    thresholds,
    without_calibration,
)
from training.convert import fingerprints, replace_head, to_onnx, to_torch
from training.plan import Calibration as Way
from training.plan import Task

TASKS = (Task.MULTI_LABEL, Task.MULTI_CLASS)
WAYS = (Way.TEMPERATURE, Way.ISOTONIC)


def overconfident(
    records: int = 600, *, task: Task = Task.MULTI_LABEL, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are twice too large and shifted, and truths."""
    random = np.random.default_rng(seed)
    honest = random.standard_normal((records, 3)) * 1.5
    if task is Task.MULTI_LABEL:
        truths = random.random(honest.shape) < expit(honest)
        return 2 * honest + 1, truths.astype(float)
    likely = softmax(honest, axis=1)
    return 2 * honest + [1, 0, -1], np.eye(3)[[random.choice(3, p=row) for row in likely]]


def error(probabilities: np.ndarray, truths: np.ndarray) -> float:
    rows = np.ones((1, len(truths)))
    columns = zip(probabilities.T, truths.T > 0, strict=True)
    return float(np.mean([measures.reliability(*column, rows)[0] for column in columns]))


class Logits(nn.Module):
    """A net whose logits are the means of its leads, so that any logit can be had."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.mean(dim=2)


def served(calibration: Calibration, logits: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime gives for these logits, as probabilities."""
    content = to_onnx(Calibrated(Logits(), calibration).eval(), leads=logits.shape[1], samples=4)
    assert onnx.load_from_string(content).opset_import[0].version == 17
    session = open_session(content, onnx.load_from_string(content))
    waveform = np.repeat(logits.astype(np.float32)[:, :, None], 4, axis=2)
    found = session.run(None, {"waveform": waveform})[0].astype(np.float64)
    return np.asarray(
        expit(found) if calibration.task is Task.MULTI_LABEL else softmax(found, axis=1)
    )


# Probabilities that mean what they say


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", WAYS)
def test_other_records_are_told_with_honest_probabilities(task: Task, way: Way) -> None:
    fitted = calibrate(*overconfident(task=task), task, way)
    logits, truths = overconfident(2000, task=task, seed=1)
    raw = calibrate(logits, truths, task, Way.NONE).apply(logits)
    honest = fitted.apply(logits)
    assert error(raw, truths) > 0.08
    assert error(honest, truths) < 0.06
    assert log_loss(truths.ravel(), honest.ravel()) < log_loss(truths.ravel(), raw.ravel())


def test_a_scale_and_an_offset_that_were_put_in_are_found_again() -> None:
    fitted = calibrate(*overconfident(20_000), Task.MULTI_LABEL, Way.TEMPERATURE)
    for curve in fitted.curves:
        assert curve.before == curve.after == pytest.approx(0.5, abs=0.03)
        assert curve.values[0] == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("way", WAYS)
def test_the_order_of_records_never_changes(way: Way) -> None:
    logits, truths = overconfident(200)
    found = calibrate(logits, truths, Task.MULTI_LABEL, way).apply(logits)
    for at in range(3):
        wanted = roc_auc_score(truths[:, at], logits[:, at])
        assert roc_auc_score(truths[:, at], found[:, at]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_perfect_net_is_not_made_certain_of_everything(task: Task, way: Way) -> None:
    truths = np.eye(3)[np.arange(60) % 3]
    found = calibrate(20 * truths - 10, truths, task, way).apply(20 * truths - 10)
    assert np.isfinite(found).all()
    assert found[truths == 1].min() > 0.7
    assert found.max() < 1
    assert found.min() > 0


def test_the_probabilities_of_classes_come_to_one() -> None:
    logits, truths = overconfident(task=Task.MULTI_CLASS)
    for way in Way:
        found = calibrate(logits, truths, Task.MULTI_CLASS, way).apply(logits)
        np.testing.assert_allclose(found.sum(axis=1), 1)


# The same in the graph


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", list(Way))
def test_the_graph_serves_what_was_judged_to_a_millionth(task: Task, way: Way) -> None:
    fitted = calibrate(*overconfident(task=task), task, way)
    random = np.random.default_rng(2)
    logits = np.concatenate([random.normal(0, 3, (300, 3)), random.normal(0, 30, (50, 3))])
    logits = logits.astype(np.float32)
    assert np.abs(served(fitted, logits) - fitted.apply(logits)).max() < 1e-6


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    number = draw(st.integers(1, 6))
    start = draw(st.floats(-10, 10, width=32))
    steps = draw(arrays(np.float64, number - 1, elements=st.floats(1e-4, 5)))
    rises = draw(arrays(np.float64, number - 1, elements=st.floats(0, 5)))
    slopes = st.floats(0.01, 3)
    knots = np.cumsum([start, *steps])
    values = np.cumsum([draw(st.floats(-5, 5, width=32)), *rises])
    return Curve(tuple(knots), tuple(values), draw(slopes), draw(slopes))


@given(curves(), curves(), arrays(np.float32, (9, 2), elements=st.floats(-40, 40, width=32)))
@settings(deadline=None, max_examples=50)
def test_any_rising_curve_is_the_same_as_a_layer(
    first: Curve, second: Curve, logits: np.ndarray
) -> None:
    made = Calibration(task=Task.MULTI_LABEL, way=Way.ISOTONIC, curves=(first, second))
    layer = made.module()(torch.from_numpy(logits)).double().numpy()
    assert np.abs(expit(layer) - made.apply(logits)).max() < 1e-6
    assert all((np.diff(curve(np.linspace(-40, 40, 200))) >= 0).all() for curve in made.curves)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("way", list(Way))
def test_fine_tuning_from_a_package_drops_the_calibration_by_its_name(task: Task, way: Way) -> None:
    torch.manual_seed(0)
    net = build("inceptiontime", leads=12, outputs=3, filters=4).eval()
    calibrated = Calibrated(net, calibrate(*overconfident(task=task), task, way)).eval()
    names = {name.partition(".")[0] for name in calibrated.state_dict()}
    assert names <= {"net", "calibration"}
    assert without_calibration(calibrated) is net
    came_back = to_torch(to_onnx(calibrated, leads=12, samples=200))
    bare = without_calibration(came_back)
    waveform = torch.randn(4, 12, 200)
    with torch.no_grad():
        np.testing.assert_allclose(bare(waveform), net(waveform), rtol=1e-4, atol=1e-3)
    assert isinstance(came_back.head, nn.Linear)
    assert {"head.weight", "head.bias"} <= fingerprints(bare).keys()
    assert not [name for name in fingerprints(bare) if "calibration" in name]


def test_a_head_replaced_in_a_package_takes_the_calibration_along() -> None:
    torch.manual_seed(0)
    net = build("inceptiontime", leads=12, outputs=3, filters=4).eval()
    fitted = calibrate(*overconfident(), Task.MULTI_LABEL, Way.ISOTONIC)
    came_back = to_torch(to_onnx(Calibrated(net, fitted).eval(), leads=12, samples=200))
    replace_head(came_back, 5)
    assert without_calibration(came_back) is came_back
    assert came_back(torch.zeros(2, 12, 200)).shape == (2, 5)


def test_a_net_without_calibration_stays_as_it_is() -> None:
    net = build("inceptiontime", leads=12, outputs=3, filters=4)
    assert without_calibration(net) is net


# What cannot be calibrated


@pytest.mark.parametrize("way", WAYS)
def test_one_class_alone_stays_as_it_was_and_says_so(way: Way) -> None:
    logits, truths = overconfident()
    truths[:, 1] = 1
    found = calibrate(logits, truths, Task.MULTI_LABEL, way, keys=["a", "b", "c"])
    assert found.curves[1] == Curve()
    assert found.notes == (
        "b is not calibrated: 600 records with it and 0 without; 5 of each are needed.",
    )
    np.testing.assert_allclose(found.apply(logits)[:, 1], expit(logits[:, 1]))


@pytest.mark.parametrize("way", WAYS)
def test_unknown_truths_teach_a_calibration_nothing(way: Way) -> None:
    logits, truths = overconfident()
    known = calibrate(logits[:300], truths[:300], Task.MULTI_LABEL, way)
    truths[300:] = np.nan
    assert calibrate(logits, truths, Task.MULTI_LABEL, way).curves == known.curves


def test_no_step_is_so_steep_that_two_runtimes_would_part() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 600)
    truths = (logits > 0) ^ (random.random(600) < 0.1)
    (curve,) = calibrate(logits[:, None], truths[:, None], Task.MULTI_LABEL, Way.ISOTONIC).curves
    slopes = np.diff(curve.values) / np.diff(curve.knots)
    assert len(slopes)
    assert (slopes > 0).all()
    assert slopes.max() * logits.std() < 10.01


@pytest.mark.parametrize("way", WAYS)
def test_a_logit_that_falls_with_the_finding_is_not_turned_around(way: Way) -> None:
    truths = np.repeat([[0.0], [1.0]], 50, axis=0)
    found = calibrate(-truths - np.arange(100)[:, None], truths, Task.MULTI_LABEL, way)
    assert found.curves == (Curve(),)
    assert "does not rise" in found.notes[0]


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("records", [0, 1, 3])
def test_three_records_calibrate_nothing_and_break_nothing(
    task: Task, way: Way, records: int
) -> None:
    logits, truths = overconfident(records)
    found = calibrate(logits, truths, task, way)
    assert found.curves == (Curve(),) * 3
    assert found.apply(logits).shape == (records, 3)


def test_equal_logits_of_all_records_stay_as_they_are() -> None:
    truths = np.arange(40.0)[:, None] % 2
    for way in WAYS:
        found = calibrate(np.ones((40, 1)), truths, Task.MULTI_LABEL, way)
        assert found.curves == (Curve(),)


def test_a_missing_logit_has_no_probability() -> None:
    logits, truths = overconfident()
    found = calibrate(logits, truths, Task.MULTI_LABEL, Way.ISOTONIC)
    logits[0, 0] = np.nan
    assert np.isnan(found.apply(logits)).sum() == 1


def test_logits_and_truths_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        calibrate(np.zeros((4, 2)), np.zeros((4, 3)), Task.MULTI_LABEL)


# Thresholds


@pytest.mark.parametrize(
    ("purpose", "part", "aim"), [("specificity 0.95", 0, 0.95), ("sensitivity 0.90", 1, 0.90)]
)
def test_a_threshold_keeps_its_purpose_and_no_better_one_does(
    purpose: str, part: int, aim: float
) -> None:
    logits, truths = overconfident(300)
    probabilities = expit(logits)
    (threshold, *_) = thresholds(probabilities, truths, ["a", "b", "c"], purpose)
    chosen, value = probabilities[:, 0], truths[:, 0]

    def share(cut: float) -> float:
        right = (chosen >= cut) == (value == 1)
        return float(right[value == part].mean())

    assert share(threshold) >= aim
    others = np.unique(chosen)
    beyond = others[others < threshold] if part == 0 else others[others > threshold]
    nearest = beyond.max() if part == 0 else beyond.min() + 1e-12
    assert share(nearest) < aim


def test_the_threshold_of_f_max_is_the_best_of_all() -> None:
    logits, truths = overconfident(200)
    probabilities = expit(logits)
    chosen = choose_thresholds(probabilities, truths, ["a", "b", "c"], "f-max")

    def f1(at: int, cut: float) -> float:
        calls, wanted = probabilities[:, at] >= cut, truths[:, at] == 1
        return float(2 * (calls & wanted).sum() / (calls.sum() + wanted.sum()))

    for at, threshold in enumerate(chosen):
        best = max(f1(at, cut) for cut in probabilities[:, at])
        assert f1(at, threshold.value) == pytest.approx(best)
        assert threshold.sensitivity is not None
        assert threshold.reason is None


@given(arrays(np.float64, 40, elements=st.sampled_from([0.0, 0.1, 0.1 + 1e-9, 0.5, 1.0])))
def test_a_threshold_lies_between_scores_and_within_what_a_card_allows(scores: np.ndarray) -> None:
    truths = (np.arange(40) % 3 == 0).astype(float)
    for purpose in ("f-max", "specificity 0.95", "sensitivity 0.9"):
        (value,) = thresholds(scores[:, None], truths[:, None], ["a"], purpose)
        assert 0 < value < 1
        assert value not in set(scores) - {0.0, 1.0}


def test_a_finding_with_too_few_records_gets_a_half_and_the_reason() -> None:
    logits, truths = overconfident(100)
    truths[:, 0] = 0
    truths[:4, 0] = 1
    first, second, _ = choose_thresholds(expit(logits), truths, ["lbbb", "b", "c"], "f-max")
    assert first.value == 0.5
    assert first.reason == (
        "lbbb has no threshold of its own: 4 records with it and 96 without; 5 of each are needed."
    )
    assert second.reason is None


def test_missing_probabilities_and_truths_choose_no_threshold() -> None:
    logits, truths = overconfident(200)
    half = thresholds(expit(logits[:100]), truths[:100], ["a", "b", "c"], "f-max")
    probabilities = expit(logits)
    probabilities[100:150] = np.nan
    truths[150:] = np.nan
    assert thresholds(probabilities, truths, ["a", "b", "c"], "f-max") == half


@pytest.mark.parametrize("purpose", ["", "specificity", "sensitivity 1.5", "youden"])
def test_a_purpose_that_nobody_can_serve_is_refused_in_a_sentence(purpose: str) -> None:
    with pytest.raises(ValueError, match="is no purpose of a threshold"):
        thresholds(np.zeros((9, 1)), np.zeros((9, 1)), ["a"], purpose)


def test_a_curve_continues_beyond_its_last_knots_no_steeper_than_the_net() -> None:
    logits, truths = overconfident(400)
    for curve in calibrate(logits, truths, Task.MULTI_LABEL, Way.ISOTONIC).curves:
        assert 0 < curve.before <= 1
        assert 0 < curve.after <= 1
        assert (np.diff(curve.values) > 0).all()
        assert abs(logit(expit(np.array(curve.values)))).max() < np.log(600)
