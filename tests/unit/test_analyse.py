"""From an ECG to what is said of it: the safety rules of the design, as tests."""

import sys
from dataclasses import replace

import numpy as np
import pytest

import analysis
from analysis import statements
from analysis.analyse import analyse
from analysis.codes import VOCABULARY
from analysis.ecg import ECG, STANDARD_12, Lead, Patient, Recording, Sex
from analysis.result import (
    Finding,
    Origin,
    Overall,
    Quality,
    QualityReason,
    Quantity,
    Result,
    Verdict,
)
from analysis.synthetic import Kind, simulate

ADULT = Patient(age=50.0, sex=Sex.MALE)
CHILD = Patient(age=9.0, sex=Sex.MALE)


def keys(result: Result) -> set[str]:
    return {statement.key for statement in result.statements}


def finding(key: str, *, present: bool | None, origin: Origin = Origin.MODEL) -> Finding:
    entry = VOCABULARY[key]
    return Finding(
        key=key,
        code=entry.code,
        name=entry.name,
        probability=0.9 if present else 0.1,
        threshold=0.5,
        present=present,
        origin=origin,
        reason="a test" if present is None else None,
    )


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Kind.SINUS, "sinus_rhythm"),
        (Kind.BRADYCARDIA, "sinus_bradycardia"),
        (Kind.TACHYCARDIA, "sinus_tachycardia"),
        (Kind.ATRIAL_FIBRILLATION, "atrial_fibrillation"),
        (Kind.LBBB, "lbbb"),
        (Kind.FIRST_DEGREE_AV_BLOCK, "av_block_1"),
    ],
)
def test_each_simulated_heart_is_named_by_the_criteria(kind: Kind, key: str) -> None:
    assert key in keys(analyse(simulate(kind).ecg, [], patient=ADULT))


@pytest.mark.parametrize("kind", [Kind.SINUS, Kind.BRADYCARDIA, Kind.ATRIAL_FIBRILLATION])
def test_narrow_complexes_are_no_block(kind: Kind) -> None:
    assert not keys(analyse(simulate(kind).ecg, [], patient=ADULT)) & {"lbbb", "rbbb", "ivcd"}


@pytest.mark.parametrize(
    "ecg",
    [
        pytest.param(simulate(Kind.NOISE).ecg, id="noise"),
        pytest.param(
            ECG(signal=np.zeros((12, 5000)), leads=STANDARD_12, sampling_frequency=500.0),
            id="flat",
        ),
        pytest.param(simulate(Kind.SINUS).ecg.select(STANDARD_12[:6]), id="half-the-leads"),
        pytest.param(
            ECG(signal=np.full((12, 5000), np.nan), leads=STANDARD_12, sampling_frequency=500.0),
            id="no-samples",
        ),
    ],
)
def test_an_ecg_that_cannot_be_read_never_becomes_a_diagnosis(ecg: ECG) -> None:
    result = analyse(ecg, patient=ADULT)
    assert result.overall is Overall.NON_DIAGNOSTIC
    assert result.quality.reasons
    assert result.statements == ()
    assert not [item for item in result.findings if item.present is not None]


@pytest.mark.parametrize("kind", list(Kind))
def test_every_statement_shows_the_numbers_it_rests_on(kind: Kind) -> None:
    for line in analyse(simulate(kind).ecg, patient=ADULT).statements:
        assert any(character.isdigit() for text in line.evidence for character in text), line


def test_adult_limits_are_not_applied_to_a_child_or_to_unknown_age() -> None:
    for patient in (CHILD, Patient()):
        result = analyse(simulate(Kind.LBBB).ecg, patient=patient)
        assert not keys(result) & {key for key, entry in VOCABULARY.items() if entry.adult_only}
        assert any("Not assessed" in line for line in result.not_assessed)


USUAL = (finding("normal", present=True), finding("sinus_rhythm", present=True))


def judged_normal(result: Result, patient: Patient, quality: Quality) -> bool:
    findings = (*USUAL, finding("lbbb", present=False))
    return statements.may_be_normal(result.recording, quality, patient, findings)


def test_normal_is_said_only_when_everything_allows_it() -> None:
    result = analyse(simulate(Kind.SINUS).ecg, [], patient=ADULT)
    full = Quality(verdict=Verdict.FULL)
    assert judged_normal(result, ADULT, full)
    assert not judged_normal(result, CHILD, full)
    assert not judged_normal(result, Patient(), full)
    limited = Quality(verdict=Verdict.LIMITED, reasons=(QualityReason.NOISE,))
    assert not judged_normal(result, ADULT, limited)
    eleven = result.recording.ecg.select(STANDARD_12[:-1])
    fewer = replace(result, recording=Recording(ecg=eleven, format="ECG"))
    assert not judged_normal(fewer, ADULT, full)


def test_normal_is_not_said_beside_an_abstention_or_an_abnormality() -> None:
    recording = Recording(ecg=simulate(Kind.SINUS).ecg, format="ECG")
    full = Quality(verdict=Verdict.FULL)
    for other in (finding("lbbb", present=None), finding("lbbb", present=True)):
        findings = (*USUAL, other)
        assert not statements.may_be_normal(recording, full, ADULT, findings)


def test_normal_needs_sinus_rhythm_at_a_usual_rate_without_pacing() -> None:
    recording = Recording(ecg=simulate(Kind.SINUS).ecg, format="ECG")
    full, normal = Quality(verdict=Verdict.FULL), finding("normal", present=True)
    assert not statements.may_be_normal(recording, full, ADULT, [normal])
    assert statements.may_be_normal(recording, full, ADULT, USUAL)
    for key in ("paced", "sinus_bradycardia", "sinus_tachycardia"):
        findings = (*USUAL, finding(key, present=True, origin=Origin.CRITERIA))
        assert not statements.may_be_normal(recording, full, ADULT, findings)


def test_a_model_cannot_contradict_the_measured_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [(finding("svt", present=True), finding("sinus_tachycardia", present=True))]
    monkeypatch.setattr(sys.modules[analyse.__module__], "classify", lambda *_: said)
    result = analyse(simulate(Kind.SINUS, heart_rate=64).ecg, patient=ADULT)
    assert not keys(result) & {"svt", "sinus_tachycardia"}
    (svt,) = [item for item in result.findings if item.key == "svt" and item.model is None
              and item.origin is Origin.MODEL]  # fmt: skip
    assert svt.reason == "the measured heart rate is 64/min"


def test_suspected_reversal_silences_what_it_would_falsify() -> None:
    recorded = simulate(Kind.SINUS).ecg
    rows = {lead: recorded[lead] for lead in recorded.leads}
    rows[Lead.I], rows[Lead.II], rows[Lead.III] = -rows[Lead.I], rows[Lead.III], rows[Lead.II]
    rows[Lead.aVR], rows[Lead.aVL] = rows[Lead.aVL], rows[Lead.aVR]
    swapped = ECG(
        signal=np.stack([rows[lead] for lead in recorded.leads]),
        leads=recorded.leads,
        sampling_frequency=500.0,
    )
    result = analyse(swapped, patient=ADULT)
    assert QualityReason.ARM_REVERSAL in result.quality.reasons
    silenced = {key for key, entry in VOCABULARY.items() if entry.not_when_reversed}
    assert not keys(result) & silenced
    assert result.overall is not Overall.NORMAL


@pytest.mark.parametrize("kind", list(Kind))
def test_stored_result_gives_the_same_result_again(kind: Kind) -> None:
    result = analyse(simulate(kind).ecg, [], patient=ADULT)
    again = Result.from_json(result.to_json(), result.recording)
    assert again.to_json() == result.to_json()
    assert dict(again.measurements.quantities()) == dict(result.measurements.quantities())
    assert again.findings == result.findings
    assert again.statements == result.statements
    np.testing.assert_array_equal(again.leads.values, result.leads.values)
    for lead, marks in result.measurements.fiducials.items():
        for name, values in marks.items():
            np.testing.assert_array_equal(again.measurements.fiducials[lead][name], values)


def test_quantity_has_a_value_or_a_reason_never_both_nor_neither() -> None:
    with pytest.raises(ValueError, match="either"):
        Quantity(value=None, unit="ms", method="none")
    with pytest.raises(ValueError, match="either"):
        Quantity(value=1.0, unit="ms", method="none", reason="why")


def test_every_vocabulary_entry_has_a_code_of_a_known_scheme() -> None:
    assert {entry.code.scheme for entry in VOCABULARY.values()} <= {"SCT", "MDC", "DCM"}
    assert all(key == entry.key for key, entry in VOCABULARY.items())


def test_public_names_of_the_design_are_there() -> None:
    for name in ("read", "standardise", "measure", "load_model", "analyse", "draw", "Undecodable"):
        assert callable(getattr(analysis, name))
