"""Multiplex groups (PS3.3 §C.10.9): which leads each holds, and which of them is the rhythm.

The rhythm is told from the median beat by originality, label and length, never by its place.
Groups that were recorded one after the other (3×4 prints of 2.5 s) share one time axis, with
NaN where a lead was not recorded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.ecg import ECG, Code, Lead, Signal
from analysis.errors import Reason, Undecodable
from analysis.formats.common import MILLIVOLTS, RATES, lead_from_text
from analysis.formats.dicom.elements import Item, damaged, items, number, text, value
from analysis.formats.dicom.leads import lead_from_number, lead_number
from analysis.formats.dicom.samples import Samples, Scale, samples_of, scale_of

_MEDIAN_WORDS: Final = ("MEDIAN", "AVERAGE", "REPRESENTATIVE", "TEMPLATE", "MEAN BEAT")
_MEDIAN_SECONDS: Final = 3.0
_SCALE: Final = ("ChannelSensitivityCorrectionFactor", "ChannelBaseline")
_SPAN: Final = 300.0  # mV, the electrode offset an amplifier must stand (IEC 60601-2-25)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel that holds an ECG lead."""

    number: int
    """Its place in the group, from 1."""
    lead: Lead
    definition: Item
    scale: Scale


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """One multiplex group, decoded."""

    number: int
    """Its place in the Waveform Sequence, from 1."""
    ecg: ECG
    channels: tuple[Channel, ...]
    original: bool
    label: str
    offset: float | None
    """Start in seconds on the time axis of the object, if stated."""
    notes: tuple[str, ...]

    @property
    def is_median(self) -> bool:
        """Whether this is a median beat: by its label, or derived and short."""
        if any(word in self.label.upper() for word in _MEDIAN_WORDS):
            return True
        return not self.original and self.ecg.duration < _MEDIAN_SECONDS

    @property
    def resolution(self) -> float:
        """The coarsest step in mV."""
        return max(channel.scale.step for channel in self.channels)


def group_of(item: Item, place: int) -> Group:
    """Return one item of the Waveform Sequence (5400,0100), decoded.

    Raises
    ------
    Undecodable
        With the reason, where a count, rate, lead or scale cannot be known.
    """
    rate = _rate(item)
    samples = samples_of(item)
    definitions = items(item, "ChannelDefinitionSequence")
    if len(definitions) != samples.raw.shape[1]:
        raise damaged("The number of channels and their definitions disagree; send it again.")
    notes: list[str] = []
    channels = tuple(_channels(definitions, notes))
    _refuse_unclear(channels, definitions)
    notes += _scale_notes(channels)
    signal = np.stack([_millivolts(samples, channel, rate, notes) for channel in channels])
    return Group(
        number=place,
        ecg=ECG(signal=signal, leads=tuple(c.lead for c in channels), sampling_frequency=rate),
        channels=channels,
        original=text(item, "WaveformOriginality") != "DERIVED",
        label=text(item, "MultiplexGroupLabel"),
        offset=_offset(item),
        notes=tuple(dict.fromkeys(notes)),
    )


def _rate(item: Item) -> float:
    try:
        rate = number(item, "SamplingFrequency")
    except Undecodable:
        rate = None
    if rate is None or not RATES[0] <= rate <= RATES[1]:
        raise Undecodable(Reason.NO_RATE, "The sampling frequency is absent or absurd.")
    return rate


def _offset(item: Item) -> float | None:
    milliseconds = number(item, "MultiplexGroupTimeOffset")
    return None if milliseconds is None else milliseconds / 1000.0


def _channels(definitions: Sequence[Item], notes: list[str]) -> Iterator[Channel]:
    """Yield the channels that hold an ECG lead; note the others."""
    for place, definition in enumerate(definitions, 1):
        lead, name = _lead(definition, notes)
        unit = _unit(definition)
        if lead is None:
            notes.append(f"Channel {place} ({name}) is no lead known here and was left out.")
            continue
        if unit not in MILLIVOLTS:
            raise Undecodable(
                Reason.NO_SCALE, f"Lead {lead} has no unit of voltage; its scale is unknown."
            )
        scale = scale_of(definition, MILLIVOLTS[unit], lead)
        notes += _channel_notes(definition, lead)
        yield Channel(place, lead, definition, scale)


def _unit(definition: Item) -> str:
    codes = items(definition, "ChannelSensitivityUnitsSequence")
    code = text(codes[0], "CodeValue") if codes else ""
    return code.encode("latin-1").decode("utf-8", "replace") if code not in MILLIVOLTS else code


def _lead(definition: Item, notes: list[str]) -> tuple[Lead | None, str]:
    """Return the lead of a channel and the name it goes by; its code wins over its texts."""
    codes = [_code(item) for item in items(definition, "ChannelSourceSequence")]
    numbers = {n for n in map(lead_number, codes) if n is not None}
    if len(numbers) > 1:
        raise Undecodable(Reason.AMBIGUOUS, "One channel has the codes of two leads.")
    texts = [*(code.meaning for code in codes), text(definition, "ChannelLabel")]
    named = {lead for lead in map(lead_from_text, texts) if lead is not None}
    name = _shown(next(filter(None, texts), "unnamed"))
    if not numbers:
        if len(named) > 1:
            raise Undecodable(Reason.AMBIGUOUS, f"A channel is named {' and '.join(named)}.")
        return next(iter(named), None), name
    lead = lead_from_number(numbers.pop())
    if lead and named - {lead}:
        notes.append(f"The channel coded as lead {lead} is named {name}; the code was taken.")
    return lead, name


def _shown(words: str) -> str:
    """Return words of the source, fit for a note: printable and short."""
    return "".join(filter(str.isprintable, words))[:32]


def _code(item: Item) -> Code:
    return Code(
        text(item, "CodingSchemeDesignator"),
        text(item, "CodeValue"),
        value(item, "CodeMeaning").decode("utf-8", "replace").strip(" \0"),
    )


def _refuse_unclear(channels: Sequence[Channel], definitions: Sequence[Item]) -> None:
    if not channels:
        if any(_unit(definition) in MILLIVOLTS for definition in definitions):
            raise Undecodable(Reason.NO_LEADS, "No channel says which lead it holds.")
        raise Undecodable(Reason.NOT_AN_ECG, "No channel holds an ECG lead.")
    if len({channel.lead for channel in channels}) < len(channels):
        raise Undecodable(Reason.AMBIGUOUS, "One group holds the same lead twice.")


def _channel_notes(definition: Item, lead: Lead) -> Iterator[str]:
    skews = number(definition, "ChannelTimeSkew"), number(definition, "ChannelSampleSkew")
    if any(skews):
        yield f"Lead {lead} was sampled later than the others (skew), which was not corrected."
    status = text(definition, "ChannelStatus")
    if status not in {"", "OK"}:
        yield f"The cart marks lead {lead} as {_shown(status)}."


def _scale_notes(channels: Sequence[Channel]) -> Iterator[str]:
    """Yield what is odd about the scales; refuse factors that only some channels have."""
    for keyword in _SCALE:
        absent = [number(c.definition, keyword) is None for c in channels]
        if all(absent):
            yield f"{keyword} is absent; {0 if 'Baseline' in keyword else 1} was taken."
        elif any(absent):
            raise Undecodable(Reason.NO_SCALE, f"Some channels have no {keyword}.")
    if len({channel.scale for channel in channels}) > 1:
        yield "The leads have different scales; each was read with its own."


def _millivolts(samples: Samples, channel: Channel, rate: float, notes: list[str]) -> Signal:
    lead, column = channel.lead, channel.number - 1
    allocated = 8 * samples.raw.dtype.itemsize
    bits = number(channel.definition, "WaveformBitsStored") or allocated
    signal = channel.scale.apply(samples.linear(column, int(bits)))
    if samples.padding is not None:
        notes += _blank(signal, samples, column, rate, lead)
    recorded = signal[np.isfinite(signal)]
    if recorded.size and np.ptp(recorded) > _SPAN:
        notes.append(f"Lead {lead} spans more than {_SPAN:.0f} mV, which no electrode gives.")
    return signal


def _blank(signal: Signal, samples: Samples, column: int, rate: float, lead: Lead) -> Iterator[str]:
    """Set NaN where no sample was recorded, and yield notes on that."""
    missing = samples.missing(column, rate)
    kept = int((samples.equal_to_padding(column) & ~missing).sum())
    signal[missing] = np.nan
    if missing.any():
        yield f"Lead {lead} has padding in {int(missing.sum())} samples: not recorded."
    if kept:
        yield f"The padding value {samples.padding} is also an ordinary sample and was kept."


def rhythm_and_median(groups: Sequence[Group]) -> tuple[list[Group], Group | None, list[str]]:
    """Return the groups of the rhythm, longest first, the median beat, and notes.

    Raises
    ------
    Undecodable
        NO_WAVEFORM, if there is a median beat alone.
    """
    medians = [group for group in groups if group.is_median]
    others = [group for group in groups if not group.is_median]
    rhythm = [g for g in others if g.original] or others
    if not rhythm:
        raise Undecodable(Reason.NO_WAVEFORM, "The object holds a median beat and no rhythm.")
    notes = [
        f"Group {group.number} ({_shown(group.label) or 'unlabelled'}) was left out."
        for group in [*(g for g in others if g not in rhythm), *medians[1:]]
    ]
    if not rhythm[0].original:
        notes.append("The rhythm is declared as derived; no original group exists.")
    ordered = sorted(rhythm, key=lambda g: -g.ecg.duration)
    return ordered, next(iter(medians), None), notes


def on_one_axis(groups: Sequence[Group]) -> tuple[ECG, dict[int, int], list[str]]:
    """Return the leads of all groups on one time axis, NaN where one was not recorded.

    Parameters
    ----------
    groups
        Longest first; of a lead that stands in several, the first is taken.

    Returns
    -------
    tuple
        The ECG, the first sample of each group used by group number, and notes.

    Raises
    ------
    Undecodable
        AMBIGUOUS, if groups hold different leads and do not say when each began.
    """
    used, notes = _used(groups)
    if len(used) == 1:
        return used[0][0].ecg, {used[0][0].number: 0}, notes
    rate = used[0][0].ecg.sampling_frequency
    start = min(_start(group) for group, _ in used)
    firsts = {group.number: round((_start(group) - start) * rate) for group, _ in used}
    length = max(firsts[group.number] + group.ecg.samples for group, _ in used)
    if length > _SPARSE * sum(group.ecg.samples for group, _ in used):
        raise Undecodable(Reason.AMBIGUOUS, "The groups are too far apart to be one recording.")
    leads = [lead for _, new in used for lead in new]
    signal = np.full((len(leads), length), np.nan, np.float32)
    for group, new in used:
        first = firsts[group.number]
        rows = [leads.index(lead) for lead in new]
        signal[rows, first : first + group.ecg.samples] = group.ecg.select(new).signal
    notes.append("The leads were recorded in several groups and share one time axis.")
    return ECG(signal=signal, leads=tuple(leads), sampling_frequency=rate), firsts, notes


_SPARSE: Final = 4


def _used(groups: Sequence[Group]) -> tuple[list[tuple[Group, list[Lead]]], list[str]]:
    """Return the groups that add leads, each with those leads, and notes on the others."""
    used: list[tuple[Group, list[Lead]]] = []
    notes: list[str] = []
    seen: set[Lead] = set()
    for group in groups:
        new = [lead for lead in group.ecg.leads if lead not in seen]
        if not new or group.ecg.sampling_frequency != groups[0].ecg.sampling_frequency:
            notes.append(f"Group {group.number} was left out: another holds the rhythm.")
            continue
        used.append((group, new))
        seen.update(new)
    return used, notes


def _start(group: Group) -> float:
    if group.offset is None:
        raise Undecodable(
            Reason.AMBIGUOUS, "Leads stand in several groups that do not say when each began."
        )
    return group.offset
