"""ISHNE 1.0 Holter recordings: a header of 522 bytes, comments, then interleaved samples.

The checksum covers the header alone. The number of samples is stated per lead by some recorders,
for all leads together by others, and as what the memory could have held by others again: the
bytes decide.

References
----------
F. Badilini, "The ISHNE Holter Standard Output File Format", Ann Noninvasive Electrocardiol 1998.
"""

import binascii
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import CHEST, LIMB, Patient, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, Strip, recording
from analysis.formats.content import Content

_ECG: Final = b"ISHNE1.0"
_ANNOTATIONS: Final = b"ANN  1.0"
_CHECKED: Final = 10
"""From this byte on the checksum counts, up to the samples."""
_MOST_LEADS: Final = 12
_FAULT: Final = -32768
"""The sample that says that the lead was off."""

_HEADER: Final = np.dtype(
    [
        ("magic", "S8"),
        ("checksum", "<u2"),
        ("comment size", "<i4"),
        ("samples", "<i4"),
        ("comment begin", "<i4"),
        ("begin", "<i4"),
        ("version", "<i2"),
        ("given name", "S40"),
        ("family name", "S40"),
        ("identifier", "S20"),
        ("sex", "<i2"),
        ("race", "<i2"),
        ("birth date", "<i2", 3),
        ("recorded", "<i2", 3),
        ("written", "<i2", 3),
        ("start", "<i2", 3),
        ("leads", "<i2"),
        ("codes", "<i2", _MOST_LEADS),
        ("qualities", "<i2", _MOST_LEADS),
        ("steps", "<i2", _MOST_LEADS),
        ("pacemaker", "<i2"),
        ("recorder", "S40"),
        ("rate", "<i2"),
        ("proprietary", "S80"),
        ("copyright", "S80"),
        ("reserved", "S88"),
    ]
)
_UNNAMED: Final = frozenset({0, 1})
"""Lead codes of what is unknown, and of "generic bipolar"."""
_NAMES: Final[Mapping[int, str]] = {
    2: "X",
    3: "Y",
    4: "Z",
    **dict(enumerate((*LIMB, *CHEST), start=5)),
    17: "ES",
    18: "AS",
    19: "AI",
}
_SEXES: Final[Mapping[int, str]] = {1: "M", 2: "F"}


def recognises(data: bytes) -> bool:
    """Return whether the bytes begin like a Holter recording, or like its annotations."""
    return data.startswith((_ECG, _ANNOTATIONS))


def read(content: Content) -> Recording:
    """Return the ECG of a Holter recording.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    header = _header(content.data)
    begin, checked, header_notes = _begin(content.data, header)
    frames, count_notes = _frames(content.data, header, begin, checked=checked)
    started = _moment(header)
    patient, patient_notes = _patient(header, started)
    acquisition, _ = fields.acquisition_of(acquired_at=started, model=_text(header["recorder"]))
    return recording(
        Strip(_channels(header, frames), float(header["rate"]), started),
        format="ISHNE Holter",
        patient=patient,
        acquisition=acquisition,
        notes=(*header_notes, *count_notes, *_lead_notes(header, frames), *patient_notes),
    )


def _header(data: bytes) -> Any:
    """Return the fixed header. Raises DAMAGED, and NO_WAVEFORM for a file of annotations."""
    if data.startswith(_ANNOTATIONS):
        raise Undecodable(
            Reason.NO_WAVEFORM,
            "The file holds the beat annotations of an ISHNE Holter; give the .ecg beside it.",
        )
    if len(data) < _HEADER.itemsize:
        raise Undecodable(Reason.DAMAGED, "The header is cut short; copy the file again.")
    header = np.frombuffer(data, _HEADER, 1)[0]
    if not 0 < header["leads"] <= _MOST_LEADS:
        raise Undecodable(
            Reason.DAMAGED, f"The header counts {header['leads']} leads; 1 to 12 are possible."
        )
    return header


def _begin(data: bytes, header: Any) -> tuple[int, bool, tuple[str, ...]]:
    """Return where the samples begin, whether the checksum confirms it, and notes.

    Raises
    ------
    Undecodable
        AMBIGUOUS, where the header says two places and the checksum is for neither.
    """
    stated = {int(header["begin"]), _HEADER.itemsize + int(header["comment size"])}
    places = [place for place in stated if _HEADER.itemsize <= place <= len(data)]
    for place in places:
        if _checksum(data[_CHECKED:place], int(header["checksum"])):
            note = "The header names two places for its samples; its checksum decided."
            return place, True, (note,) if len(stated) > 1 else ()
    if len(places) != 1 or len(stated) != 1:
        raise Undecodable(
            Reason.AMBIGUOUS, "The header names two places where its samples would begin."
        )
    if not header["checksum"]:
        return places[0], False, ("The header has no checksum.",)
    return places[0], False, ("The checksum of the header does not match; it was edited.",)


def _checksum(data: bytes, stated: int) -> bool:
    """Return whether a CRC-CCITT matches, in either byte order: the standard names none."""
    return stated.to_bytes(2) in {
        binascii.crc_hqx(data, 0xFFFF).to_bytes(2, order) for order in ("big", "little")
    }


def _frames(
    data: bytes, header: Any, begin: int, *, checked: bool
) -> tuple[npt.NDArray[np.int16], Iterator[str]]:
    """Return ``(samples, leads)``, a view of the file, and notes on their number.

    Raises
    ------
    Undecodable
        AMBIGUOUS, where neither the checksum nor the number of bytes confirms the header.
    """
    leads, stated = int(header["leads"]), int(header["samples"])
    held = (len(data) - begin) // (2 * leads)
    doubtful = header["checksum"] or stated < held
    if not checked and doubtful and stated not in {held, held * leads}:
        raise Undecodable(
            Reason.AMBIGUOUS,
            "Neither the checksum nor the number of samples agrees with the header.",
        )
    count = stated if 0 < stated < held else held
    frames = np.frombuffer(data, "<i2", count * leads, begin).reshape(count, leads)
    return frames, _count_notes(stated, held, leads, len(data) - begin - count * 2 * leads)


def _count_notes(stated: int, held: int, leads: int, rest: int) -> Iterator[str]:
    if stated > held and stated == held * leads:
        yield "The number of samples in the header counts all leads together."
    elif stated > held:
        yield f"The header announces {stated} samples per lead; the file ends after {held}."
    if rest:
        yield f"{rest} bytes behind the last sample were ignored."


def _channels(header: Any, frames: npt.NDArray[np.int16]) -> list[Channel]:
    return [
        Channel(name, lead, int(step) / 1e6 if step > 0 else None)
        for name, lead, step in zip(_names(header), _leads(frames), header["steps"], strict=False)
    ]


def _names(header: Any) -> Iterator[str]:
    """Yield the name of each lead: the first without one is "ECG", for a lead not named."""
    codes = header["codes"][: header["leads"]].tolist()
    first = next((place for place, code in enumerate(codes) if code in _UNNAMED), None)
    for place, code in enumerate(codes):
        yield "ECG" if place == first else _NAMES.get(code, f"ISHNE lead {code}")


def _leads(frames: npt.NDArray[np.int16]) -> npt.NDArray[Any]:
    """Return ``(leads, samples)``, NaN where a lead was off."""
    leads = np.ascontiguousarray(frames.T)
    off = leads == _FAULT
    return np.where(off, np.float32(np.nan), leads) if off.any() else leads


def _lead_notes(header: Any, frames: npt.NDArray[np.int16]) -> Iterator[str]:
    if sum(code in _UNNAMED for code in header["codes"][: header["leads"]]) > 1:
        yield "Several leads have no name; of those only the first is read."
    if _FAULT in frames:
        yield "A lead was off at times; there it has no samples."
    if header["pacemaker"] > 0:
        yield "The record says that the patient has a pacemaker."


def _patient(header: Any, started: datetime | None) -> tuple[Patient, tuple[str, ...]]:
    born = _day(header["birth date"])
    return fields.patient_of(
        age=None,
        birth_date=born.isoformat() if born else "",
        recorded=started,
        sex=_SEXES.get(int(header["sex"]), ""),
        identifier=_text(header["identifier"]),
        name=(_text(header["family name"]), _text(header["given name"])),
    )


def _text(content: bytes) -> str:
    return content.split(b"\0")[0].decode("latin-1").strip()


def _day(stated: npt.NDArray[np.int16]) -> date | None:
    day, month, year = stated.tolist()
    with suppress(ValueError):
        return date(year, month, day)
    return None


def _moment(header: Any) -> datetime | None:
    day = _day(header["recorded"])
    with suppress(ValueError):
        return datetime.combine(day, time(*header["start"].tolist())) if day else None
    return None
