"""From findings to what a clinician reads: few statements, ordered, without contradictions."""

from collections.abc import Iterable, Mapping, Sequence

from analysis.codes import VOCABULARY
from analysis.criteria import ADULT
from analysis.ecg import STANDARD_12, Patient, Recording
from analysis.result import Finding, Origin, Overall, Quality, Statement, Verdict

MEASURED = frozenset(
    {
        "sinus_bradycardia",
        "sinus_tachycardia",
        "av_block_1",
        "ivcd",
        "left_axis",
        "right_axis",
        "long_qt",
        "short_qt",
    }
)
"""Findings that a measurement decides, whatever a model says."""

_EXCLUDES: Mapping[str, frozenset[str]] = {
    "atrial_fibrillation": frozenset(
        {"sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia",
         "av_block_1", "pac", "atrial_flutter"}
    ),
    "atrial_flutter": frozenset(
        {"sinus_rhythm", "sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia",
         "av_block_1"}
    ),
    "svt": frozenset({"sinus_rhythm", "sinus_tachycardia"}),
    "sinus_bradycardia": frozenset({"sinus_rhythm"}),
    "sinus_tachycardia": frozenset({"sinus_rhythm"}),
    "lbbb": frozenset(
        {"ivcd", "incomplete_lbbb", "conduction_disturbance", "lvh", "hypertrophy",
         "st_t_abnormality", "lafb", "myocardial_infarction"}
    ),
    "rbbb": frozenset({"ivcd", "incomplete_rbbb", "conduction_disturbance"}),
    "lafb": frozenset({"left_axis", "conduction_disturbance"}),
    "av_block_1": frozenset({"conduction_disturbance"}),
    "ivcd": frozenset({"conduction_disturbance"}),
    "lvh": frozenset({"hypertrophy"}),
    "rvh": frozenset({"hypertrophy"}),
    "st_elevation": frozenset({"st_t_abnormality"}),
    "st_depression": frozenset({"st_t_abnormality"}),
    "t_inversion": frozenset({"st_t_abnormality"}),
}  # fmt: skip
"""A statement of the key leaves out those: they contradict it, or say less."""

_SILENT_WHEN_PACED = frozenset(key for key, entry in VOCABULARY.items() if entry.not_when_paced)

HARMLESS = frozenset({"normal", "sinus_rhythm", "sinus_arrhythmia"})
"""Findings that do not make an ECG abnormal."""


def decide(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the one finding that counts for each key that was judged.

    Where model and criteria both judged, the criteria decide what is measured and the model
    decides the rest.
    """
    decided: dict[str, Finding] = {}
    for finding in findings:
        if finding.present is None:
            continue
        preferred = Origin.CRITERIA if finding.key in MEASURED else Origin.MODEL
        if finding.key not in decided or finding.origin is preferred:
            decided[finding.key] = finding
    return tuple(decided.values())


def state(findings: Iterable[Finding], *, normal: bool) -> tuple[Statement, ...]:
    """Return the statements of the present findings, most important first.

    Parameters
    ----------
    findings
        Of models and criteria alike.
    normal
        Whether "normal ECG" may be said.
    """
    present = {item.key: item for item in decide(findings) if item.present}
    dropped = frozenset[str]().union(*(_EXCLUDES.get(key, frozenset()) for key in present))
    if "paced" in present:
        dropped |= _SILENT_WHEN_PACED
    kept = [
        item for key, item in present.items() if key not in dropped and (key != "normal" or normal)
    ]
    kept.sort(key=lambda item: (VOCABULARY[item.key].urgency, -(item.probability or 1.0)))
    return tuple(_statement(item) for item in kept)


def _statement(finding: Finding) -> Statement:
    return Statement(
        key=finding.key,
        code=finding.code,
        text=finding.name,
        origin=finding.origin,
        evidence=finding.evidence or (_probability(finding),),
    )


def _probability(finding: Finding) -> str:
    threshold = "" if finding.threshold is None else f", threshold {finding.threshold:.2f}"
    return f"probability {finding.probability:.2f}{threshold}"


def may_be_normal(
    recording: Recording, quality: Quality, patient: Patient, findings: Sequence[Finding]
) -> bool:
    """Return whether "normal ECG" is safe to say (DESIGN §4): the dangerous answer."""
    decided = decide(findings)
    judged = {item.key for item in decided}
    return (
        quality.verdict is Verdict.FULL
        and all(lead in recording.ecg for lead in STANDARD_12)
        and patient.age is not None
        and patient.age >= ADULT
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
    reasons: dict[str, list[str]] = {}
    for item in findings:
        if item.reason is not None and item.key not in judged:
            names = reasons.setdefault(item.reason, [])
            if item.name not in names:
                names.append(item.name)
    return tuple(f"Not assessed ({why}): {', '.join(names)}." for why, names in reasons.items())
