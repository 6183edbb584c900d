"""From findings to what a clinician reads: few statements, ordered, without contradictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf

from analysis.codes import VOCABULARY
from analysis.criteria import ADULT
from analysis.ecg import STANDARD_12, Patient, Recording
from analysis.result import Finding, Origin, Overall, Quality, Quantity, Statement, Verdict

MEASURED = frozenset(
    {
        "atrial_fibrillation",
        "pac",
        "sinus_bradycardia",
        "sinus_tachycardia",
        "av_block_1",
        "ivcd",
        "left_axis",
        "right_axis",
        "low_voltage",
        "long_qt",
        "short_qt",
        "st_elevation",
        "st_depression",
        "t_inversion",
    }
)
"""Findings that a measurement decides, whatever a model says, also where none was possible.

Of atrial fibrillation and atrial premature beats because, on databases held out of training, the
criteria find more at equal specificity (CRITERIA.md, models/CARD-twelve-lead.md).
"""

_RATES: Mapping[str, tuple[float, float]] = {
    "sinus_bradycardia": (0.0, 60.0),
    "sinus_tachycardia": (100.0, inf),
    "svt": (100.0, inf),
}
"""Per minute, between which a finding can be true."""

_EITHER = frozenset({"paced"})
"""Findings that hold where anyone sees them: to miss them is worse."""

_SINUS = frozenset({"sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia"})
_SECONDARY = frozenset(
    {"lvh", "hypertrophy", "st_t_abnormality", "st_elevation", "st_depression", "t_inversion",
     "pathological_q", "myocardial_infarction"}
)  # fmt: skip
"""What a changed conduction of the left ventricle feigns."""

EXCLUDES: Mapping[str, frozenset[str]] = {
    "atrial_fibrillation": _SINUS | {"atrial_flutter", "svt", "av_block_1", "pac",
                                     "atrial_bigeminy", "lae", "rae"},
    "atrial_flutter": _SINUS | {"svt", "av_block_1", "lae", "rae"},
    "svt": _SINUS,
    "sinus_bradycardia": frozenset({"sinus_rhythm"}),
    "sinus_tachycardia": frozenset({"sinus_rhythm"}),
    "sinus_arrhythmia": frozenset({"sinus_rhythm"}),
    "atrial_bigeminy": frozenset({"pac", "sinus_arrhythmia"}),
    "ventricular_bigeminy": frozenset({"pvc", "sinus_arrhythmia"}),
    "av_block_3": _SINUS | {"av_block_2", "av_block_1", "conduction_disturbance"},
    "av_block_2": frozenset({"av_block_1", "conduction_disturbance", "sinus_bradycardia",
                             "sinus_arrhythmia", "pac", "atrial_bigeminy"}),
    "av_block_1": frozenset({"conduction_disturbance"}),
    "preexcitation": _SECONDARY | {"lbbb", "rbbb", "incomplete_lbbb", "incomplete_rbbb", "ivcd",
                                   "lafb", "lpfb", "conduction_disturbance", "rvh"},
    "lbbb": _SECONDARY | {"ivcd", "incomplete_lbbb", "lafb", "conduction_disturbance"},
    "rbbb": frozenset({"ivcd", "incomplete_rbbb", "conduction_disturbance", "rvh"}),
    "incomplete_lbbb": frozenset({"conduction_disturbance"}),
    "incomplete_rbbb": frozenset({"conduction_disturbance"}),
    "lafb": frozenset({"left_axis", "conduction_disturbance"}),
    "rvh": frozenset({"right_axis", "lpfb", "hypertrophy"}),
    "lpfb": frozenset({"right_axis", "conduction_disturbance"}),
    "ivcd": frozenset({"conduction_disturbance"}),
    "lvh": frozenset({"hypertrophy"}),
    "st_elevation": frozenset({"st_t_abnormality"}),
    "st_depression": frozenset({"st_t_abnormality"}),
    "t_inversion": frozenset({"st_t_abnormality"}),
}  # fmt: skip
"""A statement of the key leaves out those: they contradict it, follow from it, or say less."""

_SILENT_WHEN_PACED = frozenset(key for key, entry in VOCABULARY.items() if entry.not_when_paced)

HARMLESS = frozenset({"normal", "sinus_rhythm", "sinus_arrhythmia"})
"""Findings that do not make an ECG abnormal."""


def against_rate(key: str, heart_rate: Quantity) -> str | None:
    """Return why the measured heart rate forbids a finding, or None."""
    if key not in _RATES:
        return None
    if heart_rate.value is None:
        return "the heart rate was not measured"
    low, high = _RATES[key]
    allowed = low < heart_rate.value < high
    return None if allowed else f"the measured heart rate is {heart_rate.value:.0f}/min"


def decide(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the one finding that counts for each key that was judged.

    Where model and criteria both judged, the criteria decide what is measured
    (:data:`MEASURED`), pacing holds if either sees it, and the model decides the rest. Where
    both find the same, the evidence of both is kept.
    """
    findings = tuple(findings)
    measured = {item.key for item in findings if item.origin is Origin.CRITERIA} & MEASURED
    decided: dict[str, Finding] = {}
    for finding in findings:
        overruled = finding.origin is Origin.MODEL and finding.key in measured
        if finding.present is not None and not overruled:
            rival = decided.get(finding.key)
            decided[finding.key] = finding if rival is None else _of_two(rival, finding)
    return tuple(decided.values())


def _of_two(first: Finding, second: Finding) -> Finding:
    preferred = Origin.CRITERIA if first.key in MEASURED else Origin.MODEL
    winner, other = (second, first) if second.origin is preferred else (first, second)
    if winner.present == other.present:
        return replace(
            winner,
            evidence=(*_evidence(winner), *_evidence(other)),
            leads=winner.leads or other.leads,
        )
    if winner.key in _EITHER:
        return winner if winner.present else other
    return winner


def state(findings: Iterable[Finding], *, normal: bool) -> tuple[Statement, ...]:
    """Return the statements of the present findings, most important first.

    Parameters
    ----------
    findings
        Of models and criteria alike.
    normal
        Whether "normal ECG" may be said.
    """
    return tuple(_statement(item) for item in stated(findings) if item.key != "normal" or normal)


def stated(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the present findings that contradict no other and decide, most important first."""
    present = {item.key: item for item in decide(findings) if item.present}
    dropped = frozenset[str]().union(*(EXCLUDES.get(key, frozenset()) for key in present))
    if "paced" in present:
        dropped |= _SILENT_WHEN_PACED
    kept = (item for key, item in present.items() if key not in dropped)
    return tuple(sorted(kept, key=_urgency))


def _urgency(finding: Finding) -> tuple[float, float]:
    return VOCABULARY[finding.key].urgency, -(finding.probability or 1.0)


def _statement(finding: Finding) -> Statement:
    return Statement(
        key=finding.key,
        code=finding.code,
        text=finding.name,
        origin=finding.origin,
        evidence=_evidence(finding),
        leads=finding.leads,
    )


def _evidence(finding: Finding) -> tuple[str, ...]:
    """Return what a finding rests on, its probability and threshold first where it has them."""
    if finding.probability is None:
        return finding.evidence
    threshold = "" if finding.threshold is None else f", threshold {finding.threshold:.2f}"
    said = f"probability {finding.probability:.2f}{threshold}"
    return finding.evidence if said in finding.evidence else (said, *finding.evidence)


def may_be_normal(
    recording: Recording, quality: Quality, patient: Patient, findings: Sequence[Finding]
) -> bool:
    """Return whether "normal ECG" is safe to say (DESIGN §4): the dangerous answer.

    Full quality, twelve leads, an adult, sinus rhythm, everything judged, nothing found.
    """
    decided = decide(findings)
    judged = {item.key for item in decided}
    return (
        quality.verdict is Verdict.FULL
        and all(lead in recording.ecg for lead in STANDARD_12)
        and patient.age is not None
        and patient.age >= ADULT
        and any(item.key == "sinus_rhythm" and item.present for item in decided)
        and all(item.key in judged for item in findings)
        and not any(item.present and item.key not in HARMLESS for item in decided)
    )


def overall(quality: Quality, statements: Sequence[Statement]) -> Overall:
    """Return the overall finding (CID 3677)."""
    if quality.verdict is Verdict.NON_DIAGNOSTIC:
        return Overall.NON_DIAGNOSTIC
    keys = {item.key for item in statements}
    if keys - HARMLESS:
        return Overall.ABNORMAL
    return Overall.NORMAL if "normal" in keys else Overall.NO_LISTED_FINDING


def not_assessed(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return one sentence for each reason why findings were not judged."""
    findings = tuple(findings)
    judged = {item.key for item in findings if item.present is not None}
    reasons: dict[str, dict[str, None]] = {}
    for item in findings:
        if item.reason is not None and item.key not in judged:
            reasons.setdefault(item.reason, {})[item.name] = None
    every = len(reasons) == 1 and not judged
    return tuple(
        f"Not assessed ({why}): {'every finding' if every else ', '.join(names)}."
        for why, names in reasons.items()
    )
