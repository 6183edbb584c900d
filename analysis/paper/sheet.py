"""The sheet: A4 landscape with the heading above the tracing and the small print below it."""

from collections.abc import Iterator
from typing import Final

from analysis.ecg import Recording
from analysis.paper import wording
from analysis.paper.lettering import REPLACEMENT, fit, printable, width, wrap
from analysis.paper.page import QUIET, RULE, Line, Page, Rect, Text
from analysis.paper.tracing import GAIN, HEIGHT, LEFT, SPEED, TOP, WIDTH, draw_tracing
from analysis.result import Measurements, Result

_WIDTH: Final = 297.0
_HEIGHT: Final = 210.0
_RIGHT: Final = LEFT + WIDTH
_HEAD: Final = 10.0
_MEASUREMENTS: Final = 94.0
_STATEMENTS: Final = 160.0
_MOST_STATEMENTS: Final = 5


def compose(result: Result, version: str) -> Page:
    """Return the sheet of a result; ``version`` is that of the program that asks for it."""
    recording = result.recording
    tracing = draw_tracing(recording.ecg, result.quality)
    heading = [
        *_identity(recording),
        *_measurements(result.measurements),
        *_judgement(result),
    ]
    if any(REPLACEMENT in text.text for text in heading):
        meaning = f"{REPLACEMENT} = a character that this page cannot print"
        heading.append(Text(LEFT, TOP - 2, meaning, 7, colour=QUIET))
    return Page(
        width=_WIDTH,
        height=_HEIGHT,
        title="ECG",
        grid=tracing.grid,
        rects=(Rect(_STATEMENTS, _HEAD - 2, _RIGHT - _STATEMENTS, 5),),
        lines=(
            Line(_MEASUREMENTS - 4, _HEAD - 2, _MEASUREMENTS - 4, TOP - 4, 0.15, RULE),
            Line(_STATEMENTS - 4, _HEAD - 2, _STATEMENTS - 4, TOP - 4, 0.15, RULE),
            *tracing.lines,
        ),
        traces=tracing.traces,
        texts=(*heading, *tracing.texts, *_small_print(result, version, tracing.notes)),
    )


def _identity(recording: Recording) -> Iterator[Text]:
    patient, acquisition = recording.patient, recording.acquisition
    room = _MEASUREMENTS - 8 - LEFT
    y = _HEAD + 2.5
    for line in wrap(wording.person_name(patient.name), room, 13, bold=True, most=2):
        yield Text(LEFT, y, line, 13, bold=True)
        y += 5.5
    for line in wrap(f"ID {patient.identifier or 'not stated'}", room, 9.5, most=3):
        yield Text(LEFT, y, line, 9.5)
        y += 4.6
    for said in (wording.person(patient), wording.acquired(acquisition)):
        yield Text(LEFT, y, fit(said, room, 8.5), 8.5)
        y += 4.4
    yield Text(LEFT, y, fit(wording.device(acquisition), room, 8.5), 8.5, colour=QUIET)


def _measurements(meas: Measurements) -> Iterator[Text]:
    y = _HEAD + 2.0
    for label, value, remark in wording.measurement_lines(meas):
        x = _MEASUREMENTS + 27
        yield Text(_MEASUREMENTS, y, label, 8.5, colour=QUIET)
        yield Text(x, y, value, 9.5, bold=True)
        x += width(value, 9.5, bold=True) + 2
        said = printable(remark)
        if width(said, 7) <= _STATEMENTS - 6 - x:
            yield Text(x, y, said, 7, colour=QUIET)
        y += 5.6


def _judgement(result: Result) -> Iterator[Text]:
    """Yield the AI's part: banner, headline, statements, quality, what was not assessed."""
    room = _RIGHT - _STATEMENTS
    yield Text(_STATEMENTS + 1.5, _HEAD + 1.4, wording.SAFETY, 8, bold=True)
    y = _HEAD + 8.5
    for line in wrap(wording.overall(result), room, 11, bold=True, most=2):
        yield Text(_STATEMENTS, y, line, 11, bold=True)
        y += 4.6
    if wording.is_diagnostic(result):
        for text in _statements(result, y):
            yield text
            y = text.y + 4.0
    else:
        for line in wrap(result.quality.caution, room, 8.5, bold=True, most=2):
            yield Text(_STATEMENTS, y, line, 8.5, bold=True)
            y += 4.0
    for line in wrap(wording.quality(result.quality), room, 7.5, most=2):
        yield Text(_STATEMENTS, y, line, 7.5, colour=QUIET)
        y += 3.3
    yield from _not_assessed(result.not_assessed, y)


def _statements(result: Result, y: float) -> Iterator[Text]:
    shown = result.statements[:_MOST_STATEMENTS]
    left = len(result.statements) - len(shown)
    for number, line in enumerate(shown, 1):
        evidence = "; ".join(line.evidence)
        more = f"   (+ {left} more in the report)" if left and number == len(shown) else ""
        room = _RIGHT - _STATEMENTS - 10 - width(more, 8.5)
        text = fit(line.text, room, 8.5, bold=True)
        x = _STATEMENTS + 5 + width(text, 8.5, bold=True)
        said = fit(f"— {evidence}", _RIGHT - x - width(more, 8.5), 8.5) if evidence else ""
        yield Text(_STATEMENTS, y, f"{number}", 8.5, colour=QUIET)
        yield Text(_STATEMENTS + 4, y, text, 8.5, bold=True)
        yield Text(x, y, said + more, 8.5)
        y += 4.0


def _not_assessed(sentences: tuple[str, ...], y: float) -> Iterator[Text]:
    """Yield as many sentences as there is room for, and how many are left."""
    room = max(1, int((TOP - 2.5 - y) / 3.1) + 1)
    shown = sentences if len(sentences) <= room else sentences[: room - 1]
    lines = list(shown)
    if len(shown) < len(sentences):
        lines.append(f"Not assessed: {len(sentences) - len(shown)} more, listed in the report")
    for line in lines:
        yield Text(_STATEMENTS, y, fit(line, _RIGHT - _STATEMENTS, 7), 7, colour=QUIET)
        y += 3.1


def _small_print(result: Result, version: str, notes: tuple[str, ...]) -> Iterator[Text]:
    filters = wording.filters(result.recording.acquisition)
    scale = f"{SPEED:g} mm/s   {GAIN:g} mm/mV   {filters}"
    said = " · ".join(note for note in (*notes, wording.derived(result.recording)) if note)
    program = fit(f"Sinusnode {version}", 60, 7)
    y = TOP + HEIGHT + 4.5
    yield Text(LEFT, y, scale, 9, bold=True)
    room = WIDTH - width(scale, 9, bold=True) - 8
    yield Text(_RIGHT, y, fit(said, room, 7), 7, colour=QUIET, anchor="end")
    spoke = wrap(wording.models(result.models), WIDTH - 65, 7, most=2)
    yield from (
        Text(LEFT, y + 4.5 + 3.3 * number, line, 7, colour=QUIET)
        for number, line in enumerate(spoke)
    )
    yield Text(_RIGHT, y + 4.5, program, 7, colour=QUIET, anchor="end")
