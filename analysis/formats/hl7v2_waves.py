"""Samples in HL7 version 2 observations, by IHE PCD-01 and by chapter 7 of the standard.

By PCD-01 an observation holds one lead and has facets below its sub-identifier: sampling rate,
resolution, the value that stands for none. By chapter 7 channels are defined (CD) apart from
their samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np

from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.channels import Channel, shown
from analysis.formats.common import MILLIVOLTS, lead_from_text
from analysis.formats.hl7 import Piece, Samples, clock, lead_name, numbers
from analysis.formats.hl7v2_message import Message, Observation

_UNITS: Final[Mapping[str, float]] = {
    **MILLIVOLTS,
    "266400": 1e3, "MDC_DIM_VOLT": 1e3,
    "266418": 1.0, "MDC_DIM_MILLI_VOLT": 1.0,
    "266419": 1e-3, "MDC_DIM_MICRO_VOLT": 1e-3,
    "266420": 1e-6, "MDC_DIM_NANO_VOLT": 1e-6,
}  # fmt: skip
"""mV per unit of voltage: UCUM, MDC number, MDC identifier."""
_HERTZ: Final = frozenset(
    {"264608", "MDC_DIM_PER_SEC", "264640", "MDC_DIM_HZ", "Hz", "/s", "1/s", "{samples}/s"}
)
_RATE: Final = "MDC_ATTR_SAMP_RATE"
_RESOLUTION: Final = "MDC_ATTR_NU_MSMT_RES"
_RANGE: Final = "MDC_ATTR_DATA_RANGE"
_INVALID: Final = "MDC_EVT_INOP"
_FACETS: Final = frozenset({_RATE, _RESOLUTION, _RANGE, _INVALID})
_SENTINEL: Final = 32767
"""From here on a value can stand for "no sample": the end of 16 bits."""


_Key: TypeAlias = tuple[int, str]
"""Order and sub-identifier, by which observations belong together."""
_Facets: TypeAlias = Mapping[str, Sequence[Observation]]
"""The facets of one observation by their identifiers; two where they differ."""


@dataclass(frozen=True, slots=True, eq=False)
class _Wave:
    """One channel of samples, its rate in Hz, and what is to be noted of it."""

    channel: Channel
    rate: float | None
    notes: tuple[str, ...] = ()


def pieces_of(
    message: Message, observations: Sequence[Observation]
) -> tuple[list[Piece], list[str]]:
    """Return the leads by when they were sampled, and notes.

    Where there is no lead, all channels are returned.
    """
    definitions, facets = _definitions(message, observations), _facets(observations)
    found = [
        (wave, each)
        for each in observations
        if each.type in {"NA", "MA"}
        for wave in _waves(message, each, definitions, facets)
    ]
    leads = [(wave, each) for wave, each in found if lead_from_text(wave.channel.name)]
    together: dict[tuple[int, float | None, datetime | None], list[Channel]] = {}
    for wave, each in leads or found:
        together.setdefault((each.order, wave.rate, each.start), []).append(wave.channel)
    for channels in together.values() if leads else ():
        _refuse_uneven(channels)
    pieces = [
        Piece(tuple(channels), rate, None if start is None else clock(start))
        for (_, rate, start), channels in together.items()
    ]
    others = {wave.channel.name for wave, _ in found} - {wave.channel.name for wave, _ in leads}
    notes = [f"{shown(name)} is no lead known here and was left out." for name in sorted(others)]
    return pieces, [*notes, *(note for wave, _ in leads for note in wave.notes)]


def _refuse_uneven(channels: Sequence[Channel]) -> None:
    if len({channel.samples.size for channel in channels}) > 1:
        raise Undecodable(
            Reason.DAMAGED, "Leads that were sampled together differ in length; send it again."
        )


def _waves(
    message: Message,
    wave: Observation,
    definitions: Mapping[_Key, Sequence["_Definition"]],
    facets: Mapping[_Key, _Facets],
) -> Iterator[_Wave]:
    """Yield the channels of one observation of samples."""
    defined = definitions.get((wave.order, wave.place))
    if defined is None:
        yield _lead(message, wave, facets.get((wave.order, wave.place), {}))
        return
    for definition, samples in zip(defined, _rows(message, wave, len(defined)), strict=True):
        yield definition.wave(samples)


def _rows(message: Message, wave: Observation, channels: int) -> Sequence[Samples]:
    """Return the samples of each channel: NA has a row for each, MA for each sample."""
    rows = wave.value.split(message.tilde)
    if wave.type == "NA":
        arrays = [_array(message, row.rstrip(message.caret)) for row in rows]
    elif all(row.count(message.caret) + 1 == channels for row in rows):
        arrays = list(_array(message, message.caret.join(rows)).reshape(-1, channels).T)
    else:
        raise _miscounted()
    if len(arrays) != channels:
        raise _miscounted()
    return arrays


def _miscounted() -> Undecodable:
    return Undecodable(
        Reason.DAMAGED, "The samples have another number of channels than the message defines."
    )


def _array(message: Message, words: str) -> Samples:
    """Return the numbers between component separators; NaN where one is empty."""
    if not words.strip():
        return np.empty(0)
    count = words.count(message.caret) + 1
    if 2 * message.caret in words or message.caret in {words[0], words[-1]}:
        words = message.caret.join(each.strip() or "nan" for each in words.split(message.caret))
    found = numbers(words.replace(message.caret, " "))
    if found.size != count:
        raise Undecodable(Reason.DAMAGED, "A sample is no number; send the message again.")
    return found


def _facets(observations: Sequence[Observation]) -> Mapping[_Key, _Facets]:
    """Return the facets by the observation they stand below, or beside."""
    found: dict[_Key, dict[str, list[Observation]]] = {}
    for each in observations:
        for name in _FACETS.intersection(each.identifier):
            for place in {each.place, each.place.rpartition(".")[0]}:
                same = found.setdefault((each.order, place), {}).setdefault(name, [])
                if len(same) < 2 and all(_differ(each, other) for other in same):  # noqa: PLR2004
                    same.append(each)
    return found


def _differ(one: Observation, other: Observation) -> bool:
    return (one.value, one.unit) != (other.value, other.unit)


def _lead(message: Message, wave: Observation, facets: _Facets) -> _Wave:
    """Return the lead of one observation, by its code, its unit, and its facets."""
    name = lead_name(*wave.identifier[:2])
    samples = _array(message, wave.value.rstrip(message.caret))
    step = _step(wave, _one(facets, _RESOLUTION), samples)
    rate = _one(facets, _RATE)
    hertz = None if rate is None or not _HERTZ & set(rate.unit) else fields.number(rate.value)
    samples, notes = _without_sentinel(name, samples, _one(facets, _INVALID))
    notes = (*notes, *_beyond(name, samples, wave, _one(facets, _RANGE), message))
    blank = int(np.isnan(samples).sum())
    if blank:
        notes = (*notes, f"Lead {shown(name)} has {blank} unknown values: not recorded.")
    return _Wave(Channel(name, samples, step), hertz, notes)


def _one(facets: _Facets, name: str) -> Observation | None:
    """Return the facet of a name. Raises AMBIGUOUS where there are two that differ."""
    found = facets.get(name, ())
    if len(found) > 1:
        raise Undecodable(Reason.AMBIGUOUS, f"A lead has two facets {name} that differ.")
    return next(iter(found), None)


def _step(wave: Observation, resolution: Observation | None, samples: Samples) -> float | None:
    """Return mV per unit of the samples: by OBX-6, or by the resolution of raw samples.

    Raises
    ------
    Undecodable
        AMBIGUOUS, where both are stated and whole numbers could be in either.
    """
    stated = _millivolts(wave.unit)
    if resolution is None:
        return stated
    unit, number = _millivolts(resolution.unit), fields.number(resolution.value)
    raw = None if unit is None or number is None else unit * number
    if stated is None or raw is None or stated == raw:
        return stated or raw
    if np.all(np.rint(samples) == samples, where=~np.isnan(samples)):
        raise Undecodable(
            Reason.AMBIGUOUS,
            "A lead states both a unit and a resolution, and which of them counts is unclear.",
        )
    return stated


def _millivolts(unit: Sequence[str]) -> float | None:
    """Return mV per unit; None where the parts of its code are none, or differ."""
    known = {_UNITS.get(each) for each in unit[:2] if each}
    return known.pop() if len(known) == 1 else None


def _without_sentinel(
    name: str, samples: Samples, invalid: Observation | None
) -> tuple[Samples, tuple[str, ...]]:
    """Return the samples with NaN for the value that the monitor declares as invalid.

    Some write a flag (0 or 1) in its place; an ordinary value is never taken away.
    """
    value = None if invalid is None else fields.number(invalid.value)
    if value is None or not np.any(samples == value):
        return samples, ()
    if abs(value) < _SENTINEL:
        note = f"The invalid value {value:g} of lead {shown(name)} is an ordinary one and was kept."
        return samples, (note,)
    return np.where(samples == value, np.nan, samples), ()


def _beyond(
    name: str, samples: Samples, wave: Observation, limits: Observation | None, message: Message
) -> Iterator[str]:
    """Yield whether samples lie beyond the range that is stated in their unit."""
    if limits is None or _millivolts(limits.unit) != _millivolts(wave.unit):
        return
    low, high = (fields.number(each) for each in (*limits.value.split(message.caret), "", "")[:2])
    outside = (low is not None and np.any(samples < low)) or (
        high is not None and np.any(samples > high)
    )
    if outside:
        yield f"Lead {shown(name)} goes beyond the range that the message states."


@dataclass(frozen=True, slots=True)
class _Definition:
    """One channel definition (CD): name, mV per unit, baseline, rate in Hz, skew in s."""

    name: str
    step: float | None
    baseline: float
    rate: float | None
    skew: float

    def wave(self, samples: Samples) -> _Wave:
        """Return the channel with its samples."""
        late = f"Lead {shown(self.name)} was sampled later than the others (skew), not corrected."
        notes = (late,) if self.skew else ()
        return _Wave(Channel(self.name, samples, self.step, self.baseline), self.rate, notes)


def _definitions(
    message: Message, observations: Sequence[Observation]
) -> Mapping[_Key, Sequence[_Definition]]:
    """Return the channel definitions by order and sub-identifier.

    What one leaves out is that of the channel before it (HL7 2.3 §7.20, example 3).
    """
    found: dict[_Key, list[_Definition]] = {}
    for each in observations:
        if each.type == "CD":
            channels = found.setdefault((each.order, each.place), [])
            for words in each.value.split(message.tilde):
                before = channels[-1] if channels else None
                channels.append(_definition(message, words, before))
    return found


def _definition(message: Message, words: str, before: _Definition | None) -> _Definition:
    parts = [each.split(message.ampersand) for each in words.split(message.caret)]
    parts += [[""]] * (5 - len(parts))
    channel, source, sensitivity, calibration, rate = parts[:5]
    factor, baseline, skew = (fields.number(each) for each in (*calibration, "", "", "")[:3])
    step = _sensitivity(sensitivity, 1.0 if factor is None else factor)
    hertz = fields.number(rate[0])
    if before is not None:
        step = before.step if not any(sensitivity) else step
        hertz = before.rate if not rate[0] else hertz
    return _Definition(
        name=lead_name(*channel[1:2], source[0]),
        step=step,
        baseline=baseline or 0.0,
        rate=hertz,
        skew=skew or 0.0,
    )


def _sensitivity(stated: Sequence[str], factor: float) -> float | None:
    """Return mV per unit of the samples: a number, its unit, and the correction factor."""
    value, unit = fields.number(stated[0]), _millivolts(stated[1:3])
    return None if value is None or unit is None else value * unit * factor
