"""A copy of the ECG with our findings written on it; never the original, and marked so.

General ECG, because 12-Lead ECG ends at 13 channels in all groups (PS3.3 A.34.3.4.4) and a rhythm
with a median beat has more. The rhythm stands first, because viewers draw only the first group.
Samples, scales and the cart's own annotations are what the source holds.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from analysis.codes import LEAD_CODES
from analysis.ecg import ECG, Code, Lead
from dicom_node.report import concepts as c
from dicom_node.report.draft import (
    Attributes,
    AttributeSet,
    Draft,
    attribute,
    first_code,
    value_of,
)
from dicom_node.report.marks import MARKED_BEATS, Place, annotations
from dicom_node.report.objects import UNREADABLE, Inputs, Role
from dicom_node.report.shell import (
    SYNCHRONIZATION,
    acquired_at,
    identity,
    placement,
    public_copy,
    reference,
)
from dicom_node.report.waveforms import (
    AMBULATORY,
    GENERAL,
    GENERAL_32,
    LIMITS,
    TWELVE_LEAD,
    annotation_faults,
    group_faults,
    iod_faults,
)

__all__ = ["DESCRIPTION", "MARKED_BEATS", "analysed_group", "annotated_ecg", "sop_class_for"]

DESCRIPTION: Final = "Copy with AI annotations, not the original ECG"

_ECG_CLASSES = frozenset({TWELVE_LEAD, GENERAL, AMBULATORY, GENERAL_32})
_CODE_KEYWORDS = (
    "CodingSchemeDesignator",
    "CodeValue",
    "CodeMeaning",
    "CodingSchemeVersion",
)
_SIZES = ("NumberOfWaveformChannels", "NumberOfWaveformSamples")
"""As they came, but as numbers: every annotation is held against them."""
_SKEWS = ("ChannelTimeSkew", "ChannelSampleSkew")
"""One of the two, never both (PS3.3 C.10.9)."""
_DATE: Final = re.compile(r"\d{8} *")
_TIME: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)? *")
_SCALE_DEFAULTS = {"ChannelSensitivityCorrectionFactor": "1", "ChannelBaseline": "0"}
_BROKEN_BY_COPYING = (0x4FFE0001, 0xFFFAFFFA, 0xFFFCFFFC)
"""MAC parameters, digital signatures and trailing padding: of the original bytes."""
_SCPECG_LEAD = "5.6.3-9-"


def annotated_ecg(inputs: Inputs) -> Draft | None:
    """Return the annotated copy, or None where no waveform class can hold the samples."""
    source = inputs.source
    brought = _brought(source)
    came = brought.get("WaveformSequence")
    if not came:
        return None
    order = _order(came, inputs.result.recording.ecg)
    little_endian = source.original_encoding[1] is not False
    groups = [_group(came[index], little_endian=little_endian) for index in order]
    sop_class_uid = sop_class_for(str(source.SOPClassUID), groups)
    if sop_class_uid is None:
        return None
    earlier = brought.get("ContributingEquipmentSequence") or ()
    sequences = {
        "WaveformSequence": groups,
        "WaveformAnnotationSequence": _annotations(brought, groups, inputs, order),
    }
    ours = placement(inputs, Role.ECG, sop_class_uid, earlier) | _description(brought, inputs)
    return Draft(brought, ours | {"Modality": LIMITS[sop_class_uid].modality} | sequences)


def _brought(source: Dataset) -> Dataset:
    """Return what the copy takes over from the source."""
    brought = public_copy(source)
    brought.update(identity(source))
    for tag in _BROKEN_BY_COPYING:
        brought.pop(tag, None)
    if not all(value_of(brought, word) for word in SYNCHRONIZATION):
        _drop(brought, *SYNCHRONIZATION)
    _drop(brought, "Laterality")  # only of what is paired (PS3.3 C.7.3.1)
    if "Manufacturer" not in brought:
        brought.Manufacturer = None  # type 2 (PS3.3 C.7.5.1)
    return brought


def _drop(dataset: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        dataset.pop(attribute(keyword)[0], None)


def sop_class_for(own: str, groups: Sequence[AttributeSet]) -> str | None:
    """Return General ECG if it can hold the groups, else their own class if that one can.

    What came as haemodynamic or electrophysiology becomes an ECG only if every channel is a lead.
    """
    if any(True for group in groups for _ in group_faults(group)):
        return None
    is_ecg = own in _ECG_CLASSES or all(map(_holds_leads, groups))
    candidates = (GENERAL, own) if is_ecg else (own,)
    return next((uid for uid in candidates if not any(iod_faults(groups, uid))), None)


def _holds_leads(group: AttributeSet) -> bool:
    channels = group.get("ChannelDefinitionSequence") or ()
    codes = (first_code(channel.get("ChannelSourceSequence")) for channel in channels)
    return all(code in LEAD_CODES.values() for code in codes)


def _description(brought: Dataset, inputs: Inputs) -> Attributes:
    acquired = acquired_at(inputs.source)
    date, time = brought.get("ContentDate"), brought.get("ContentTime")
    if not (_DATE.fullmatch(str(date or "")) and _TIME.fullmatch(str(time or ""))):
        date, time = acquired[:8], acquired[8:14] or "000000"
    context = brought.get("AcquisitionContextSequence") or ()
    origin = reference(inputs.source) | {"PurposeOfReferenceCodeSequence": c.SOURCE_OF_MEASUREMENT}
    return {
        "SeriesDescription": DESCRIPTION,
        "AcquisitionDateTime": acquired,
        "ContentDate": date,
        "ContentTime": time,
        "AcquisitionContextSequence": [
            i for i in context if i.get("ValueType") and i.get("ConceptNameCodeSequence")
        ],
        "ReferencedInstanceSequence": [*(brought.get("ReferencedInstanceSequence") or ()), origin],
    }


def _order(groups: Sequence[Dataset], ecg: ECG) -> list[int]:
    """Return the group numbers with the analysed rhythm first; the others keep their order."""

    def preference(index: int) -> tuple[bool, bool]:
        group = groups[index]
        return not _holds(group, ecg), group.get("WaveformOriginality") != "ORIGINAL"

    first = min(range(len(groups)), key=preference)
    return [first, *(i for i in range(len(groups)) if i != first)]


def analysed_group(source: Dataset, ecg: ECG) -> int | None:
    """Return the multiplex group, from 1, that holds the analysed ECG; None where none does."""
    groups = source.get("WaveformSequence") or ()
    number = next(iter(_order(groups, ecg)), None) if groups else None
    return number + 1 if number is not None and _holds(groups[number], ecg) else None


def _holds(group: AttributeSet, ecg: ECG) -> bool:
    return (
        int(group.get("NumberOfWaveformSamples") or 0) == ecg.samples
        and float(group.get("SamplingFrequency") or 0) == ecg.sampling_frequency
    )


def _group(source: Dataset, *, little_endian: bool) -> Draft:
    """Return the samples little-endian, leads in MDC, and what follows from the samples."""
    bits = int(source.get("WaveformBitsAllocated") or 0)
    channels = [
        _channel(channel, bits, little_endian=little_endian)
        for channel in source.get("ChannelDefinitionSequence") or ()
    ]
    words = ("WaveformData", "WaveformPaddingValue")
    brought = _with_words(source, words, bits, little_endian=little_endian)
    sizes = {word: int(source[word].value) for word in _SIZES if source.get(word)}
    return Draft(brought, sizes | {"ChannelDefinitionSequence": channels})


def _channel(source: Dataset, bits: int, *, little_endian: bool) -> Draft:
    words = ("ChannelMinimumValue", "ChannelMaximumValue")
    brought = _with_words(source, words, bits, little_endian=little_endian)
    if all(attribute(keyword)[0] in brought for keyword in _SKEWS):
        _drop(brought, min(_SKEWS, key=lambda keyword: bool(value_of(brought, keyword))))
    return Draft(brought, _lead_source(brought) | _units(brought) | _filled(brought, bits))


def _with_words(
    source: Dataset, keywords: tuple[str, ...], bits: int, *, little_endian: bool
) -> Dataset:
    """Return a copy with these values, each of a sample's size, little-endian."""
    copy = Dataset(dict(source.items()))
    vr = "OB" if bits == 8 else "OW"  # noqa: PLR2004 - bytes have no order
    for tag in (attribute(keyword)[0] for keyword in keywords):
        if tag in copy:
            value = copy[tag].value or b""
            if not little_endian and vr == "OW":
                value = np.frombuffer(value, f">i{bits // 8}").astype(f"<i{bits // 8}").tobytes()
            copy[tag] = DataElement(tag, vr, value)
    return copy


def _units(channel: Dataset) -> Attributes:
    """Return the unit under its own name where the source gives it none (type 1)."""
    came = next(iter(value_of(channel, "ChannelSensitivityUnitsSequence") or ()), None)
    if came is None or value_of(came, "CodeMeaning"):
        return {}
    scheme, value = (str(value_of(came, word) or "") for word in _CODE_KEYWORDS[:2])
    return {"ChannelSensitivityUnitsSequence": Code(scheme, value, value)}


def _filled(channel: Dataset, bits: int) -> Attributes:
    """Say what the analysis took for granted where the source is silent (C.10.9.1.4)."""
    filled: Attributes = {}
    if not value_of(channel, "WaveformBitsStored"):
        filled["WaveformBitsStored"] = bits
    if not any(attribute(keyword)[0] in channel for keyword in _SKEWS):
        filled["ChannelSampleSkew"] = "0"
    if value_of(channel, "ChannelSensitivity") is not None:
        silent = (word for word in _SCALE_DEFAULTS if value_of(channel, word) in {None, ""})
        filled |= {word: _SCALE_DEFAULTS[word] for word in silent}
    return filled


def _lead_source(channel: Dataset) -> Attributes:
    """Code the lead by CID 3001; what the source said stays beside it as an equivalent."""
    came = next(iter(value_of(channel, "ChannelSourceSequence") or ()), Dataset())
    scheme, value, meaning, version = (
        str(value_of(came, keyword) or "").strip(" \0") for keyword in _CODE_KEYWORDS
    )
    lead = _lead(Code(scheme, value, meaning), channel)
    if lead is None:
        return {}
    if not (value.startswith(_SCPECG_LEAD) and version):
        return {"ChannelSourceSequence": LEAD_CODES[lead]}
    return {"ChannelSourceSequence": [_equivalent(lead, value, meaning, version)]}


@lru_cache(maxsize=1024)
def _equivalent(lead: Lead, value: str, meaning: str, version: str) -> Dataset:
    """Return the MDC code, with the SCPECG code it stands for; that one needs its version."""
    item = public_copy(c.coded(LEAD_CODES[lead]))
    item.EquivalentCodeSequence = [
        CodedConcept(value, "SCPECG", meaning or f"Lead {lead}", version)
    ]
    return item


def _lead(said: Code, channel: Dataset) -> Lead | None:
    if said.scheme in {"MDC", "SCPECG"}:
        return _LEADS.get(said.value.replace(_SCPECG_LEAD, "2:"))
    lead = Lead.parse(said.meaning or str(value_of(channel, "ChannelLabel") or ""))
    return lead if lead in LEAD_CODES else None


_LEADS = {code.value: lead for lead, code in LEAD_CODES.items()}


def _annotations(
    brought: Dataset, groups: Sequence[Draft], inputs: Inputs, order: list[int]
) -> list[AttributeSet]:
    """Return the valid annotations of the source as they came, and ours behind them."""
    vendor = [_renumbered(i, order) for i in brought.get("WaveformAnnotationSequence") or ()]
    kept = [item for item in vendor if _is_valid(item, groups)]
    ecg = inputs.result.recording.ecg
    place = Place(
        channels=_lead_channels(groups),
        samples=ecg.samples if _holds(groups[0], ecg) else None,
        taken=frozenset(int(item.get("AnnotationGroupNumber") or 0) for item in kept),
        left_out=len(vendor) - len(kept),
    )
    return [*kept, *annotations(inputs.result, place)]


def _lead_channels(groups: Sequence[Draft]) -> dict[Lead, tuple[int, int]]:
    """Return where each lead first stands: multiplex group and channel, from 1."""
    found: dict[Lead, tuple[int, int]] = {}
    for group, held in enumerate(groups, 1):
        for number, channel in enumerate(held.get("ChannelDefinitionSequence"), 1):
            code = first_code(channel.get("ChannelSourceSequence"))
            lead = _LEADS.get(code.value) if code and code.scheme == "MDC" else None
            if lead is not None:
                found.setdefault(lead, (group, number))
    return found


def _is_valid(item: Dataset, groups: Sequence[AttributeSet]) -> bool:
    try:
        int(item.get("AnnotationGroupNumber") or 0)
        return not any(annotation_faults(item, groups))
    except UNREADABLE:
        return False


def _renumbered(source: Dataset, order: list[int]) -> Dataset:
    """Return the item with its groups under their new numbers."""
    if order == sorted(order):
        return source
    value: Any = source.get("ReferencedWaveformChannels")
    if value is None or len(value) % 2:
        return source
    pairs = list(value)
    new = {old + 1: position + 1 for position, old in enumerate(order)}
    pairs[::2] = [new.get(group, group) for group in pairs[::2]]
    item = public_copy(source)
    item.ReferencedWaveformChannels = pairs
    return item
