"""MFER (ISO/TS 11073-92001, ISO 22077-1): tagged definitions, then frames of samples.

A definition holds until the next one of its tag. Each channel may have its own; what it has not,
it takes from the definitions for all. A frame is a row of sequences, and each sequence has one
block of samples per channel, so that channels of different rates stand side by side.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from analysis.ecg import Acquisition, Patient, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, at_one_rate, recording
from analysis.formats.content import Content
from analysis.formats.dicom.leads import lead_from_number

_ORDER, _CHARACTERS = 0x01, 0x03
_BLOCK, _CHANNELS, _SEQUENCES, _POINTER = 0x04, 0x05, 0x06, 0x07
_WAVEFORM, _LEAD, _TYPE = 0x08, 0x09, 0x0A
_INTERVAL, _STEP, _OFFSET, _COMPRESSION = 0x0B, 0x0C, 0x0D, 0x0E
_FILTER, _NULL, _INFORMATION, _NOTE, _MAKER = 0x11, 0x12, 0x15, 0x16, 0x17
_SAMPLES, _CHANNEL, _EVENT, _VALUE, _END = 0x1E, 0x3F, 0x41, 0x42, 0x80
_NAME, _IDENTIFIER, _AGE, _SEX, _TIME = 0x81, 0x82, 0x83, 0x84, 0x85
_OF_A_LAYOUT: Final = frozenset(
    {_BLOCK, _CHANNELS, _SEQUENCES, _POINTER, _WAVEFORM, _LEAD, _TYPE, _INTERVAL, _STEP, _OFFSET}
    | {_COMPRESSION, _NULL}
)
_NOT_READ: Final = frozenset({_INFORMATION, _NOTE, _EVENT, _VALUE})

_BEGINS: Final = re.compile(
    rb"\x40.MFR |"
    rb"\x01\x01[\0\x01](?:\x02\x03|[\x03\x17][\x01-\x40]|[\x05\x08][\x01\x02]|\x0b[\x03-\x06])",
    re.DOTALL,
)
"""A preamble, or the byte order and another definition that a file may begin with."""
_FILLER: Final = re.compile(rb"\0*")

_FOR_ALL: Final = -1
"""Stands for the channel of definitions that hold for every channel."""
_MOST_DEFINITIONS: Final = 20_000
_MOST_CHANNELS: Final = 64
_LONGEST_NUMBER: Final = 8
_TYPES: Final = ("i2", "u2", "i4", "u1", "u2", "i1", "u4", "f4", "f8")
_LARGEST: Final = 1e12
"""What no sample of floating point reaches, whatever its unit."""
_STATUS: Final = 4
"""The data type of bits that are no samples."""
_MEDIAN: Final = 9
"""The waveform type of a dominant beat."""
_NO_ECGS: Final = frozenset({5, 25, 26, 30, 31, 40, 41, 42, 43})
"""Waveform types inside the heart, spectra, trends, sounds, pulses and EEG."""
_SHARED_CODES: Final = range(1, 70)
"""Lead codes that MFER has in common with SCP-ECG and MDC."""
_HERTZ, _SECONDS = 0, 1
_VOLTS: Final = 0
_SEXES: Final[Mapping[int, str]] = MappingProxyType({1: "M", 2: "F"})
_CODECS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "utf-16le": "utf-16-le",
        "utf-16be": "utf-16-be",
        "utf-8": "utf-8",
        "iso 8859-1": "latin-1",
        "iso-ir 100": "latin-1",
        "jis x 0201": "shift_jis",
        "rfc 1468": "iso2022_jp",
    }
)


@dataclass(frozen=True, slots=True)
class Definition:
    """One tagged value, with the byte order and the character set that held for it."""

    tag: int
    channel: int
    """From 0, or that of all."""
    content: bytes = field(repr=False)
    order: Literal["big", "little"] = "big"
    codec: str = "latin-1"

    @property
    def number(self) -> int:
        """The value as an unsigned integer. Raises DAMAGED where it is longer than any."""
        if len(self.content) > _LONGEST_NUMBER:
            raise Undecodable(Reason.DAMAGED, f"The value of tag {self.tag:02X} is no number.")
        return int.from_bytes(self.content, self.order)

    @property
    def text(self) -> str:
        """The value as text, without its filling."""
        return self.content.decode(self.codec, "replace").split("\0")[0].strip()

    def part(self, begin: int, end: int | None = None) -> "Definition":
        """Return the same with some of its bytes."""
        return Definition(self.tag, self.channel, self.content[begin:end], self.order, self.codec)


@dataclass(frozen=True, slots=True)
class Layout:
    """One channel of a frame."""

    name: str
    type: str
    """Of the samples, as NumPy names it."""
    block: int
    """Samples in each sequence."""
    rate: float | None
    """Hz."""
    step: float | None
    """mV."""
    null: bytes | None
    """The sample that is none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Samples, and how they stand."""

    layouts: tuple[Layout, ...]
    sequences: int | None
    waveform: int
    placed: bool
    """Whether a pointer says where on the time axis the frame begins."""
    samples: bytes = field(repr=False)


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin like an MFER file."""
    return bool(_BEGINS.match(data))


def read(content: Content) -> Recording:
    """Return the ECG of an MFER file; what was sampled otherwise than most leads is left out.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    definitions = list(_definitions(content.data))
    frames = list(_frames(definitions))
    facts = {definition.tag: definition for definition in reversed(definitions)}
    started = _moment(facts.get(_TIME))
    rhythm, rhythm_notes = _strip([f for f in frames if f.waveform != _MEDIAN], started)
    beats = [frame for frame in frames if frame.waveform == _MEDIAN]
    median, median_notes = _median(beats)
    patient, patient_notes = _patient(facts, started)
    acquisition, filter_notes = _acquisition(definitions, facts, started)
    return recording(
        rhythm,
        format="MFER",
        median=median,
        patient=patient,
        acquisition=acquisition,
        notes=(*rhythm_notes, *median_notes, *patient_notes, *filter_notes, *_left_out(facts)),
    )


def _definitions(data: bytes) -> Iterator[Definition]:
    """Yield the definitions, those of channels after one another. Raises DAMAGED, TOO_LARGE."""
    for count, definition in enumerate(_walk(data, Definition(0, _FOR_ALL, b""))):
        if count >= _MOST_DEFINITIONS:
            raise Undecodable(Reason.TOO_LARGE, "The file has more definitions than any ECG.")
        yield definition


def _walk(data: bytes, state: Definition) -> Iterator[Definition]:
    """Yield the definitions of a file or a channel; the state is the order, texts and channel."""
    at = _after_filler(data, 0)
    while at < len(data) and data[at] != _END:
        tag, (channel, at) = data[at], _channel(data, at, state.channel)
        length, at = _length(data, at)
        if at + length > len(data):
            raise Undecodable(Reason.DAMAGED, "The file is cut short; copy it again.")
        found = Definition(tag, channel, data[at : at + length], state.order, state.codec)
        if tag == _ORDER:
            state = Definition(0, state.channel, b"", _order(found), state.codec)
        elif tag == _CHARACTERS:
            codec = _CODECS.get(found.text.lower(), "latin-1")
            state = Definition(0, state.channel, b"", state.order, codec)
        if tag == _CHANNEL:
            yield from _walk(found.content, found)
        else:
            yield found
        at = _after_filler(data, at + length)


def _after_filler(data: bytes, at: int) -> int:
    match = _FILLER.match(data, at)
    return match.end() if match else at


def _channel(data: bytes, at: int, channel: int) -> tuple[int, int]:
    """Return the channel that a definition is for, and where its length stands."""
    if data[at] != _CHANNEL:
        return channel, at + 1
    if channel != _FOR_ALL:
        raise Undecodable(Reason.DAMAGED, "A channel is defined within a channel.")
    number = 0
    while (at := at + 1) < len(data):
        number = number << 7 | data[at] & 0x7F
        if data[at] < 0x80 or number > _MOST_CHANNELS:  # noqa: PLR2004 - the bit that says more follows
            break
    return number, at + 1


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a length, and where what it counts begins (BER, ISO 8825)."""
    first = data[at] if at < len(data) else 0
    if first < 0x80:  # noqa: PLR2004 - the bit of the long form
        return first, at + 1
    count = first & 0x7F
    if not 0 < count <= 4:  # noqa: PLR2004 - bytes of a length
        raise Undecodable(
            Reason.UNSUPPORTED, "A definition is of indefinite or absurd length, which is not read."
        )
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count


def _order(definition: Definition) -> Literal["big", "little"]:
    return "little" if definition.content == b"\1" else "big"


def _frames(definitions: Sequence[Definition]) -> Iterator[Frame]:
    """Yield the frames, each as the definitions before it say."""
    settings: dict[tuple[int, int], Definition] = {}
    layouts: tuple[Layout, ...] | None = None
    for definition in definitions:
        if definition.tag == _SAMPLES:
            layouts = layouts or tuple(_layouts(settings, definition.order))
            yield _frame(settings, layouts, definition.content)
            settings.pop((_POINTER, _FOR_ALL), None)
        elif definition.tag in _OF_A_LAYOUT:
            layouts = None
            if definition.tag == _CHANNELS:
                settings = {key: its for key, its in settings.items() if key[1] == _FOR_ALL}
            settings[definition.tag, definition.channel] = definition


_Settings = Mapping[tuple[int, int], Definition]


def _find(settings: _Settings, tag: int, channel: int = _FOR_ALL) -> Definition | None:
    """Return what holds for a channel; a definition without content takes it back."""
    for place in (channel, _FOR_ALL):
        found = settings.get((tag, place))
        if found and found.content:
            return found
    return None


def _frame(settings: _Settings, layouts: tuple[Layout, ...], samples: bytes) -> Frame:
    compression = _find(settings, _COMPRESSION)
    if compression and compression.part(0, 2).number:
        raise Undecodable(Reason.UNSUPPORTED, "The samples are compressed, which is not read.")
    if any(tag == _SEQUENCES and channel != _FOR_ALL for tag, channel in settings):
        raise Undecodable(Reason.UNSUPPORTED, "Channels of different sequences are not read.")
    sequences = _find(settings, _SEQUENCES)
    waveform = _find(settings, _WAVEFORM)
    kind = waveform.part(0, 2).number if waveform else 0
    if kind in _NO_ECGS:
        raise Undecodable(Reason.NOT_AN_ECG, f"The waveform (type {kind}) is no surface ECG.")
    return Frame(
        layouts,
        sequences.number if sequences else None,
        kind,
        placed=_find(settings, _POINTER) is not None,
        samples=samples,
    )


def _layouts(settings: _Settings, order: str) -> Iterator[Layout]:
    """Yield the layout of each channel."""
    stated = _find(settings, _CHANNELS)
    count = stated.number if stated else 1
    if not 0 < count <= _MOST_CHANNELS:
        raise Undecodable(Reason.DAMAGED, f"The file counts {count} channels; 1 to 64 are read.")
    for channel in range(count):
        kind = _kind(_find(settings, _TYPE, channel))
        block = _find(settings, _BLOCK, channel)
        null = _find(settings, _NULL, channel)
        _refuse_offset(_find(settings, _OFFSET, channel))
        yield Layout(
            name=_name(settings, channel, count, kind),
            type={"big": ">", "little": "<"}[order] + _TYPES[kind],
            block=block.number if block else 1,
            rate=_rate(_find(settings, _INTERVAL, channel)),
            step=_step(_find(settings, _STEP, channel)),
            null=null.content if null else None,
        )


def _kind(definition: Definition | None) -> int:
    kind = definition.number if definition else 0
    if kind >= len(_TYPES):
        raise Undecodable(Reason.UNSUPPORTED, f"Samples of type {kind} are not read.")
    return kind


def _refuse_offset(definition: Definition | None) -> None:
    if definition and any(definition.content):
        raise Undecodable(
            Reason.UNSUPPORTED,
            "The samples have an offset, and no file to prove its sign is known.",
        )


def _name(settings: _Settings, channel: int, count: int, kind: int) -> str:
    """Return what a channel is called; a lead for all can only be that of a single channel."""
    stated = settings.get((_LEAD, channel)) or (_find(settings, _LEAD) if count == 1 else None)
    if kind == _STATUS:
        return "status"
    if not stated or not stated.content:
        return ""
    code = stated.part(0, 2).number
    lead = lead_from_number(code) if code in _SHARED_CODES else None
    return lead or stated.part(2).text or f"MFER lead {code}"


def _scaled(definition: Definition) -> tuple[int, int, int]:
    """Return unit, exponent of ten and mantissa."""
    unit, exponent = definition.content[0], definition.part(1, 2).content
    return (
        unit,
        int.from_bytes(exponent, signed=True),
        int.from_bytes(definition.content[2:10], definition.order, signed=True),
    )


def _rate(definition: Definition | None) -> float | None:
    """Return the rate of an interval in Hz or seconds, or None where it is another."""
    if definition is None:
        return None
    unit, exponent, mantissa = _scaled(definition)
    if unit == _SECONDS and mantissa:
        return _power(-exponent) / mantissa if exponent <= 0 else 1 / mantissa / _power(exponent)
    return mantissa * _power(exponent) if unit == _HERTZ else None


def _step(definition: Definition | None) -> float | None:
    """Return a resolution in mV, or None where it is no voltage."""
    if definition is None:
        return None
    unit, exponent, mantissa = _scaled(definition)
    if unit != _VOLTS:
        return None
    exponent += 3
    return mantissa * _power(exponent) if exponent >= 0 else mantissa / _power(-exponent)


def _power(exponent: int) -> float:
    return 10.0**exponent


def _strip(frames: Sequence[Frame], start: datetime | None) -> tuple[Strip, tuple[str, ...]]:
    """Return the channels of the frames that stand like the first one, and notes."""
    if not frames:
        raise Undecodable(Reason.NO_WAVEFORM, "The file holds no samples.")
    first = frames[0]
    alike = [frame for frame in frames if frame.layouts == first.layouts]
    if len(frames) > 1 and any(frame.placed for frame in frames):
        raise Undecodable(
            Reason.UNSUPPORTED, "Several frames with a place of their own are not read."
        )
    columns = [_columns(frame) for frame in alike]
    channels = [
        (Channel(layout.name, _samples(layout, parts), layout.step), layout.rate)
        for layout, parts in zip(first.layouts, zip(*columns, strict=True), strict=True)
    ]
    strip, notes = at_one_rate(channels, start)
    others = len(frames) - len(alike)
    left_out = (f"{others} frames of another layout were left out.",) if others else ()
    return strip, (*notes, *left_out)


def _columns(frame: Frame) -> list[npt.NDArray[Any]]:
    """Return the samples of each channel of a frame. Raises DAMAGED where their number differs."""
    size = sum(layout.block * np.dtype(layout.type).itemsize for layout in frame.layouts)
    count = frame.sequences if frame.sequences is not None else len(frame.samples) // max(size, 1)
    if not size or not count or count * size != len(frame.samples):
        raise Undecodable(
            Reason.DAMAGED, "The samples of a frame are fewer or more than the file says."
        )
    record = np.dtype(
        [(str(i), layout.type, (layout.block,)) for i, layout in enumerate(frame.layouts)]
    )
    table = np.frombuffer(frame.samples, record, count)
    return [table[name].reshape(-1) for name in record.names or ()]


def _samples(layout: Layout, parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the samples of a channel, NaN where it has none."""
    samples = np.concatenate(parts) if len(parts) > 1 else parts[0]
    absent = np.zeros(samples.size, np.bool_)
    with np.errstate(invalid="ignore"):
        if samples.dtype.kind == "f":
            absent |= np.isnan(samples)
            if (np.abs(samples) > _LARGEST).any():
                raise Undecodable(Reason.DAMAGED, "A sample is larger than any.")
        if layout.null is not None and len(layout.null) == samples.itemsize:
            absent |= samples == np.frombuffer(layout.null, samples.dtype)
        return np.where(absent, np.nan, samples) if absent.any() else samples


def _median(frames: Sequence[Frame]) -> tuple[Strip | None, tuple[str, ...]]:
    if not frames:
        return None, ()
    return fields.optional(lambda: _strip(frames[:1], None)[0])


def _patient(
    facts: Mapping[int, Definition], started: datetime | None
) -> tuple[Patient, tuple[str, ...]]:
    age = facts.get(_AGE, Definition(_AGE, _FOR_ALL, b""))
    born = _day(age.part(3))
    patient, notes = fields.patient_of(
        age=_years(age),
        birth_date=born.isoformat() if born else "",
        recorded=started,
        sex=_SEXES.get(facts[_SEX].number, "") if _SEX in facts else "",
        identifier=facts[_IDENTIFIER].text if _IDENTIFIER in facts else "",
        name=[facts[_NAME].text] if _NAME in facts else [],
    )
    if born is None and set(age.content[3:7]) - {0, 0xFF}:
        notes = (*notes, "The birth date is impossible; unknown.")
    return patient, notes


def _years(age: Definition) -> float | None:
    """Return whole years; 0 and 255 say that they are not known."""
    years = age.part(0, 1).number
    return float(years) if 0 < years < 0xFF else None  # noqa: PLR2004 - all bits


def _day(definition: Definition) -> date | None:
    with suppress(ValueError, IndexError, OverflowError):
        return date(definition.part(0, 2).number, definition.content[2], definition.content[3])
    return None


def _moment(definition: Definition | None) -> datetime | None:
    """Return when the recording began: date and time, then ms and µs where they are stated."""
    if definition is None or (day := _day(definition)) is None:
        return None
    with suppress(ValueError, TypeError):
        hour, minute, second = definition.content[4:7]
        begun = datetime(day.year, day.month, day.day, hour, minute, second)  # noqa: DTZ001 - the standard has no time zone
        milliseconds, microseconds = definition.part(7, 9).number, definition.part(9, 11).number
        return begun + timedelta(milliseconds=milliseconds, microseconds=microseconds)
    return None


def _acquisition(
    definitions: Sequence[Definition], facts: Mapping[int, Definition], started: datetime | None
) -> tuple[Acquisition, tuple[str, ...]]:
    words = facts[_MAKER].text.split("^") if _MAKER in facts else []
    maker, model, software = (word.strip() for word in (*words, "", "", "")[:3])
    filters = dict(_filter(d.text) for d in definitions if d.tag == _FILTER)
    return fields.acquisition_of(
        acquired_at=started,
        manufacturer=maker,
        model=model,
        software=software,
        low=filters.get("HPF"),
        high=filters.get("LPF"),
        notch=filters.get("BEF"),
    )


def _filter(words: str) -> tuple[str, float | None]:
    """Return the kind of a filter, and its Hz: "HPF=0.05" or "BEF=50^hum"."""
    kind, _, rest = words.partition("=")
    return kind.strip().upper(), fields.number(rest.split("^")[0].strip().removesuffix("Hz"))


def _left_out(facts: Mapping[int, Definition]) -> Iterator[str]:
    if _NOT_READ & facts.keys():
        yield "Events, values and comments of the file are not read."
