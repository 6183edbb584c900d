"""What the waveform IODs allow (PS3.3 A.34), and what an annotation may be (C.10.10).

The writer asks these rules which class can hold the samples; the checker asks them again of the
finished object. No other validator at hand knows the limits.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.report.draft import Attributes, AttributeSet, Draft

TWELVE_LEAD: Final = "1.2.840.10008.5.1.4.1.1.9.1.1"
GENERAL: Final = "1.2.840.10008.5.1.4.1.1.9.1.2"
AMBULATORY: Final = "1.2.840.10008.5.1.4.1.1.9.1.3"
GENERAL_32: Final = "1.2.840.10008.5.1.4.1.1.9.1.4"
HEMODYNAMIC: Final = "1.2.840.10008.5.1.4.1.1.9.2.1"
ELECTROPHYSIOLOGY: Final = "1.2.840.10008.5.1.4.1.1.9.3.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one waveform IOD allows."""

    modality: str = "ECG"
    groups: int
    channels: int
    total_channels: int | None = None
    samples: int | None = None
    lowest_frequency: float
    """Hz."""
    highest_frequency: float
    """Hz."""
    interpretations: frozenset[str] = frozenset({"SS"})


LIMITS: Final = MappingProxyType(
    {
        TWELVE_LEAD: Limits(
            groups=5, channels=13, total_channels=13, samples=16384,
            lowest_frequency=200, highest_frequency=1000,
        ),
        GENERAL: Limits(groups=4, channels=24, lowest_frequency=200, highest_frequency=1000),
        AMBULATORY: Limits(
            groups=1, channels=12, lowest_frequency=50, highest_frequency=1000,
            interpretations=frozenset({"SB", "SS"}),
        ),
        GENERAL_32: Limits(
            groups=4, channels=24, lowest_frequency=0, highest_frequency=float("inf"),
            interpretations=frozenset({"SS", "SL"}),
        ),
        HEMODYNAMIC: Limits(
            modality="HD", groups=4, channels=8, lowest_frequency=0, highest_frequency=400,
        ),
        ELECTROPHYSIOLOGY: Limits(
            modality="EPS", groups=4, channels=24, lowest_frequency=0, highest_frequency=20000,
        ),
    }
)  # fmt: skip
"""PS3.3 A.34.3.4, A.34.4.4, A.34.5.4 and Supplement 237, A.34.6.4, A.34.7.4."""

BITS: Final = MappingProxyType({"SB": 8, "SS": 16, "SL": 32})
"""Waveform Bits Allocated of each Waveform Sample Interpretation in use here (C.10.9.1.5)."""

_SCALE = (
    "ChannelSensitivityUnitsSequence",
    "ChannelSensitivityCorrectionFactor",
    "ChannelBaseline",
)
_KINDS = frozenset({"UnformattedTextValue", "ConceptNameCodeSequence"})
_VALUES = frozenset({"ConceptCodeSequence", "NumericValue"})
_PLACES = frozenset({"ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime"})
TEMPORAL_RANGES: Final = frozenset(
    {"POINT", "MULTIPOINT", "SEGMENT", "MULTISEGMENT", "BEGIN", "END"}
)


def iod_faults(groups: Sequence[AttributeSet], sop_class_uid: str) -> Iterator[str]:
    """Yield what keeps these multiplex groups out of the IOD; one sentence each."""
    limits = LIMITS.get(sop_class_uid)
    if limits is None:
        yield f"SOP class {sop_class_uid} is no waveform class"
        return
    if not 1 <= len(groups) <= limits.groups:
        yield f"{len(groups)} multiplex groups, not 1 to {limits.groups}"
    total = sum(int(group.get("NumberOfWaveformChannels") or 0) for group in groups)
    if limits.total_channels is not None and total > limits.total_channels:
        yield f"{total} channels in all groups, more than {limits.total_channels}"
    for number, group in enumerate(groups, 1):
        yield from (f"group {number}: {fault}" for fault in _group_limits(group, limits))


def _group_limits(group: AttributeSet, limits: Limits) -> Iterator[str]:
    channels = int(group.get("NumberOfWaveformChannels") or 0)
    if not 1 <= channels <= limits.channels:
        yield f"{channels} channels, not 1 to {limits.channels}"
    frequency = float(group.get("SamplingFrequency") or 0)
    if not (frequency > 0 and limits.lowest_frequency <= frequency <= limits.highest_frequency):
        yield f"sampling frequency {frequency:g} Hz is outside the IOD"
    samples = int(group.get("NumberOfWaveformSamples") or 0)
    if limits.samples is not None and samples > limits.samples:
        yield f"{samples} samples, more than {limits.samples}"
    interpretation = str(group.get("WaveformSampleInterpretation") or "")
    if interpretation not in limits.interpretations:
        yield f"sample interpretation {interpretation or 'absent'} is outside the IOD"


def group_faults(group: AttributeSet) -> Iterator[str]:
    """Yield what contradicts itself or is missing inside one multiplex group (C.10.9)."""
    channels = list(group.get("ChannelDefinitionSequence") or ())
    if len(channels) != int(group.get("NumberOfWaveformChannels") or 0):
        yield "as many channel definitions as channels are needed"
    if group.get("WaveformOriginality") not in {"ORIGINAL", "DERIVED"}:
        yield "Waveform Originality is neither ORIGINAL nor DERIVED"
    bits = int(group.get("WaveformBitsAllocated") or 0)
    if bits != BITS.get(str(group.get("WaveformSampleInterpretation"))):
        yield "Waveform Bits Allocated does not fit the sample interpretation"
    samples = int(group.get("NumberOfWaveformSamples") or 0)
    length = len(group.get("WaveformData") or b"")
    expected = samples * len(channels) * bits // 8
    if samples < 1 or length != expected + expected % 2:
        yield f"{length} bytes of data where the counts ask for {expected}"
    for number, channel in enumerate(channels, 1):
        faults = _channel_faults(channel, bits)
        yield from (f"channel {number}: {fault}" for fault in faults)


def _channel_faults(channel: AttributeSet, bits: int) -> Iterator[str]:
    if not has(channel, "ChannelSourceSequence"):
        yield "no channel source"
    if not 1 <= int(channel.get("WaveformBitsStored") or 0) <= bits:
        yield "Waveform Bits Stored is absent or more than allocated"
    if has(channel, "ChannelSensitivity"):
        yield from (f"sensitivity without {word}" for word in _SCALE if not has(channel, word))
    if not (has(channel, "ChannelTimeSkew") or has(channel, "ChannelSampleSkew")):
        yield "neither time nor sample skew"


def annotation_faults(item: AttributeSet, groups: Sequence[AttributeSet]) -> Iterator[str]:
    """Yield what is wrong with one Waveform Annotation item among these multiplex groups."""
    values = values_of(item)
    yield from _kind_faults(values)
    pairs = _numbers(values.get("ReferencedWaveformChannels"))
    if not pairs or len(pairs) % 2:
        yield "referenced channels are no (group, channel) pairs"
        return
    references = list(zip(pairs[::2], pairs[1::2], strict=True))
    for group, channel in references:
        if not 1 <= group <= len(groups):
            yield f"references group {group} of {len(groups)}"
        elif not 0 <= channel <= int(groups[group - 1].get("NumberOfWaveformChannels") or 0):
            yield f"references channel {channel} of group {group}"
    yield from _range_faults(values, {group for group, _ in references}, groups)


def _kind_faults(item: Attributes) -> Iterator[str]:
    """Exactly one of: text; concept; concept and code; concept and number (C.10.10)."""
    kinds = _KINDS & item.keys()
    values = _VALUES & item.keys()
    if len(kinds) != 1 or ("UnformattedTextValue" in kinds and values):
        yield "is not exactly one of text and concept"
    if len(values) > 1:
        yield "has both a code and a number"
    if "NumericValue" in values and "MeasurementUnitsCodeSequence" not in item:
        yield "has a number without units"


def _range_faults(
    item: Attributes, named: set[int], groups: Sequence[AttributeSet]
) -> Iterator[str]:
    where = item.keys() & _PLACES
    kind = item.get("TemporalRangeType")
    if kind is None and not where:
        return
    if str(kind) not in TEMPORAL_RANGES or len(where) != 1:
        yield "needs one temporal range type and one way to say where"
    positions = _numbers(item.get("ReferencedSamplePositions"))
    if positions and len(named) != 1:
        yield "gives sample positions in more than one group"
    elif positions and named <= set(range(1, len(groups) + 1)):
        last = int(groups[next(iter(named)) - 1].get("NumberOfWaveformSamples") or 0)
        if not all(1 <= position <= last for position in positions):
            yield f"a sample position is outside 1 to {last}"


def has(item: AttributeSet, keyword: str) -> bool:
    """Return whether the item holds a value there; 0 is one."""
    value = item.get(keyword)
    return bool(value) or value == 0


def values_of(item: AttributeSet, only: Collection[int] | None = None) -> Attributes:
    """Return what has a value in the item, by keyword; of these tags only, if any are given."""
    if isinstance(item, Draft):
        return values_of(item.brought, only) | item.ours
    if not isinstance(item, Dataset):
        return item
    chosen = [e for e in item.values() if only is None or e.tag in only]
    elements = (item[e.tag] if e.is_raw else e for e in chosen)
    return {e.keyword: e.value for e in elements if e.value or e.value == 0}


def _numbers(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(number) for number in value] if hasattr(value, "__iter__") else [int(value)]
