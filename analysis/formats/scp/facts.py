"""Who was recorded, when and with what: the tags of section 1 (EN 1064 §5.4)."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from types import MappingProxyType
from typing import Final

from analysis.ecg import Acquisition, Patient
from analysis.formats import fields
from analysis.formats.scp.sections import Section

_END: Final = 255
_YEARS: Final = MappingProxyType({1: 1.0, 2: 1 / 12, 3: 7 / 365.25, 4: 1 / 365.25, 5: 1 / 8766})
_SEXES: Final = MappingProxyType({b"\1": "M", b"\2": "F"})
_NO_ZONE: Final = 0x7FFF
_WIDEST_ZONE: Final = 14 * 60
_PACEMAKER: Final = 42

_CODECS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x00: "latin-1",
        0x01: "latin-1",
        0x03: "iso8859_2",
        0x0B: "iso8859_4",
        0x13: "iso8859_5",
        0x1B: "iso8859_6",
        0x23: "iso8859_7",
        0x2B: "iso8859_8",
        0x33: "iso8859_11",
        0x3B: "iso8859_15",
        0x07: "utf-16-le",
        0x0F: "shift_jis",
        0x17: "euc_jp",
        0x1F: "euc_jp",
        0x27: "gb2312",
        0x2F: "euc_kr",
        0x37: "utf-8",
    }
)
"""By the language support code (Annex A)."""

_MANUFACTURERS: Final = (
    "",
    "Burdick",
    "Cambridge",
    "Compumed",
    "Datamed",
    "Fukuda",
    "Hewlett-Packard",
    "Marquette Electronics",
    "Mortara Instruments",
    "Nihon Kohden",
    "Okin",
    "Quinton",
    "Siemens",
    "Spacelabs",
    "Telemed",
    "Hellige",
    "ESA-OTE",
    "Schiller",
    "Picker-Schwarzer",
    "et medical devices",
    "Zwönitz",
)
"""By the code of tag 14, where the name is not written."""

_PLACEMENTS: Final = MappingProxyType(
    {
        2: "at Mason-Likar positions",
        3: "at Mason-Likar positions",
        4: "with all electrodes on one pad",
        5: "as Frank leads, from which the twelve were computed",
        6: "at electrode positions that are not the standard ones",
    }
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What section 1 says, and how the texts of the record are encoded."""

    patient: Patient = field(default_factory=Patient)
    acquisition: Acquisition = field(default_factory=Acquisition)
    codec: str = "latin-1"
    notes: tuple[str, ...] = ()


def facts_of(section: Section) -> Facts:
    """Return what section 1 says. Raises DAMAGED where its tags overrun it."""
    tags: dict[int, bytes] = {}
    for tag, content in _tags(section):
        tags.setdefault(tag, content)
    language = tags.get(14, b"")[16:17] or b"\0"
    codec = _CODECS.get(language[0])
    encoded = _Texts(tags, codec or "latin-1")
    acquired = _acquired_at(tags)
    born = _day(tags.get(5, b""))
    patient, patient_notes = fields.patient_of(
        age=_age(tags.get(4, b"")),
        birth_date=born.isoformat() if born else "",
        recorded=acquired,
        sex=_SEXES.get(tags.get(8, b""), ""),
        identifier=encoded.text(2),
        name=(" ".join(filter(None, (encoded.text(0), encoded.text(3)))), encoded.text(1)),
    )
    acquisition, filter_notes = _acquisition(tags, encoded, acquired)
    notes = (*patient_notes, *filter_notes, *_notes(tags, codec))
    return Facts(patient, acquisition, encoded.codec, notes)


def texts(content: bytes, codec: str) -> list[str]:
    """Return the texts between NULs, without the spaces around them."""
    return [text.strip() for text in content.decode(codec, "replace").split("\0")]


@dataclass(frozen=True, slots=True)
class _Texts:
    tags: Mapping[int, bytes]
    codec: str

    def text(self, tag: int) -> str:
        return texts(self.tags.get(tag, b""), self.codec)[0]


def _tags(section: Section) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(section.body) and section.body[at] != _END:
        tag, length = section.unpack("BH", at)
        yield tag, section.take(at + 3, length)
        at += 3 + length


def _day(content: bytes) -> date | None:
    with suppress(ValueError, IndexError):
        return date(int.from_bytes(content[:2], "little"), content[2], content[3])
    return None


def _acquired_at(tags: Mapping[int, bytes]) -> datetime | None:
    """Return the date and time of acquisition, with its offset from UTC where that is said."""
    day = _day(tags.get(25, b""))
    if day is None:
        return None
    with suppress(ValueError, TypeError):
        return datetime.combine(day, time(*tags.get(26, b"")[:3]), _zone(tags.get(34, b"")))
    return None


def _zone(content: bytes) -> tzinfo | None:
    minutes = int.from_bytes(content[:2], "little", signed=True)
    if len(content) < 2 or minutes == _NO_ZONE or abs(minutes) > _WIDEST_ZONE:  # noqa: PLR2004 - 16 bits
        return None
    return timezone(timedelta(minutes=minutes))


def _age(content: bytes) -> float | None:
    """Return the age in years; 0 and a missing unit say that it is not known."""
    age = int.from_bytes(content[:2], "little")
    years = _YEARS.get(int.from_bytes(content[2:3]))
    return age * years if age and years else None


def _acquisition(
    tags: Mapping[int, bytes], encoded: _Texts, acquired: datetime | None
) -> tuple[Acquisition, tuple[str, ...]]:
    device = tags.get(14, b"")
    _, _, software, _, maker = (texts(device[36:], encoded.codec) + [""] * 5)[:5]
    number = int.from_bytes(device[7:8])
    named = _MANUFACTURERS[number] if number < len(_MANUFACTURERS) else ""
    return fields.acquisition_of(
        acquired_at=acquired,
        manufacturer=maker or named,
        model=texts(device[8:14], "latin-1")[0],
        software=software,
        low=_u16(tags, 27) / 100,
        high=float(_u16(tags, 28)),
        notch=_notch(tags.get(29, b"")),
    )


def _u16(tags: Mapping[int, bytes], tag: int) -> int:
    return int.from_bytes(tags.get(tag, b"")[:2], "little")


def _notch(content: bytes) -> float | None:
    """Return the notch of the filter bitmap (tag 29), Hz."""
    bits = int.from_bytes(content[:1])
    return {1: 60.0, 2: 50.0}.get(bits & 0b11)


def _notes(tags: Mapping[int, bytes], codec: str | None) -> Iterator[str]:
    if codec is None:
        yield "The language code of the record is unknown; texts may be misspelt."
    if 5 in tags and any(tags[5]) and not _day(tags[5]):  # noqa: PLR2004 - the tag
        yield "The birth date is impossible; unknown."
    if 25 in tags and _acquired_at(tags) is None:  # noqa: PLR2004 - the tag
        yield "The date or time of acquisition is absent or impossible; unknown."
    if placement := _PLACEMENTS.get(int.from_bytes(tags.get(33, b"")[:1])):
        yield f"The leads were recorded {placement}."
    history = tags.get(32, b"")
    if history[:1] == b"\0" and _PACEMAKER in history[1:]:
        yield "The record says that the patient has a pacemaker."
