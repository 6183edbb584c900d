"""The second page: what the statements rest on.

Median beats with the marks of their waves, a rhythm strip with its beats, every measurement and
every finding. Statements bear numbers, and the leads that carried one bear them too.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from analysis.ecg import Lead
from analysis.paper import complexes, strip, wording
from analysis.paper.carried import Shown, shown
from analysis.paper.lettering import fit, width, wrap
from analysis.paper.page import QUIET, RULE, Grid, Item, Line, Page, Rect, Text, Trace
from analysis.paper.tables import draw_tables
from analysis.paper.tracing import LEFT, WIDTH
from analysis.result import Result, Statement

_WIDTH: Final = 297.0
_HEIGHT: Final = 210.0
_RIGHT: Final = LEFT + WIDTH
_BANNER: Final = 160.0
_TOP: Final = 36.0
_STRIPS: Final = 110
_FOOT: Final = 199.5
_STATEMENTS, _PER_COLUMN = 6, 3
_HALF: Final = WIDTH / 2


def compose_evidence(result: Result, version: str) -> Page:
    """Return the page of evidence; ``version`` is that of the program that asks for it."""
    statements = result.statements if wording.is_diagnostic(result) else ()
    carried = shown(result, statements[:_STATEMENTS])
    upper = complexes.height(result)
    scale, beats = complexes.draw_complexes(result, _numbers(statements), carried.beat, _TOP)
    most = (_STRIPS - upper) // strip.HEIGHT
    strips = strip.draw_strips(result, carried.rhythm, _TOP + upper, most)
    below = upper + strips.height
    items: list[Item] = [
        *_heading(result),
        *_statements(result, statements),
        *beats,
        *strips.items,
        *_caption(result, _TOP + below + 3.8, scale, strips, carried),
        *draw_tables(result, _TOP + below + 8.6, _FOOT - 0.5),
        *_small_print(result, version),
    ]
    drawn: dict[type, list[Any]] = {kind: [] for kind in (Rect, Line, Trace, Text)}
    for item in items:
        drawn[type(item)].append(item)
    return Page(
        width=_WIDTH,
        height=_HEIGHT,
        title="ECG",
        grid=Grid(LEFT, _TOP, WIDTH, below),
        rects=tuple(drawn[Rect]),
        lines=tuple(drawn[Line]),
        traces=tuple(drawn[Trace]),
        texts=tuple(drawn[Text]),
    )


def _numbers(statements: Sequence[Statement]) -> dict[Lead, list[int]]:
    """Return the numbers of the statements that rest on a lead."""
    numbers: dict[Lead, list[int]] = {}
    for number, statement in enumerate(statements[:_STATEMENTS], 1):
        for lead in statement.leads:
            numbers.setdefault(lead, []).append(number)
    return numbers


def _heading(result: Result) -> Iterator[Item]:
    recording = result.recording
    patient = recording.patient
    room = _BANNER - 6 - LEFT
    name = wrap(wording.person_name(patient.name), room, 11, bold=True)[0]
    yield Text(LEFT, 12.5, name, 11, bold=True)
    yield Text(LEFT, 17.0, fit(f"ID {patient.identifier or 'not stated'}", room, 8.5), 8.5)
    said = f"{wording.person(patient)} · {wording.acquired(recording.acquisition)}"
    yield Text(LEFT, 21.2, fit(said, room, 8.5), 8.5)
    yield Rect(_BANNER, 8.0, _RIGHT - _BANNER, 5.0)
    yield Text(_BANNER + 1.5, 11.4, wording.SAFETY, 8, bold=True)
    yield Text(_BANNER, 17.6, "Evidence: what was measured, and where", 10, bold=True)
    yield Text(_RIGHT, 17.6, "page 2 of 2", 8.5, anchor="end")
    quality = fit(wording.quality(result.quality), _RIGHT - _BANNER, 7.5)
    yield Text(_BANNER, 21.4, quality, 7.5, colour=QUIET)
    yield Line(LEFT, 22.8, _RIGHT, 22.8, 0.15, RULE)


def _statements(result: Result, statements: Sequence[Statement]) -> Iterator[Item]:
    """Yield the numbered statements with their evidence and leads, or why there are none."""
    if not statements:
        yield Text(LEFT, 26.6, fit(wording.overall(result), WIDTH, 8.5, bold=True), 8.5, bold=True)
        return
    left = len(statements) - _STATEMENTS
    for place, statement in enumerate(statements[:_STATEMENTS]):
        column, row = divmod(place, _PER_COLUMN)
        x, y = LEFT + column * _HALF, 26.6 + row * 3.9
        last = left > 0 and place == _STATEMENTS - 1
        more = f"  (+ {left} more in the report)" if last else ""
        end = x + _HALF - 3 - width(more, 8)
        yield from complexes.numbered(x, y, place + 1)
        text = fit(statement.text, end - x - 14, 8, bold=True)
        yield Text(x + 4.5, y, text, 8, bold=True)
        start = x + 6 + width(text, 8, bold=True)
        evidence = "; ".join(statement.evidence)
        said = fit(f"— {evidence}", end - start, 8) if evidence else ""
        yield Text(start, y, said + more, 8)


def _caption(
    result: Result, y: float, scale: str, strips: strip.Strips, carried: Shown
) -> Iterator[Text]:
    """Yield the scales, and how shades, lines and marks are to be read."""
    scales = "      ".join(filter(None, (scale, strips.scale)))
    yield Text(LEFT, y, scales, 8.5, bold=True)
    grey = fit(carried.legend, WIDTH - width(scales, 8.5, bold=True) - 4, 6.8)
    yield Text(_RIGHT, y, grey, 6.8, colour=QUIET, anchor="end")
    beats = len(result.leads.beats) or "the"
    said = (
        f"Median of {beats} dominant beats, 0.4–80 Hz, level at the QRS onset; "
        "lines: onsets and offsets over all leads; ticks: peaks of the lead."
    )
    notes = [said if scale else "", f"Rhythm: {strips.legend}." if strips.legend else ""]
    line = fit("   ".join(filter(None, notes)), WIDTH, 6.8)
    yield Text(LEFT, y + 3.3, line, 6.8, colour=QUIET)


def _small_print(result: Result, version: str) -> Iterator[Text]:
    program = fit(f"Sinusnode {version}", 60, 7)
    spoke = wrap(wording.models(result.models), WIDTH - 65, 7, most=2)
    yield from (
        Text(LEFT, _FOOT + 2.6 + 2.9 * number, line, 7, colour=QUIET)
        for number, line in enumerate(spoke)
    )
    yield Text(_RIGHT, _FOOT + 2.6, program, 7, colour=QUIET, anchor="end")
