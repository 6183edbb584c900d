"""What the encodings of HL7 share: MDC codes, time stamps, numbers in text, one time axis.

Version 2 messages, the annotated ECG of version 3 and FHIR name leads and measurements by ISO/IEEE
11073-10101/10102 (MDC), as a reference identifier, as a number, or both.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Code, Lead, Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import MAX_SAMPLES, Channel, checked_rate, shown
from analysis.formats.common import lead_from_text
from analysis.formats.dicom.leads import lead_from_number

Samples = npt.NDArray[np.float64]

SEXES: Final[Mapping[str, Sex]] = MappingProxyType(
    {"M": Sex.MALE, "F": Sex.FEMALE, "O": Sex.OTHER, "UN": Sex.OTHER}
)
"""Administrative sex of version 2 (table 0001) and gender of version 3."""

CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "MDC_ECG_HEART_RATE": fields.HEART_RATE.code,
        "MDC_ECG_TIME_PD_P": fields.P_DURATION.code,
        "MDC_ECG_TIME_PD_PR": fields.PR.code,
        "MDC_ECG_TIME_PD_QRS": fields.QRS_DURATION.code,
        "MDC_ECG_TIME_PD_QT": fields.QT.code,
        "MDC_ECG_TIME_PD_QTc": fields.QTC.code,
        "MDC_ECG_TIME_PD_QTcB": fields.QTC_BAZETT.code,
        "MDC_ECG_TIME_PD_QTcF": fields.QTC_FRIDERICIA.code,
        "MDC_ECG_TIME_PD_RR": fields.RR.code,
        "MDC_ECG_TIME_PD_PP": fields.PP.code,
        "MDC_ECG_ANGLE_P_FRONT": fields.P_AXIS.code,
        "MDC_ECG_ANGLE_QRS_FRONT": fields.QRS_AXIS.code,
        "MDC_ECG_ANGLE_T_FRONT": fields.T_AXIS.code,
        "MDC_ECG_WAVC_PWAVE": Code("MDC", "10:256", "P wave"),
        "MDC_ECG_WAVC_RWAVE": Code("MDC", "10:576", "R wave"),
        "MDC_ECG_WAVC_QRSWAVE": fields.QRS_COMPLEX,
        "MDC_ECG_WAVC_TWAVE": Code("MDC", "10:1024", "T wave"),
    }
)
"""MDC reference identifiers and what PS3.16 (CID 3228, 3229, 3335) calls the same concept."""

LEADS: Final[Mapping[Lead, str]] = MappingProxyType(
    {lead: lead.upper() for lead in Lead} | {Lead.ECG: "CONFIG", Lead.MLII: "ML"}
)
"""The end of the MDC reference identifier of each lead."""

_POTENTIAL: Final = 131_328
"""MDC_ECG_ELEC_POTL (2:256), from which the leads of CID 3001 are counted."""
_LEAD: Final = re.compile(r"\w*_ECG_(?:LEAD|ELEC_POTL)(?:_(\w+))?", re.ASCII)

PER_SECOND: Final[Mapping[str, float]] = MappingProxyType(
    {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "μs": 1e6, "ns": 1e9}
)
"""Units of time in a second: UCUM, and what vendors write for it."""

_RATES_OF_BEATS: Final = frozenset(
    {"/min", "1/min", "{beats}/min", "{beat}/min", "beats/min", "beat/min", "bpm", "bmp"}
)
BEATS_PER_MINUTE: Final = "{H.B.}/min"

_MOMENT: Final = re.compile(r"(\d{12})(?:(\d{2})(?:\.(\d{1,9})|(\d{3}))?)?([+-]\d{4})?", re.ASCII)
_DAY: Final = re.compile(r"(\d{4})(\d{2})(\d{2})\d*(?:\.\d+)?(?:[+-]\d{4})?", re.ASCII)

_FLAVOURS: Final = re.compile(
    r"(?<!\S)(?:PINF|NINF|NI|NA|NAV|NASK|UNK|ASKU|OTH|MSK|TRC|null)(?!\S)", re.IGNORECASE
)

_SPARSE: Final = 4
MAX_SEQUENCES: Final = 4096
"""Of samples, in one file: 12 leads in 300 pieces and more."""
LARGEST: Final = 2.0**53
"""Of a stored sample: integers are exact up to here."""


def code_of(identifier: str, meaning: str = "", scheme: str = "MDC") -> Code:
    """Return the code of an MDC reference identifier, by its number where PS3.16 has it.

    That of another scheme is returned as it is.
    """
    known = CODES.get(identifier) or CODES.get(identifier.removesuffix("_GL"))
    return known or Code(scheme or "MDC", identifier, meaning or identifier)


def lead_name(*words: str) -> str:
    """Return what names a lead, for `Channel`, of all words that a source has for it.

    Parameters
    ----------
    words
        MDC numbers ("131329", "2:1"), reference identifiers ("MDC_ECG_LEAD_I"), or any text.

    Raises
    ------
    Undecodable
        AMBIGUOUS, where two of them name different leads.
    """
    names = [_plain(word.strip()) for word in words if word.strip()]
    leads = {lead for lead in map(lead_from_text, names) if lead is not None}
    leads = leads - {Lead.ECG} or leads
    if len(leads) > 1:
        raise Undecodable(
            Reason.AMBIGUOUS, "The code of a lead and its name contradict each other."
        )
    return next(iter(leads), " ".join(names).replace("_", " "))


def _plain(word: str) -> str:
    """Return the usual name of a lead that MDC names, or the word itself."""
    number = re.fullmatch(r"(2:)?(\d{1,6})", word, re.ASCII)
    if number:
        lead = lead_from_number(int(number[2]) - (0 if number[1] else _POTENTIAL))
        return lead or word
    identifier = _LEAD.fullmatch(word)
    if identifier is None:
        return word
    suffix = identifier[1] or ""
    return next((lead for lead, name in LEADS.items() if name == suffix), suffix or Lead.ECG)


def unit_of(stated: str) -> str | None:
    """Return the UCUM code of a unit, with all words for beats per minute as one."""
    return BEATS_PER_MINUTE if stated in _RATES_OF_BEATS else stated or None


def numbers(text: str, unknown: re.Pattern[str] = _FLAVOURS) -> Samples:
    """Return decimal numbers between white space, ``(n,)``; NaN for words that mean unknown.

    Raises
    ------
    Undecodable
        DAMAGED, where a word is no number, or none that a sample can be.
    """
    line = text.replace("\n", " ").replace("\r", " ")
    if not line.strip():
        return np.empty(0)
    try:
        found = np.loadtxt([line], comments=None, ndmin=1)
    except ValueError:
        found = _parsed(unknown.sub("nan", line))
    found[np.isinf(found)] = np.nan
    if np.max(np.abs(found), initial=0.0, where=~np.isnan(found)) < LARGEST:
        return found
    raise Undecodable(Reason.DAMAGED, "A sample is larger than any can be; send the file again.")


def _parsed(line: str) -> Samples:
    try:
        return np.loadtxt([line], comments=None, ndmin=1)
    except ValueError:
        raise Undecodable(Reason.DAMAGED, "A sample is no number; send the file again.") from None


def moment(text: str) -> datetime | None:
    """Return a time stamp of at least a minute's precision (YYYYMMDDHHMM[SS[.S…]][±ZZZZ])."""
    match = _MOMENT.fullmatch(text.strip())
    if not match:
        return None
    minute, seconds, *fractions, zone = match.groups()
    fraction = next(filter(None, fractions), "0")
    with suppress(ValueError, OverflowError):
        return datetime.strptime(minute + (seconds or "00"), "%Y%m%d%H%M%S").replace(
            microsecond=int(fraction[:6].ljust(6, "0")), tzinfo=_zone(zone)
        )
    return None


def _zone(offset: str | None) -> timezone | None:
    if not offset:
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def iso_day(text: str) -> str:
    """Return the day of a time stamp as ISO 8601 writes it; what is no time stamp as it is."""
    match = _DAY.fullmatch(text.strip())
    return "-".join(match.groups()) if match else text


def require_few(sequences: int) -> None:
    """Refuse more sequences of samples than an ECG has, as TOO_LARGE."""
    if sequences > MAX_SEQUENCES:
        raise Undecodable(
            Reason.TOO_LARGE, "The source has more sequences of samples than any ECG."
        )


def clock(time: datetime) -> float:
    """Return seconds since a fixed midnight, of a clock with or without its zone."""
    return (time - datetime(2000, 1, 1, tzinfo=time.tzinfo)).total_seconds()


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Channels that were sampled together, and when.

    Parameters
    ----------
    channels
        As the source states them.
    rate
        Hz, if stated.
    start
        Seconds on the clock that all pieces of a source share, if stated.
    """

    channels: tuple[Channel, ...] = field(repr=False)
    rate: float | None
    start: float | None = None

    @property
    def samples(self) -> int:
        """Samples per channel, of the longest."""
        return max((channel.samples.size for channel in self.channels), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Channels on one time axis.

    Parameters
    ----------
    channels
        NaN where a lead was not recorded.
    rate
        Hz.
    start
        Of the first sample, in seconds on the clock of the pieces.
    notes
        What was joined and what was left out.
    """

    channels: tuple[Channel, ...] = field(repr=False)
    rate: float
    start: float | None
    notes: tuple[str, ...] = ()


def one_axis(pieces: Sequence[Piece]) -> Axis:
    """Return the channels of all pieces on one time axis.

    The longest piece states the rate; pieces of another rate are left out with a note, and of a
    lead that stands twice at the same time the longest is taken.

    Raises
    ------
    Undecodable
        NO_RATE; AMBIGUOUS, where pieces do not say when each began or lie too far apart;
        NO_SCALE, where pieces of a lead have no common scale; TOO_LARGE.
    """
    longest = max(pieces, key=lambda piece: piece.samples)
    used = [piece for piece in pieces if piece.rate == longest.rate]
    left_out = len(pieces) - len(used)
    notes = (f"{left_out} series of another sampling frequency were left out.",) * bool(left_out)
    rate = checked_rate(longest.rate)
    if len(used) == 1:
        return Axis(longest.channels, rate, longest.start, notes)
    starts = _starts(used)
    if (max(starts) - min(starts)) * rate > _SPARSE * sum(piece.samples for piece in used):
        raise Undecodable(Reason.AMBIGUOUS, "The series are too far apart to be one recording.")
    firsts = [round((start - min(starts)) * rate) for start in starts]
    length = max(first + piece.samples for first, piece in zip(firsts, used, strict=True))
    joined = [_joined(parts, length) for parts in _by_name(used, firsts, length).values()]
    overlaps = tuple(note for _, found in joined for note in found)
    together = "The leads stand in several series and share one time axis."
    channels = tuple(channel for channel, _ in joined)
    return Axis(channels, rate, min(starts), (*notes, together, *overlaps))


def _starts(pieces: Sequence[Piece]) -> list[float]:
    """Return when each of the pieces began."""
    starts = [piece.start for piece in pieces if piece.start is not None]
    if len(starts) < len(pieces):
        raise Undecodable(
            Reason.AMBIGUOUS, "Leads stand in several series that do not say when each began."
        )
    return starts


def _by_name(
    pieces: Sequence[Piece], firsts: Sequence[int], length: int
) -> dict[str, list[tuple[int, Channel]]]:
    """Return the parts of each channel, each with its first sample on the axis."""
    placed: dict[str, list[tuple[int, Channel]]] = {}
    for first, piece in zip(firsts, pieces, strict=True):
        for channel in piece.channels:
            placed.setdefault(channel.name, []).append((first, channel))
    if length * len(placed) > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The source has more samples than any ECG read here.")
    return placed


def _joined(parts: Sequence[tuple[int, Channel]], length: int) -> tuple[Channel, tuple[str, ...]]:
    """Return one channel of its parts, NaN between them, and a note on parts left out."""
    ordered = sorted(parts, key=lambda part: -part[1].samples.size)
    like = ordered[0][1]
    samples, taken = np.full(length, np.nan), np.zeros(length, bool)
    overlapping = 0
    for first, channel in ordered:
        place = slice(first, first + channel.samples.size)
        if taken[place].any():
            overlapping += 1
            continue
        samples[place] = _rescaled(channel, like)
        taken[place] = True
    name = shown(like.name)
    notes = (f"{name} stands {overlapping + 1} times at the same time; the longest was taken.",)
    return Channel(like.name, samples, like.step, like.zero), notes if overlapping else ()


def _rescaled(channel: Channel, like: Channel) -> Samples:
    """Return the samples of a channel in the steps of another."""
    if (channel.step, channel.zero) == (like.step, like.zero):
        return channel.samples
    if not channel.step or not like.step:
        raise Undecodable(Reason.NO_SCALE, f"A series of {like.name} does not state its scale.")
    return (channel.samples - channel.zero) * (channel.step / like.step) + like.zero
