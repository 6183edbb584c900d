"""What carts state in their own words: numbers, samples, days, patients, filters, measured values.

A reader says where a thing stands in its encoding; here it is turned into the terms of the house,
or declared absent. What is stated and cannot be read is noted, never guessed.
"""

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from analysis.ecg import Acquisition, Annotation, Code, Patient, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import Strip

_OLDEST: Final = 130.0
_AGE_TOLERANCE: Final = 2.0
_YEARS: Final = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25, "H": 1 / 8766}
_SEXES: Final = {"M": Sex.MALE, "F": Sex.FEMALE}
_LONGEST: Final = 2**24
_WIDEST: Final = 2**31

_UNSTATED: Final = frozenset({-32768.0, 32767.0, 65535.0})
"""What carts write into 16 bits for a value they do not have."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a measured value is called and counted in (UCUM)."""

    code: Code
    unit: str


def _quantity(value: str, meaning: str, unit: str) -> Quantity:
    return Quantity(Code("MDC", value, meaning), unit)


HEART_RATE: Final = _quantity("2:16016", "Ventricular Heart Rate", "{H.B.}/min")
RR: Final = _quantity("2:16168", "RR interval global", "ms")
PP: Final = _quantity("2:16140", "PP interval global", "ms")
P_DURATION: Final = _quantity("2:16184", "P duration global", "ms")
PR: Final = _quantity("2:15872", "PR interval global", "ms")
QRS_DURATION: Final = _quantity("2:16156", "QRS duration global", "ms")
QT: Final = _quantity("2:16160", "QT interval global", "ms")
QTC: Final = _quantity("2:15876", "QTc interval global", "ms")
QTC_BAZETT: Final = _quantity("2:15880", "QTc global using Bazett formula", "ms")
QTC_FRIDERICIA: Final = _quantity("2:15892", "QTc global using Fredericia formula", "ms")
P_AXIS: Final = _quantity("2:16128", "P Axis", "deg")
QRS_AXIS: Final = _quantity("2:16132", "QRS axis", "deg")
T_AXIS: Final = _quantity("2:16136", "T axis", "deg")
"""PS3.16 CID 3227, 3228 and 3229."""

QRS_COMPLEX: Final = Code("MDC", "10:1600", "Entire QRS (excluding P, T and U)")
"""PS3.16 CID 3335."""


def number(stated: str) -> float | None:
    """Return a finite decimal number, or None where the words are none."""
    with suppress(ValueError):
        if math.isfinite(found := float(stated)) and "_" not in stated:
            return found
    return None


def samples_of_base64(stated: str) -> npt.NDArray[np.int16]:
    """Return ``(samples,)`` of little-endian 16-bit words. Raises DAMAGED where it is none."""
    data = bytes_of_base64(stated)
    if len(data) % 2:
        raise Undecodable(Reason.DAMAGED, "The samples of a lead end within a sample.")
    return np.frombuffer(data, "<i2")


def bytes_of_base64(stated: str) -> bytes:
    """Return what Base64 stands for. Raises DAMAGED where the text is no Base64."""
    try:
        return base64.b64decode("".join(stated.split()), validate=True)
    except ValueError:
        raise Undecodable(
            Reason.DAMAGED, "The samples of a lead are not valid Base64; send the file again."
        ) from None


def samples_of_list(stated: str) -> npt.NDArray[np.int64]:
    """Return ``(samples,)`` of integers between commas.

    Raises
    ------
    Undecodable
        DAMAGED, where one is no integer; TOO_LARGE.
    """
    if len(stated) > _LONGEST:
        raise Undecodable(Reason.TOO_LARGE, "A lead is longer than any that is written as text.")
    words = stated.strip().removesuffix(",")
    if not words:
        return np.zeros(0, np.int64)
    lines = words.split()
    words = "".join(lines)
    if not _is_list(words) or not all(map(_at_comma, lines, lines[1:])):
        raise _no_list()
    samples = np.fromstring(words, np.int64, sep=",")
    if np.abs(samples).max() > _WIDEST:
        raise _no_list()
    return samples


def _is_list(words: str) -> bool:
    """Return whether a text is decimal integers between commas and nothing else.

    Then, and only then, numpy reads all of it.
    """
    return (
        not words.encode().translate(None, b"0123456789,-")
        and ",," not in f",{words},"
        and "-," not in f"{words},"
        and words.count("-") == f",{words}".count(",-")
    )


def _at_comma(line: str, following: str) -> bool:
    return line.endswith(",") or following.startswith(",")


def _no_list() -> Undecodable:
    return Undecodable(Reason.DAMAGED, "The samples of a lead are not integers between commas.")


def require_count(stated: str, held: int, things: str = "samples") -> None:
    """Refuse what states another number of samples, or of leads, than it holds, as DAMAGED.

    Nothing stated is nothing to refuse.
    """
    if stated and number(stated) != held:
        raise Undecodable(
            Reason.DAMAGED, f"The number of {things} is not the one that the file states."
        )


def optional(read: Callable[[], Strip | None]) -> tuple[Strip | None, tuple[str, ...]]:
    """Return the median beat, or None with a note where it cannot be decoded."""
    try:
        return read(), ()
    except Undecodable as error:
        return None, (f"The median beat was left out: {error.message}",)


def only(found: Sequence[Element], what: str) -> Element:
    """Return the one element found. Raises NO_WAVEFORM or AMBIGUOUS."""
    if len(found) == 1:
        return found[0]
    if found:
        raise Undecodable(Reason.AMBIGUOUS, f"The document has more than one {what}.")
    raise Undecodable(Reason.NO_WAVEFORM, f"The document has no {what}.")


def moment(day: str, time: str) -> datetime | None:
    """Return when something happened, by its ISO 8601 date and time."""
    with suppress(ValueError):
        return datetime.fromisoformat(f"{day}T{time}")
    return None


def age_in_years(stated: str, unit: str) -> float | None:
    """Return an age, or None where its unit (years, months, weeks, days, hours) is not said."""
    age, years = number(stated), _YEARS.get(unit[:1].upper())
    return None if age is None or years is None else age * years


def patient_of(
    *,
    age: float | None,
    birth_date: str,
    recorded: datetime | None,
    sex: str,
    identifier: str,
    name: Iterable[str],
) -> tuple[Patient, tuple[str, ...]]:
    """Return the patient, and notes; identity is copied verbatim.

    Parameters
    ----------
    age
        Years, as stated.
    birth_date
        ISO 8601.
    recorded
        When the ECG was taken, from which an age that is not stated is counted.
    sex
        A word that begins with M or F, or another.
    name
        Family name, given name and so on, joined as DICOM does.
    """
    born = _day(birth_date)
    years, notes = _age(age, born, recorded)
    if birth_date and born is None:
        notes = (*notes, "The birth date is not written as this encoding does; unknown.")
    return Patient(
        age=years,
        sex=_SEXES.get(sex[:1].upper()),
        identifier=identifier or None,
        name="^".join(name).rstrip("^") or None,
        birth_date=born,
    ), notes


def _day(stated: str) -> date | None:
    with suppress(ValueError):
        return date.fromisoformat(stated)
    return None


def _age(
    said: float | None, born: date | None, recorded: datetime | None
) -> tuple[float | None, tuple[str, ...]]:
    counted = (recorded.date() - born).days / 365.25 if born and recorded else None
    if said is not None and counted is not None and abs(said - counted) > _AGE_TOLERANCE:
        return None, ("Patient's age and birth date contradict each other; age unknown.",)
    age = counted if said is None else said
    if age is None or 0 <= age <= _OLDEST:
        return age, ()
    return None, ("The patient's age is impossible; age unknown.",)


def acquisition_of(
    *,
    acquired_at: datetime | None,
    manufacturer: str = "",
    model: str = "",
    software: str = "",
    low: float | None = None,
    high: float | None = None,
    notch: float | None = None,
) -> tuple[Acquisition, tuple[str, ...]]:
    """Return how the recording was made, and notes.

    Parameters
    ----------
    low, high, notch
        Edges of the pass band and the mains filter, Hz; 0 says that there is no such filter.
    """
    low, high, notch = (edge if edge and edge > 0 else None for edge in (low, high, notch))
    notes: tuple[str, ...] = ()
    if low and high and low >= high:
        low = high = None
        notes = ("The filter edges contradict each other and were left out.",)
    return Acquisition(
        acquired_at=acquired_at,
        manufacturer=manufacturer or None,
        model=model or None,
        software=software or None,
        filter_low_frequency=low,
        filter_high_frequency=high,
        notch_filter_frequency=notch,
    ), notes


def measurements(
    stated: Mapping[str, str], quantities: Mapping[str, Quantity]
) -> Iterator[Annotation]:
    """Yield the vendor's measurements that have a value, in the order of the quantities."""
    for name, quantity in quantities.items():
        value = number(stated.get(name, ""))
        if value is not None and value not in _UNSTATED:
            yield Annotation(code=quantity.code, value=value, unit=quantity.unit)


def beat(milliseconds: str, rhythm: Strip, *, text: str, group: int) -> Iterator[Annotation]:
    """Yield the mark of a QRS complex that the vendor found, if it lies within the rhythm."""
    time = number(milliseconds)
    if time is not None and within(at := time * (rhythm.rate or 0.0) / 1000, rhythm):
        yield Annotation(text=text, code=QRS_COMPLEX, samples=(at,), group=group)


def within(sample: float, rhythm: Strip) -> bool:
    """Return whether a position lies within a rhythm."""
    return 0 <= sample < max((channel.samples.size for channel in rhythm.channels), default=0)
