"""Bare tables: one column for each lead, and nothing known that is not said.

A table says its leads, unit and rate in its header, in a time column or in metadata; or the
caller states them. What neither says is refused with the option that states it; where both say
it, they must agree. Amplitudes are never looked at.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import Channel, Strip, recording
from analysis.formats.common import MILLIVOLTS, is_other_signal, lead_from_text
from analysis.formats.content import Content, Stated

MAX_COLUMNS: Final = 1000

_Array = npt.NDArray[np.generic]
_Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table and what it says of itself.

    Parameters
    ----------
    columns
        ``(columns, samples)``, or either way round where no names say what is a column; NaN
        where a cell is empty.
    format
        Name of the encoding.
    names
        Of the columns, with their unit if it stands there: ``"I"``, ``"I (mV)"``, ``"time (s)"``.
    unit
        Of all columns that do not say theirs.
    rate
        Hz.
    """

    columns: _Array = field(repr=False)
    format: str
    names: Sequence[str] | None = None
    unit: str | None = None
    rate: float | None = None


def table_recording(table: Table, stated: Stated) -> Recording:
    """Return the ECG of a table.

    Raises
    ------
    Undecodable
        NO_LEADS, NO_SCALE or NO_RATE where nobody says it; AMBIGUOUS where two sayings differ.
    """
    columns, times = _parted(table, stated.leads)
    names = _names([column.name for column in columns], stated.leads)
    units = [_unit(column.unit or table.unit, stated.unit) for column in columns]
    rate = _rate(table, times, stated.sampling_frequency)
    _require(
        leads=any(lead_from_text(name) or is_other_signal(name) for name in names),
        unit=all([u for n, u in zip(names, units, strict=True) if lead_from_text(n)] or units),
        rate=rate is not None,
    )
    channels = [
        _channel(name, column.samples, unit)
        for name, unit, column in zip(names, units, columns, strict=True)
    ]
    return recording(Strip(channels, rate), format=table.format)


def _channel(name: str, samples: _Array, unit: str | None) -> Channel:
    """Return a column in µV: a table tells its unit and not its resolution."""
    factor = MILLIVOLTS.get(unit or "")
    if factor is None:
        return Channel(name, samples, None)
    step = MILLIVOLTS["uV"]
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged number may be anything
        return Channel(name, np.asarray(samples, np.float64) * (factor / step), step)


# What is said, and whether it agrees


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    name: str
    unit: str | None
    samples: _Array = field(repr=False)


_UNIT: Final = re.compile(r"(.+?)[ _]*[(\[/,_ ][ ]*(nV|uV|uv|µV|μV|mV|mv|V)[ ]*[)\]]?")
_TIME: Final = re.compile(
    r"(?:elapsed|relative)?[ _]*(?:time|zeit|temps|tiempo|t)?[ _]*[(\[/]?[ ]*"
    r"(s|secs?|seconds?|ms|milliseconds?|us|µs|)[ ]*[)\]]?",
    re.IGNORECASE,
)
_EVEN: Final = 1e-7
"""Of a step: what float64 may be off."""
_COARSE: Final = 0.5
"""Hz: times so coarse leave several whole numbers to choose from."""
_SECONDS: Final = {"s": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6}


def _parted(table: Table, stated: Sequence[str] | None) -> tuple[list[_Column], _Matrix | None]:
    """Return the columns of samples, and the times in seconds where a column has them."""
    if table.names is None:
        return [_Column("", None, samples) for samples in _oriented(table, stated)], None
    if len(table.names) != len(table.columns):
        raise Undecodable(Reason.AMBIGUOUS, "The header has more or fewer names than columns.")
    columns: list[_Column] = []
    times: _Matrix | None = None
    for name, samples in zip(table.names, table.columns, strict=True):
        match = _TIME.fullmatch(name.strip()) if name.strip() else None
        if match and lead_from_text(name) is None:
            factor = _SECONDS.get(match[1][:1].lower())
            times = times if factor is None else samples * factor
        else:
            columns.append(_column(name, samples))
    return columns, times


def _oriented(table: Table, stated: Sequence[str] | None) -> _Array:
    """Return a table without names as ``(leads, samples)``: the leads stated tell which is which.

    Raises
    ------
    Undecodable
        AMBIGUOUS where no axis or each is as long as their list.
    """
    matrix = np.atleast_2d(table.columns)
    if stated is None:
        return matrix[:1]
    rows, columns = (length == len(stated) for length in matrix.shape)
    if rows == columns:
        raise Undecodable(
            Reason.AMBIGUOUS,
            f"{len(stated)} leads are stated and the table is {matrix.shape[0]} × "
            f"{matrix.shape[1]}; state one name for each lead.",
        )
    return matrix if rows else matrix.T


def _column(name: str, samples: _Array) -> _Column:
    match = _UNIT.fullmatch(name.strip())
    return _Column(match[1], match[2], samples) if match else _Column(name, None, samples)


def _names(said: Sequence[str], stated: Sequence[str] | None) -> Sequence[str]:
    if stated is None:
        return said
    if len(stated) != len(said):
        raise Undecodable(
            Reason.AMBIGUOUS,
            f"{len(stated)} leads are stated and the table has {len(said)} columns of samples.",
        )
    for name, other in zip(said, stated, strict=True):
        lead = lead_from_text(name)
        if lead is not None and lead is not lead_from_text(other):
            raise _contradiction("leads")
    return stated


def _unit(said: str | None, stated: str | None) -> str | None:
    if said and stated and MILLIVOLTS.get(said) != MILLIVOLTS.get(stated):
        raise _contradiction("unit")
    return said or stated


def _rate(table: Table, times: _Matrix | None, stated: float | None) -> float | None:
    """Return the rate in Hz that is stated, is said, or follows from the times; all must agree."""
    rate = table.rate if stated is None else stated
    if table.rate is not None and rate != table.rate:
        raise _contradiction("sampling frequency")
    if times is None:
        return rate
    counted, tolerance = _counted(times)
    if rate is None:
        return counted if tolerance < _COARSE else None
    if abs(rate - counted) > tolerance + counted / times.size:
        raise _contradiction("sampling frequency")
    return rate


def _counted(times: _Matrix) -> tuple[float, float]:
    """Return the rate in Hz of times in seconds, and how far off their last digit leaves it.

    Times that differ by the same step throughout leave it nowhere. The whole number within what
    is left, if there is one, is what was meant.
    """
    steps = times - times[:1]
    rate = (times.size - 1) / steps[-1] if times.size > 1 and steps[-1] > 0 else 0.0
    if not rate or not np.all(np.abs(steps * rate - np.arange(times.size)) < 0.5):  # noqa: PLR2004 - sample
        raise Undecodable(Reason.AMBIGUOUS, "The times of the table are not evenly spaced.")
    digit = next((10.0**-d for d in range(10) if _has_digits(times, d)), 0.0)
    if np.ptp(np.diff(steps)) * rate < _EVEN:
        digit = 0.0
    tolerance = rate * digit / steps[-1] + rate * _EVEN / times.size
    whole = float(round(rate))
    return whole if abs(rate - whole) <= tolerance else float(rate), float(tolerance)


def _has_digits(times: _Matrix, digits: int) -> bool:
    scaled = times * 10.0**digits
    return bool(np.all(np.abs(scaled - np.rint(scaled)) < 1e-6))  # noqa: PLR2004 - of a digit


def _require(*, leads: bool = True, unit: bool = True, rate: bool = True) -> None:
    """Refuse a table of which something is neither said nor stated; name each option."""
    unsaid = [
        (reason, what, option)
        for known, reason, what, option in (
            (unit, Reason.NO_SCALE, "unit", "--unit uV"),
            (rate, Reason.NO_RATE, "sampling frequency", "--rate 500"),
            (leads, Reason.NO_LEADS, "leads", "--leads I,II,…"),
        )
        if not known
    ]
    if unsaid:
        reasons, whats, options = zip(*unsaid, strict=True)
        raise Undecodable(
            reasons[0],
            f"The table does not say its {' and '.join(whats)}: state {' '.join(options)}.",
        )


def _contradiction(what: str) -> Undecodable:
    return Undecodable(Reason.AMBIGUOUS, f"Two statements of the {what} contradict each other.")


# Text: CSV, TSV and columns between blanks

_HEAD: Final = 2**16
_PREAMBLE: Final = 100
"""Lines that may stand before the samples."""
_DELIMITERS: Final = {";": "CSV", "\t": "TSV", ",": "CSV", "": "text table"}
"""An empty one stands for blanks."""
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?")
_ABSENT: Final = re.compile(r"\b(?:NaN|NA|N/A|null|None)\b", re.IGNORECASE)


def recognises(data: bytes) -> bool:
    """Return whether the bytes are text in which a line of numbers follows few other lines."""
    text = _decoded(data[:_HEAD])
    if text.lstrip()[:1] in tuple("{[<") or _CONTROL.search(text):
        return False
    return _layout(text) is not None


def read(content: Content) -> Recording:
    """Return the ECG of a CSV, a TSV or a table between blanks.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    return table_recording(_table(content), content.stated)


def _table(content: Content) -> Table:
    text = _decoded(content.data)
    layout = _layout(text)
    if layout is None:
        raise Undecodable(Reason.NO_WAVEFORM, "The table holds no numbers.")
    first, delimiter = layout
    *above, body = text.split("\n", first)
    matrix = _numbers(body, delimiter)
    count = matrix.shape[1]
    names = _header(above, delimiter, count)
    if names is None and count > 1 and np.ptp(matrix[0] - np.arange(count)) == 0:
        raise Undecodable(
            Reason.AMBIGUOUS, "The first line counts the columns and is no sample; take it out."
        )
    return Table(columns=matrix.T, format=_DELIMITERS[delimiter], names=names)


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _layout(text: str) -> tuple[int, str] | None:
    """Return the number of the first line of nothing but numbers, and what parts its cells."""
    for first, line in enumerate(text.split("\n", _PREAMBLE)[:_PREAMBLE]):
        delimiter = next(delimiter for delimiter in _DELIMITERS if delimiter in line)
        cells = _cells(line, delimiter)
        if any(cells) and all(map(_is_number, cells)):
            return first, delimiter
    return None


def _cells(line: str, delimiter: str) -> list[str]:
    cells = line.split(delimiter) if delimiter else line.split()
    return [cell.strip(" \t\r\"'") for cell in cells]


def _is_number(cell: str) -> bool:
    return not cell or bool(_NUMBER.fullmatch(cell) or _ABSENT.fullmatch(cell))


def _header(above: Sequence[str], delimiter: str, count: int) -> Sequence[str] | None:
    """Return the names of the columns, with their units where a second line has them."""
    rows = [
        _cells(line.lstrip("#% "), delimiter) if count > 1 else [line.strip("#% \t\r\"'")]
        for line in above
        if line.strip()
    ]
    rows = [row for row in rows if len(row) == count]
    if any(_NUMBER.fullmatch(cell) for row in rows for cell in row):
        raise Undecodable(Reason.DAMAGED, "A line before the samples holds numbers among words.")
    if len(rows) > 1 and any(cell in MILLIVOLTS for cell in rows[-1]):
        return [f"{name} ({unit})" for name, unit in zip(*rows[-2:], strict=True)]
    return rows[-1] if rows else None


def _numbers(body: str, delimiter: str) -> _Matrix:
    """Return ``(samples, columns)``, NaN for cells that are empty or say so.

    Raises
    ------
    Undecodable
        DAMAGED where a cell is no number or a line is longer than the others.
    """
    if len(_cells(body.partition("\n")[0], delimiter)) > MAX_COLUMNS:
        raise Undecodable(Reason.TOO_LARGE, "The table has more columns than any ECG.")
    if delimiter != "," and "," in body:
        if "." in body:
            raise Undecodable(Reason.AMBIGUOUS, "The numbers have both points and commas.")
        body = body.replace(",", ".")
    lines = _tidied(body, delimiter).split("\n")
    if "" in lines:
        raise Undecodable(Reason.DAMAGED, "A line between the samples is empty.")
    try:
        matrix = np.loadtxt(
            lines, delimiter=delimiter or None, comments=None, quotechar='"', ndmin=2
        )
    except ValueError:
        raise Undecodable(
            Reason.DAMAGED, "A line of the table is longer or shorter, or a cell is no number."
        ) from None
    if np.isinf(matrix).any():
        raise Undecodable(Reason.DAMAGED, "A cell of the table is infinite.")
    return matrix


def _tidied(body: str, delimiter: str) -> str:
    """Return the lines without blanks around cells, and with NaN in those that are empty."""
    lines = body.replace("\r", "").strip("\n ")
    if "n" in lines or "N" in lines:
        lines = _ABSENT.sub("nan", lines)
    if not delimiter:
        return re.sub(r"[ \t]+\n", "\n", lines)
    edge = re.escape(delimiter)
    if " " in lines:
        lines = re.sub(f" *{edge} *", delimiter, lines)
    pairs = (2 * delimiter, f"{delimiter}\n", f"\n{delimiter}")
    if any(pair in f"\n{lines}\n" for pair in pairs):
        lines = re.sub(f"(?:^|(?<={edge}))(?={edge}|$)", "nan", lines, flags=re.MULTILINE)
    return lines
