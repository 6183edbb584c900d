import numpy as np
import pytest
from tiny_model import KEYS, card, packed

from analysis.classify import classify
from analysis.codes import VOCABULARY
from analysis.ecg import ECG, STANDARD_12, Lead, Patient
from analysis.model import Model, load_model
from analysis.result import Finding, Origin
from analysis.synthetic import Kind, simulate

ADULT = Patient(age=60.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(packed())


def level(*millivolts: float, leads: tuple[Lead, ...] = STANDARD_12) -> ECG:
    """Each number is 5 s of that level; the tiny model answers with sigmoid(k × level)."""
    signal = np.repeat(np.array(millivolts), 500)
    return ECG(signal=np.tile(signal, (len(leads), 1)), leads=leads, sampling_frequency=100.0)


def by_key(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.key: finding for finding in findings}


def test_each_label_becomes_a_finding_of_the_vocabulary(model: Model) -> None:
    (findings,) = classify([model], [level(1.0)], [ADULT])
    assert tuple(finding.key for finding in findings) == KEYS
    for finding in findings:
        entry = VOCABULARY[finding.key]
        assert (finding.code, finding.name) == (entry.code, entry.name)
        assert (finding.origin, finding.model) == (Origin.MODEL, "Tiny")
        assert finding.threshold == 0.5
        assert finding.present is True
        assert finding.reason is None


def test_below_its_threshold_a_finding_is_absent(model: Model) -> None:
    (findings,) = classify([model], [level(-1.0)], [ADULT])
    assert [finding.present for finding in findings] == [False] * 3


def test_a_threshold_of_the_card_is_the_one_used() -> None:
    labels = tuple(
        type(label).of(label.key, threshold)
        for label, threshold in zip(card().labels, (0.70, 0.75, 0.999), strict=True)
    )
    (findings,) = classify([load_model(packed(labels=labels))], [level(1.0)], [ADULT])
    assert [finding.present for finding in findings] == [True, True, False]


def test_a_batch_gives_each_ecg_its_own_answer(model: Model) -> None:
    ecgs = [level(0.1), level(1.0, -1.0, 0.3), level(0.2), level(0.3, 0.4)]
    together = classify([model], ecgs, [ADULT] * 4)
    alone = [classify([model], [ecg], [ADULT])[0] for ecg in ecgs]
    for batch, single in zip(together, alone, strict=True):
        for left, right in zip(batch, single, strict=True):
            assert left.probability == pytest.approx(right.probability, abs=1e-6)
            assert left.present == right.present


def test_nothing_to_read_gives_nothing(model: Model) -> None:
    assert classify([model], []) == ()
    assert classify([], [level(1.0)]) == ((),)


def test_several_models_speak_one_after_the_other(model: Model) -> None:
    other = load_model(packed(name="Other"))
    (findings,) = classify([model, other], [level(1.0)], [ADULT])
    assert [finding.model for finding in findings] == ["Tiny"] * 3 + ["Other"] * 3


def test_one_window_with_a_finding_is_enough_and_none_may_be_abnormal(model: Model) -> None:
    (findings,) = classify([model], [level(-1.0, 2.0, -1.0)], [ADULT])
    found = by_key(findings)
    assert found["atrial_fibrillation"].present is True
    assert found["lbbb"].present is True
    assert found["normal"].present is False
    assert "1 of 3 windows" in found["lbbb"].evidence[0]


def test_a_recording_too_short_is_not_assessed_with_a_reason(model: Model) -> None:
    short = ECG(signal=np.zeros((12, 100)), leads=STANDARD_12, sampling_frequency=100.0)
    good = level(1.0)
    first, second = classify([model], [short, good], [ADULT, ADULT])
    for finding in first:
        assert finding.present is None
        assert finding.probability is None
        assert "1.0 s" in str(finding.reason)
    assert [finding.present for finding in second] == [True] * 3


def test_more_missing_leads_than_the_recipe_allows_are_not_assessed(model: Model) -> None:
    one, two = STANDARD_12[:-1], STANDARD_12[:-2]
    allowed, refused = classify(
        [model], [level(1.0, leads=one), level(1.0, leads=two)], [ADULT] * 2
    )
    assert [finding.present for finding in allowed] == [None, True, True]
    assert "V6" in str(by_key(allowed)["normal"].reason)
    assert all(finding.present is None and "V6" in str(finding.reason) for finding in refused)


def test_a_child_is_not_assessed_by_a_model_of_adults(model: Model) -> None:
    (findings,) = classify([model], [level(1.0)], [Patient(age=17.9)])
    assert all(finding.present is None and "18" in str(finding.reason) for finding in findings)


@pytest.mark.parametrize("patients", [None, [Patient()]])
def test_of_unknown_age_only_what_holds_at_any_age_is_assessed(
    model: Model, patients: list[Patient] | None
) -> None:
    found = by_key(classify([model], [level(1.0)], patients)[0])
    assert found["atrial_fibrillation"].present is True
    assert found["normal"].present is None
    assert found["lbbb"].present is None
    assert found["lbbb"].reason == "the patient's age is unknown"


def test_a_model_for_any_age_asks_for_none() -> None:
    model = load_model(packed(minimum_age=None))
    assert all(finding.present for finding in classify([model], [level(1.0)])[0])


def test_an_answer_that_is_no_number_is_not_assessed() -> None:
    model = load_model(packed())
    huge = level(3e38)
    for finding in classify([model], [huge], [ADULT])[0]:
        assert finding.present is not None or finding.reason


def test_the_shipped_model_reads_every_simulated_heart() -> None:
    ecgs = [simulate(kind).ecg for kind in Kind]
    for findings in classify([load_model()], ecgs, [ADULT] * len(ecgs)):
        assert all(finding.present is not None for finding in findings)


def test_the_shipped_model_finds_nothing_on_a_flat_line() -> None:
    flat = ECG(signal=np.zeros((12, 5000)), leads=STANDARD_12, sampling_frequency=500.0)
    assert not any(finding.present for finding in classify([load_model()], [flat], [ADULT])[0])
