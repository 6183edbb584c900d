"""From the channels that a source states to a Recording: the rules that encodings share.

A reader says what the file says: names, stored samples, the millivolts of one step, the rate.
What is refused, what is noted and what is derived is decided here, once.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, Acquisition, Annotation, Lead, Patient, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats.common import RATES, STEPS, completed, is_other_signal, lead_from_text

MAX_SAMPLES: Final = 2**26
"""Over all leads: 24 hours of twelve leads at 64 Hz, or of three at 256 Hz."""
ABSURD: Final = 1e12
"""mV, beyond what any number of bits at any step can mean."""
WIDEST: Final = 300.0
"""mV, the electrode offset that an amplifier must stand (IEC 60601-2-25)."""

_NO_PATIENT: Final = Patient()
_NO_ACQUISITION: Final = Acquisition()


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One channel as its source states it.

    Parameters
    ----------
    name
        Whatever the source calls it.
    samples
        ``(samples,)`` as stored; NaN where none was recorded.
    step
        mV per unit of the samples; None where the source does not say.
    zero
        The stored value that stands for 0 mV.
    """

    name: str
    samples: npt.NDArray[Any] = field(repr=False)
    step: float | None
    zero: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Channels that were sampled together.

    Parameters
    ----------
    channels
        In the order of the source; those that hold no ECG are left out with a note.
    rate
        Samples per second of each channel, Hz; None where the source does not say.
    start
        When the first sample was taken, if known.
    """

    channels: Sequence[Channel]
    rate: float | None
    start: datetime | None = None


def recording(
    rhythm: Strip,
    *,
    format: str,  # noqa: A002 - the field of Recording
    median: Strip | None = None,
    patient: Patient = _NO_PATIENT,
    acquisition: Acquisition = _NO_ACQUISITION,
    vendor_statements: Iterable[VendorStatement] = (),
    annotations: Iterable[Annotation] = (),
    notes: Iterable[str] = (),
) -> Recording:
    """Return the recording, with the limb leads that the recorded ones determine.

    A median beat that cannot be decoded is left out with a note.

    Raises
    ------
    Undecodable
        NO_WAVEFORM, NO_RATE, NO_LEADS, NO_SCALE, NOT_AN_ECG, AMBIGUOUS or TOO_LARGE, where the
        rhythm does not say enough or contradicts itself.
    """
    ecg, found = decoded(rhythm)
    ecg, derived, limb_notes = completed(ecg, _coarsest(rhythm, ecg))
    beat, beat_notes = _median(median)
    return Recording(
        ecg=ecg,
        median_beat=beat,
        format=format,
        patient=patient,
        acquisition=acquisition,
        vendor_statements=tuple(vendor_statements),
        annotations=tuple(annotations),
        notes=tuple(dict.fromkeys((*notes, *found, *limb_notes, *beat_notes))),
        derived_leads=derived,
    )


def decoded(strip: Strip) -> tuple[ECG, tuple[str, ...]]:
    """Return the leads of a strip in mV, as recorded, and notes on what was odd.

    Raises
    ------
    Undecodable
        As `recording`.
    """
    rate = checked_rate(strip.rate)
    known, notes = _known(strip.channels)
    length = max(channel.samples.size for _, channel in known)
    if not length:
        raise Undecodable(Reason.NO_WAVEFORM, "The source holds no samples.")
    if length * len(known) > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The source has more samples than any ECG read here.")
    signal = np.full((len(known), length), np.nan, np.float32)
    for row, (lead, channel) in zip(signal, known, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is refused
            row[: channel.samples.size] = _millivolts(lead, channel)
        notes += _sample_notes(lead, channel, row)
    leads = tuple(lead for lead, _ in known)
    ecg = ECG(signal=signal, leads=leads, sampling_frequency=rate, start=strip.start)
    return ecg, tuple(notes)


def at_one_rate(
    channels: Sequence[tuple[Channel, float | None]], start: datetime | None = None
) -> tuple[Strip, tuple[str, ...]]:
    """Return the channels that were sampled as most leads were, and a note on the other leads.

    Parameters
    ----------
    channels
        Each with its samples per second, Hz; None where the source does not say.
    start
        When the first sample was taken, if known.
    """
    leads = [(channel, rate) for channel, rate in channels if lead_from_text(channel.name)]
    rates = Counter(rate for _, rate in leads or channels)
    common = max(rates, key=rates.__getitem__, default=None)
    notes = tuple(
        f"{shown(channel.name)} has {rate:g} Hz where most leads have {common:g} and was left out."
        for channel, rate in leads
        if rate != common and rate and common
    )
    kept = (c for c, rate in channels if rate == common or not lead_from_text(c.name))
    return Strip(tuple(kept), common, start), notes


def checked_rate(rate: float | None) -> float:
    """Return the sampling frequency in Hz. Raises NO_RATE where it is absent or absurd."""
    if rate is None or not RATES[0] <= rate <= RATES[1]:
        raise Undecodable(Reason.NO_RATE, "The sampling frequency is absent or absurd.")
    return float(rate)


def shown(words: str) -> str:
    """Return words of the source, fit for a note: printable and short."""
    return "".join(filter(str.isprintable, words)).strip()[:32]


def _known(channels: Sequence[Channel]) -> tuple[list[tuple[Lead, Channel]], list[str]]:
    """Return the channels that hold a lead, each with it, and notes on the others."""
    if not channels:
        raise Undecodable(Reason.NO_WAVEFORM, "The source holds no signal.")
    parsed = [(lead_from_text(channel.name), channel) for channel in channels]
    known = [(lead, channel) for lead, channel in parsed if lead is not None]
    if not known:
        raise _leadless(channels)
    leads = [lead for lead, _ in known]
    if twice := next((lead for lead in leads if leads.count(lead) > 1), None):
        raise Undecodable(Reason.AMBIGUOUS, f"The source holds lead {twice} twice.")
    return known, [
        f"Channel {place} ({shown(channel.name) or 'unnamed'}) is no lead known here and was "
        "left out."
        for place, (lead, channel) in enumerate(parsed, 1)
        if lead is None
    ]


def _leadless(channels: Sequence[Channel]) -> Undecodable:
    if any(is_other_signal(channel.name) for channel in channels):
        return Undecodable(Reason.NOT_AN_ECG, "The source holds other signals and no ECG lead.")
    return Undecodable(Reason.NO_LEADS, "No channel of the source has the name of a lead.")


def _millivolts(lead: Lead, channel: Channel) -> npt.NDArray[np.float64]:
    step = channel.step
    if step is None or not STEPS[0] <= abs(step) <= STEPS[1] or not np.isfinite(channel.zero):
        raise Undecodable(
            Reason.NO_SCALE,
            f"The scale of lead {lead} is absent or absurd; amplitudes are unknown.",
        )
    return (channel.samples - np.float64(channel.zero)) * step


def _sample_notes(lead: Lead, channel: Channel, row: npt.NDArray[np.float32]) -> Iterable[str]:
    low, high = np.fmin.reduce(row), np.fmax.reduce(row)
    if max(-low, high) > ABSURD:
        raise Undecodable(Reason.DAMAGED, f"A sample of lead {lead} is beyond any voltage.")
    if np.isnan(low):
        yield f"Lead {lead} has no samples."
    elif high - low > WIDEST:
        yield f"Lead {lead} spans more than {WIDEST:.0f} mV, which no electrode gives."
    if channel.samples.size < row.size:
        yield f"Lead {lead} is shorter than the others; its end counts as not recorded."


def _coarsest(strip: Strip, ecg: ECG) -> float:
    """Return the coarsest step of the leads, in mV."""
    return max(abs(c.step or 0.0) for c in strip.channels if lead_from_text(c.name) in ecg.leads)


def _median(strip: Strip | None) -> tuple[ECG | None, tuple[str, ...]]:
    if strip is None:
        return None, ()
    try:
        return decoded(strip)
    except Undecodable as error:
        return None, (f"The median beat was left out: {error.message}",)
