"""The tables: every measurement, and every finding with what it rests on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from analysis.paper import wording
from analysis.paper.lettering import fit, wrap
from analysis.paper.page import QUIET, RULE, Item, Line, Text
from analysis.paper.tracing import LEFT, WIDTH
from analysis.result import Finding, Origin, Result

_SIZE: Final = 6.4
_PITCH: Final = 2.66
_HEAD: Final = 3.9
_MEASUREMENTS: Final = (0.0, 42.0)
_FINDINGS: Final = (84.0, 142.5, 201.0)
_UNMEASURED: Final = 80.0
_ENDS: Final = (141.0, 199.5, WIDTH)
_VALUE: Final = 24.5
_SIGNS: Final[Mapping[bool | None, str]] = {True: "+", False: "–", None: "?"}

_KEY: Final = {True: "present, bold if stated", False: "not present", None: "not assessed"}

Row = tuple[str, str, bool]


def draw_tables(result: Result, top: float, bottom: float) -> Iterator[Item]:
    """Yield the measurements on the left and the findings on the right."""
    rows = max(1, int((bottom - top - _HEAD) / _PITCH))
    yield Text(LEFT, top + 2.6, "Measurements", 7.5, bold=True)
    yield from _measurements(result, top + _HEAD, rows)
    x = LEFT + _FINDINGS[0]
    yield Text(x, top + 2.6, "Findings", 7.5, bold=True)
    key = ",  ".join(f"{_SIGNS[state]} {words}" for state, words in _KEY.items())
    key += ";  of models: probability / threshold"
    yield Text(x + 15, top + 2.6, key, 7, colour=QUIET)
    yield Line(x - 2, top, x - 2, bottom, 0.15, RULE)
    yield from _findings(result, top + _HEAD, rows)


def _measurements(result: Result, top: float, rows: int) -> Iterator[Text]:
    """Yield what was measured in two columns, and below them what was not and why."""
    listed = list(result.measurements.quantities())
    known = [(name, quantity) for name, quantity in listed if quantity.value is not None]
    deep = -(-len(known) // len(_MEASUREMENTS))
    for place, (name, quantity) in enumerate(known):
        column, row = divmod(place, deep)
        x, y = LEFT + _MEASUREMENTS[column], top + (row + 0.8) * _PITCH
        yield Text(x, y, wording.measurement_name(name), _SIZE, colour=QUIET)
        yield Text(x + _VALUE, y, wording.value(quantity)[0], _SIZE, bold=True)
    unknown: dict[str, list[str]] = {}
    for name, quantity in listed:
        if quantity.reason is not None:
            unknown.setdefault(quantity.reason, []).append(wording.measurement_name(name))
    said = "; ".join(f"{', '.join(names)} ({why})" for why, names in unknown.items())
    if said and deep < rows:
        lines = wrap(f"Not measured: {said}", _UNMEASURED, _SIZE, most=rows - deep)
        yield from (
            Text(LEFT, top + (row + 0.8) * _PITCH, line, _SIZE)
            for row, line in enumerate(lines, deep)
        )


def _findings(result: Result, top: float, rows: int) -> Iterator[Text]:
    listed = list(_listed(result))
    room = rows * len(_FINDINGS)
    if len(listed) > room:
        left = len(listed) - room + 1
        listed = [*listed[: room - 1], ("", f"+ {left} more in the structured report", False)]
    for place, (sign, said, bold) in enumerate(listed):
        column, row = divmod(place, rows)
        x, y = LEFT + _FINDINGS[column], top + (row + 0.8) * _PITCH
        wide = LEFT + _ENDS[column] - x
        line = f"{sign}  {said}" if sign else said
        yield Text(x, y, fit(line, wide, _SIZE, bold=bold), _SIZE, bold=bold)


def _listed(result: Result) -> Iterator[Row]:
    """Yield sign, words and weight of each row: for each origin a title, then its findings.

    Bold is what is stated; a poor ECG has no findings, and Normal is one only if it is said.
    """
    if not wording.is_diagnostic(result):
        yield _SIGNS[None], "Every finding: the ECG is non-diagnostic", False
        return
    stated = {statement.key for statement in result.statements}
    for title, findings in _by_origin(result):
        yield "", title, True
        for finding in sorted(findings, key=_order):
            if finding.key == "normal" and finding.present and "normal" not in stated:
                yield _SIGNS[None], f"{finding.name}:  not said, not all was assessed", False
            else:
                said = bool(finding.present) and finding.key in stated
                yield _SIGNS[finding.present], _said(finding), said


def _by_origin(result: Result) -> Iterator[tuple[str, Sequence[Finding]]]:
    for model in result.models:
        spoke = [f for f in result.findings if f.model == model.name]
        if spoke:
            yield f"{model.name} {model.version}", spoke
    named = {model.name for model in result.models}
    if others := [f for f in result.findings if _by_no_model(f, named)]:
        yield "Published criteria", others


def _by_no_model(finding: Finding, named: set[str]) -> bool:
    return finding.origin is Origin.CRITERIA or finding.model not in named


def _order(finding: Finding) -> int:
    return (True, None, False).index(finding.present)


def _said(finding: Finding) -> str:
    """Return a finding with what it rests on: its probability, its numbers, or why not."""
    ground = _ground(finding)
    return f"{finding.name}:  {ground}" if ground else finding.name


def _ground(finding: Finding) -> str:
    if finding.present is None:
        return finding.reason or ""
    if finding.probability is not None:
        limit = "" if finding.threshold is None else f" / {finding.threshold:.2f}"
        return f"{finding.probability:.2f}{limit}"
    return "; ".join(finding.evidence)
