from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from analysis.ecg import Lead, Sex
from training.convert import Parity
from training.corpus import Record
from training.evaluate import Difference, Evaluation, compare, evaluate
from training.evaluation import Subgroup
from training.gate import Check, Limits, Separation, Verdict, judge, separate
from training.intervals import Interval
from training.plan import Task

KEYS = ("atrial_fibrillation", "lbbb")
PARITY = Parity(records=256, difference=2e-6, flipped=0)
APART = Separation(
    learned_patients=90,
    tested_patients=60,
    shared_patients=0,
    shared_recordings=0,
    learned="a" * 64,
    tested="b" * 64,
)
PATIENTS = [str(number // 2) for number in range(240)]
SEXES = ["F", "M"] * 120


def answers(skill: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and truths; the truths are the same for every skill."""
    random = np.random.default_rng(seed)
    truths = (random.random((240, 2)) < 0.3).astype(float)
    logits = skill * (truths - 0.5) * 2 + random.normal(0, 1.0, truths.shape)
    prior = np.log(0.3 / 0.7)
    return expit(2 * skill * logits + prior) if skill else expit(logits), truths


def evaluated(probabilities: np.ndarray, truths: np.ndarray) -> Evaluation:
    return evaluate(
        probabilities,
        truths,
        keys=KEYS,
        patients=PATIENTS,
        thresholds=(0.3, 0.3),
        groups={"sex": SEXES},
        resamples=200,
    )


GOOD = evaluated(*answers(1.2))


def compared(first: np.ndarray, second: np.ndarray, truths: np.ndarray) -> Difference:
    return compare(first, second, truths, keys=KEYS, patients=PATIENTS, resamples=200)


def verdict(candidate: Evaluation = GOOD, **evidence: object) -> Verdict:
    given = {"parity": PARITY, "self_test": True, "separation": APART} | evidence
    return judge(candidate, **given)  # type: ignore[arg-type]


def check(found: Verdict, name: str) -> Check:
    (one,) = [item for item in found.checks if item.name == name]
    assert (one.sentence in found.reasons) == (not one.passed)
    assert found.passed == (not found.reasons)
    return one


def record(identity: str, patient: str, sha256: str = "") -> Record:
    return Record(
        id=identity,
        patient=patient,
        age=60.0,
        sex=Sex.FEMALE,
        site="A",
        device="",
        quarter=None,
        sampling_frequency=500.0,
        leads=(Lead.I,),
        samples=5000,
        format="",
        sha256=sha256 or identity,
        ai_visible=False,
        patient_stated=True,
    )


def test_a_good_first_model_passes_and_every_check_says_its_number_and_limit() -> None:
    found = verdict()
    assert found.passed, found.reasons
    assert len(found.checks) == 8
    for item in found.checks:
        assert item.sentence.endswith(".")
        assert item.limit is not None
        if item.name != "self-test":
            assert any(sign.isdigit() for sign in item.sentence)


def test_a_verdict_survives_being_stored() -> None:
    found = verdict(parity=None)
    assert Verdict.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="Verdict"):
        Verdict.from_json("[]")


# Against the current model


def test_a_deliberately_worse_candidate_is_refused() -> None:
    (good, truths), (poor, _) = answers(1.2), answers(0.5)
    difference = compared(poor, good, truths)
    found = verdict(evaluated(poor, truths), current=GOOD, difference=difference)
    one = check(found, "not worse than the current model")
    assert not one.passed
    assert one.value < -0.05  # type: ignore[operator]
    assert one.limit == -0.02
    assert "−0.020" in one.sentence


def test_the_same_model_again_is_not_worse_than_itself() -> None:
    good, truths = answers(1.2)
    found = verdict(GOOD, current=GOOD, difference=compared(good, good, truths))
    assert check(found, "not worse than the current model").passed


def test_the_lower_end_of_the_interval_decides_and_not_the_value() -> None:
    macro = Interval(value=0.01, low=-0.03, high=0.05)
    unsure = Difference(measure="AUROC", macro=macro, keys={}, records=100, patients=90)
    one = check(verdict(GOOD, current=GOOD, difference=unsure), "not worse than the current model")
    assert (one.passed, one.value) == (False, -0.03)
    wider = judge(GOOD, GOOD, unsure, PARITY, self_test=True, separation=APART, margin=0.04)
    assert wider.passed


@pytest.mark.parametrize(
    "difference",
    [
        None,
        Difference(
            measure="AUROC",
            macro=Interval(reason="They share no finding."),
            keys={},
            records=0,
            patients=0,
        ),
    ],
)
def test_a_candidate_that_cannot_be_compared_is_refused(difference: Difference | None) -> None:
    found = verdict(GOOD, current=GOOD, difference=difference)
    assert not check(found, "not worse than the current model").passed


# By itself


def test_what_was_learned_from_shuffled_labels_is_refused() -> None:
    random = np.random.default_rng(0)
    truths = (random.random((480, 2)) < 0.3).astype(float)
    features = random.standard_normal((480, 10)) + truths.repeat(5, axis=1)
    shuffled = random.permutation(truths[:240])
    columns = [
        LogisticRegression().fit(features[:240], column).predict_proba(features[240:])[:, 1]
        for column in shuffled.T
    ]
    one = check(verdict(evaluated(np.stack(columns, axis=1), truths[240:])), "better than chance")
    assert not one.passed
    assert one.limit == 0.5


def test_one_finding_below_chance_is_not_carried_by_the_others() -> None:
    probabilities, truths = answers(1.2)
    probabilities[:, 1] = 1 - probabilities[:, 1]
    one = check(verdict(evaluated(probabilities, truths)), "better than chance")
    assert not one.passed
    assert "Left bundle branch block" in one.sentence


def test_a_finding_with_too_few_positives_is_refused_by_its_name() -> None:
    probabilities, truths = answers(1.2)
    truths[:, 1] = 0
    truths[:2, 1] = 1
    one = check(verdict(evaluated(probabilities, truths)), "enough to judge")
    assert not one.passed
    assert "Left bundle branch block" in one.sentence
    assert (one.value, one.limit) == (1, 2)


def test_three_patients_judge_nothing_and_every_check_has_a_sentence() -> None:
    probabilities, truths = answers()
    few = evaluate(probabilities[:3], truths[:3], keys=KEYS, patients=list("abc"), resamples=20)
    found = judge(few)
    assert not found.passed
    assert [item.name for item in found.checks if item.passed] == [
        "not worse than the current model"
    ]
    assert all(item.sentence for item in found.checks)


def test_probabilities_that_do_not_mean_what_they_say_are_refused() -> None:
    probabilities, truths = answers(1.2)
    one = check(verdict(evaluated(probabilities**0.2, truths)), "calibration")
    assert not one.passed
    assert one.value > one.limit  # type: ignore[operator]


def test_a_small_test_set_is_not_refused_for_the_noise_of_its_bins() -> None:
    passed = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        honest = random.uniform(0.02, 0.98, (60, 2))
        truths = (random.random(honest.shape) < honest).astype(float)
        found = evaluate(honest, truths, keys=KEYS, patients=PATIENTS[:60], resamples=10)
        one = check(verdict(found), "calibration")
        passed += one.passed
        assert found.figure("ECE").value > 0.05  # type: ignore[operator]
    assert passed >= 19


def test_a_part_of_the_patients_that_is_served_far_worse_refuses_the_model() -> None:
    probabilities, truths = answers(1.2)
    random = np.random.default_rng(0)
    women = np.array(SEXES) == "F"
    probabilities[women] = random.permutation(probabilities[women])
    one = check(verdict(evaluated(probabilities, truths)), "subgroups")
    assert not one.passed
    assert "sex F" in one.sentence


def test_a_part_too_small_to_be_judged_refuses_nobody_and_is_counted() -> None:
    tiny = Subgroup(
        by="device",
        name="old cart",
        records=2,
        patients=1,
        macro={"AUROC": Interval(reason="too few")},
        everyone=None,
        keys={},
    )
    one = check(verdict(replace(GOOD, subgroups=(*GOOD.subgroups, tiny))), "subgroups")
    assert one.passed
    assert "1 more are too small" in one.sentence


def test_without_any_part_that_can_be_judged_nothing_is_known_of_fairness() -> None:
    assert not check(verdict(replace(GOOD, subgroups=())), "subgroups").passed


# Of the package, and of who judges


@pytest.mark.parametrize(
    "parity",
    [
        None,
        Parity(records=256, difference=2e-4, flipped=0),
        Parity(records=256, difference=1e-6, flipped=1),
        Parity(records=256, difference=float("inf"), flipped=0),
    ],
)
def test_a_graph_that_is_not_the_net_is_refused(parity: Parity | None) -> None:
    assert not check(verdict(parity=parity), "parity").passed


@pytest.mark.parametrize("answer", [None, False])
def test_a_package_that_was_not_proven_is_refused(*, answer: bool | None) -> None:
    assert not check(verdict(self_test=answer), "self-test").passed


def test_patients_and_recordings_on_both_sides_are_found_by_their_digests() -> None:
    learned = [record("1", "anna"), record("2", "bert"), record("3", "carl", "same signal")]
    tested = [record("4", "bert"), record("5", "dora", "same signal")]
    found = separate(learned, tested)
    assert (found.shared_patients, found.shared_recordings) == (1, 1)
    assert not check(verdict(separation=found), "patients apart").passed
    apart = separate(learned[:1], tested)
    assert check(verdict(separation=apart), "patients apart").passed
    assert apart.learned != apart.tested
    assert separate(learned[::-1], tested).learned == found.learned
    assert not check(verdict(separation=None), "patients apart").passed


# Numbers


def age(error: float, bias: float = 0.0) -> Evaluation:
    random = np.random.default_rng(0)
    truth = random.uniform(20, 90, (240, 1))
    return evaluate(
        truth + bias + random.normal(0, error, truth.shape),
        truth,
        keys=["age"],
        patients=PATIENTS,
        task=Task.REGRESSION,
        groups={"sex": SEXES},
        resamples=100,
    )


def test_a_regression_is_judged_by_its_error_and_bias() -> None:
    assert verdict(age(6)).passed
    assert not check(verdict(age(6, bias=8)), "calibration").passed
    assert not check(verdict(age(1000)), "better than chance").passed


def test_limits_are_stated_and_can_be_stricter() -> None:
    strict = judge(
        GOOD, parity=PARITY, self_test=True, separation=APART, limits=Limits(chance=0.999)
    )
    assert check(strict, "better than chance").limit == 0.999
    assert not strict.passed


def test_infinite_differences_can_be_stored() -> None:
    found = verdict(parity=Parity(records=1, difference=float("inf"), flipped=0))
    assert Verdict.from_json(found.to_json()).reasons == found.reasons
