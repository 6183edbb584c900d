"""May a model be promoted? Every check says its number and its limit in one sentence.

What is not shown is not passed: a check without evidence refuses. A person decides afterwards,
in either direction; a verdict never promotes by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pydantic import TypeAdapter

from training.convert import TOLERANCE, Parity
from training.corpus import Record
from training.evaluation import Difference, Evaluation, Subgroup, name_of
from training.intervals import rounded
from training.plan import Task

MARGIN: Final = 0.02
"""AUROC by which a model may be worse than the current one; of a regression, the share of its
mean absolute error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the checks allow.

    Parameters
    ----------
    chance
        AUROC that the lower end of the interval must exceed.
    calibration
        Calibration error beyond what so many records show by chance, as the mean of the findings.
    subgroup
        AUROC by which a part of the records may be shown to be worse than everyone.
    bias
        Share of a regression's mean absolute error that its bias may be.
    subgroup_error
        Share by which a regression's error may be shown to be larger in a part of the records.
    """

    chance: float = 0.5
    calibration: float = 0.05
    subgroup: float = 0.1
    bias: float = 0.5
    subgroup_error: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question of the gate and its answer."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of a candidate."""

    passed: bool
    reasons: tuple[str, ...]
    """The sentences of the checks that it did not pass."""
    checks: tuple[Check, ...]

    def to_json(self) -> str:
        """Return the stored form."""
        return _VERDICT.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Verdict":
        """Return the verdict of a stored form. Raises ValueError on anything else."""
        return _VERDICT.validate_json(text)


_VERDICT: Final = TypeAdapter(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """Proof that those who judge taught nothing: sets of pseudonyms and of recordings."""

    learned_patients: int
    tested_patients: int
    shared_patients: int
    shared_recordings: int
    learned: str
    tested: str
    """SHA-256 of the sorted pseudonyms, by which the proof can be repeated."""


def separate(learned: Iterable[Record], tested: Iterable[Record]) -> Separation:
    """Return whether any patient, or any recording by its content, stands on both sides.

    Parameters
    ----------
    learned
        All that had a part in making the model: train, validation and calibration.
    tested
        Those that judge it.
    """
    taught, judging = tuple(learned), tuple(tested)
    ours, theirs = ({record.patient for record in part} for part in (taught, judging))
    first, second = ({record.sha256 for record in part} for part in (taught, judging))
    return Separation(
        learned_patients=len(ours),
        tested_patients=len(theirs),
        shared_patients=len(ours & theirs),
        shared_recordings=len(first & second),
        learned=_digest(ours),
        tested=_digest(theirs),
    )


def _digest(names: Iterable[str]) -> str:
    return sha256("\n".join(sorted(names)).encode()).hexdigest()


def judge(
    candidate: Evaluation,
    current: Evaluation | None = None,
    difference: Difference | None = None,
    parity: Parity | None = None,
    *,
    self_test: bool | None = None,
    separation: Separation | None = None,
    margin: float = MARGIN,
    limits: Limits | None = None,
) -> Verdict:
    """Return whether a candidate may be promoted, and why not.

    Parameters
    ----------
    candidate
        On the test set.
    current
        The model in use on the same records; None where there is none yet.
    difference
        How far the candidate is ahead of it.
    parity
        Of torch and ONNX Runtime.
    self_test
        Whether the package, loaded as the node loads it, gave the answers it was packed with.
    separation
        Of those who taught and those who judge.
    margin
        By how much the candidate may be worse than the current model; see `MARGIN`.
    """
    allowed = limits or Limits()
    checks = (
        _enough(candidate),
        _chance(candidate, allowed),
        _current(current, difference, margin),
        _calibration(candidate, allowed),
        _subgroups(candidate, allowed),
        _parity(parity),
        _self_test(self_test),
        _separation(separation),
    )
    reasons = tuple(check.sentence for check in checks if not check.passed)
    return Verdict(passed=not reasons, reasons=reasons, checks=checks)


def _enough(candidate: Evaluation) -> Check:
    silent = [item.key for item in candidate.keys if item.figures[candidate.leading].low is None]
    judged = len(candidate.keys) - len(silent)
    what = "number" if candidate.task is Task.REGRESSION else "finding"
    sentence = (
        f"{judged} of {len(candidate.keys)} {what}{'s' * (len(candidate.keys) != 1)} could be"
        f" judged, on {candidate.records} recordings of {candidate.patients} patients; all must be"
    )
    said = f": not {_listed(silent)}." if silent else "."
    return Check(
        name="enough to judge",
        passed=not silent and judged > 0,
        value=float(judged),
        limit=float(len(candidate.keys)),
        sentence=sentence + said,
    )


def _chance(candidate: Evaluation, limits: Limits) -> Check:
    regression = candidate.task is Task.REGRESSION
    measure, limit = ("r", 0.0) if regression else ("AUROC", limits.chance)
    figure = candidate.figure(measure)
    values = {item.key: item.figures[measure].value for item in candidate.keys}
    poor = [key for key, value in values.items() if value is not None and value <= limit]
    passed = figure.low is not None and figure.low > limit and not poor
    sentence = (
        f"The mean {measure} is {figure}: its lower end must be above {limit:g}"
        if figure.value is not None
        else f"There is no {measure}, which must be above {limit:g}"
    )
    said = f", and so must every finding: not {_listed(poor)}." if poor else "."
    return Check(
        name="better than chance",
        passed=passed,
        value=figure.low,
        limit=limit,
        sentence=sentence + said,
    )


def _current(current: Evaluation | None, difference: Difference | None, margin: float) -> Check:
    name = "not worse than the current model"
    if current is None:
        said = f"There is no current model to be worse than; {margin:g} would be allowed."
        return Check(name=name, passed=True, value=None, limit=margin, sentence=said)
    if difference is None or difference.macro.low is None:
        why = difference.macro.reason if difference else "They were not compared."
        said = f"It cannot be held against the current model: {why}"
        return Check(name=name, passed=False, value=None, limit=-margin, sentence=said)
    error = current.figure(current.leading).value or 0.0
    limit = -margin * error if current.task is Task.REGRESSION else -margin
    said = (
        f"Against the current model the {difference.measure} gains {difference.macro} on"
        f" {difference.records} recordings: the lower end must be above {rounded(limit)}."
    )
    low = difference.macro.low
    return Check(name=name, passed=low > limit, value=low, limit=limit, sentence=said)


def _calibration(candidate: Evaluation, limits: Limits) -> Check:
    if candidate.task is Task.REGRESSION:
        return _bias(candidate, limits)
    beyond = dict(_beyond_chance(candidate))
    if not beyond:
        return _unknown("calibration", limits.calibration, "No calibration error can be judged.")
    mean = sum(beyond.values()) / len(beyond)
    worst = max(beyond, key=beyond.__getitem__)
    return Check(
        name="calibration",
        passed=mean <= limits.calibration,
        value=mean,
        limit=limits.calibration,
        sentence=(
            f"The calibration error is {candidate.figure('ECE')}, {rounded(mean)} beyond what so"
            f" many recordings show by chance; {limits.calibration:g} is allowed. Farthest off is"
            f" {name_of(worst)}, by {rounded(beyond[worst])}."
        ),
    )


def _beyond_chance(candidate: Evaluation) -> Iterator[tuple[str, float]]:
    for item in candidate.keys:
        error = item.figures["ECE"].value
        if error is not None and item.chance_ece is not None:
            yield item.key, error - item.chance_ece


def _bias(candidate: Evaluation, limits: Limits) -> Check:
    bias, error = candidate.figure("bias").value, candidate.figure("MAE").value
    if bias is None or error is None:
        return _unknown("calibration", None, "No bias can be judged.")
    limit = limits.bias * error
    return Check(
        name="calibration",
        passed=abs(bias) <= limit,
        value=abs(bias),
        limit=limit,
        sentence=f"The bias is {rounded(bias)}; {rounded(limit)} in either direction is allowed.",
    )


def _subgroups(candidate: Evaluation, limits: Limits) -> Check:
    gaps = [(_gap(part, candidate), part) for part in candidate.subgroups]
    known = [(gap, part) for gap, part in gaps if gap is not None]
    limit = limits.subgroup_error if candidate.task is Task.REGRESSION else limits.subgroup
    if not known:
        return _unknown("subgroups", limit, "No part of the recordings can be judged by itself.")
    gap, worst = max(known, key=lambda pair: pair[0])
    figure = worst.macro[candidate.leading]
    unjudged = len(gaps) - len(known)
    return Check(
        name="subgroups",
        passed=gap <= limit,
        value=gap,
        limit=limit,
        sentence=(
            f"Of {len(known)} parts of the recordings {worst.by} {worst.name} does worst:"
            f" {candidate.leading} {figure} against {worst.everyone:.3f} for everyone, shown to be"
            f" worse by {max(0.0, gap):.3f}; {limit:g} is allowed."
            + (f" {unjudged} more are too small to be judged." if unjudged else "")
        ),
    )


def _gap(part: Subgroup, candidate: Evaluation) -> float | None:
    """Return by how much the better end of a part's interval is worse than everyone."""
    figure = part.macro[candidate.leading]
    if figure.low is None or figure.high is None or part.everyone is None:
        return None
    if candidate.task is Task.REGRESSION:
        return figure.low / part.everyone - 1 if part.everyone else 0.0
    return part.everyone - figure.high


def _parity(parity: Parity | None) -> Check:
    if parity is None:
        return _unknown("parity", TOLERANCE, "Torch and ONNX Runtime were not compared.")
    return Check(
        name="parity",
        passed=parity.difference <= TOLERANCE and not parity.flipped and parity.records > 0,
        value=parity.difference,
        limit=TOLERANCE,
        sentence=(
            f"On {parity.records} recordings torch and ONNX Runtime differ by at most"
            f" {parity.difference:.1e} and in {parity.flipped} decisions; {TOLERANCE:g} and none"
            " are allowed."
        ),
    )


def _self_test(passed: bool | None) -> Check:  # noqa: FBT001 - None is an answer too
    if passed is None:
        return _unknown("self-test", 1.0, "The package was not loaded.")
    sentence = (
        "The package, loaded as the node loads it, gives the answers that it was packed with."
        if passed
        else "The package does not give the answers that it was packed with."
    )
    return Check(name="self-test", passed=passed, value=float(passed), limit=1.0, sentence=sentence)


def _separation(separation: Separation | None) -> Check:
    if separation is None:
        return _unknown("patients apart", 0.0, "Who taught and who judges was not compared.")
    shared = separation.shared_patients + separation.shared_recordings
    return Check(
        name="patients apart",
        passed=shared == 0,
        value=float(shared),
        limit=0.0,
        sentence=(
            f"Of {separation.learned_patients} patients who taught and"
            f" {separation.tested_patients} who judge, {separation.shared_patients} are the same,"
            f" and {separation.shared_recordings} recordings by their content; none may be"
            f" (SHA-256 of the pseudonyms {separation.learned[:12]} and"
            f" {separation.tested[:12]})."
        ),
    )


def _unknown(name: str, limit: float | None, sentence: str) -> Check:
    return Check(name=name, passed=False, value=None, limit=limit, sentence=sentence)


def _listed(keys: Sequence[str], most: int = 6) -> str:
    rest = len(keys) - most
    return ", ".join(map(name_of, keys[:most])) + (f" and {rest} more" if rest > 0 else "")
