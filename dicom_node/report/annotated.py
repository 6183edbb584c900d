"""A copy of the ECG with our findings written on it; never the original, and marked so.

General ECG, because 12-Lead ECG ends at 13 channels in all groups (PS3.3 A.34.3.4.4) and a rhythm
with a median beat has more. The rhythm stands first, because viewers draw only the first group.
Samples, scales and the cart's own annotations are what the source holds.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from analysis.codes import LEAD_CODES
from analysis.ecg import ECG, Code, Lead
from analysis.result import Result
from dicom_node.report import concepts as c
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    UNREADABLE,
    Inputs,
    Role,
    headline,
    models_line,
    spoken,
)
from dicom_node.report.shell import (
    acquired_at,
    ascii_text,
    identity,
    place,
    public_copy,
    reference,
)
from dicom_node.report.sr import is_reported
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

DESCRIPTION: Final = "Copy with AI annotations, not the original ECG"
MARKED_BEATS: Final = 500
"""Beats that are marked at most; a Holter has a hundred thousand."""

_ECG_CLASSES = frozenset({TWELVE_LEAD, GENERAL, AMBULATORY, GENERAL_32})
_TEXT_LIMIT = 1024
_CODE_KEYWORDS = (
    "CodingSchemeDesignator",
    "CodeValue",
    "CodeMeaning",
    "CodingSchemeVersion",
)
_SCALE_DEFAULTS = {"ChannelSensitivityCorrectionFactor": "1", "ChannelBaseline": "0"}
_BROKEN_BY_COPYING = (0x4FFE0001, 0xFFFAFFFA, 0xFFFCFFFC)
"""MAC parameters, digital signatures and trailing padding: of the original bytes."""
_SCPECG_LEAD = "5.6.3-9-"
_SEGMENTS = (
    (c.P_WAVE, "p_onset", "p_offset"),
    (c.QRS_COMPLEX, "qrs_onset", "qrs_offset"),
    (c.T_WAVE, "t_onset", "t_offset"),
)


def annotated_ecg(inputs: Inputs) -> Dataset | None:
    """Return the annotated copy, or None where no waveform class can hold the samples."""
    source = inputs.source
    dataset = public_copy(source)
    dataset.update(identity(source))
    if not dataset.get("WaveformSequence"):
        return None
    for tag in _BROKEN_BY_COPYING:
        dataset.pop(tag, None)
    order = _order(dataset, inputs.result.recording.ecg)
    little_endian = source.original_encoding[1] is not False
    dataset.WaveformSequence = [
        _group(dataset.WaveformSequence[index], little_endian=little_endian) for index in order
    ]
    sop_class_uid = sop_class_for(dataset)
    if sop_class_uid is None:
        return None
    dataset.WaveformAnnotationSequence = _annotations(dataset, inputs, order)
    place(dataset, inputs, Role.ECG, sop_class_uid)
    _describe(dataset, inputs, sop_class_uid)
    return dataset


def sop_class_for(dataset: Dataset) -> str | None:
    """Return General ECG if it can hold the groups, else their own class if that one can.

    What came as haemodynamic or electrophysiology becomes an ECG only if every channel is a lead.
    """
    own = str(dataset.SOPClassUID)
    groups = dataset.WaveformSequence
    if any(True for group in groups for _ in group_faults(group)):
        return None
    is_ecg = own in _ECG_CLASSES or all(map(_holds_leads, groups))
    candidates = (GENERAL, own) if is_ecg else (own,)
    return next((uid for uid in candidates if not any(iod_faults(dataset, uid))), None)


def _holds_leads(group: Dataset) -> bool:
    sources = (channel.ChannelSourceSequence[0] for channel in group.ChannelDefinitionSequence)
    return all(
        item.get("CodingSchemeDesignator") == "MDC" and item.get("CodeValue") in _LEADS
        for item in sources
    )


def _describe(dataset: Dataset, inputs: Inputs, sop_class_uid: str) -> None:
    dataset.Modality = LIMITS[sop_class_uid].modality
    dataset.SeriesDescription = DESCRIPTION
    dataset.AcquisitionDateTime = acquired_at(inputs.source)
    if not (dataset.get("ContentDate") and dataset.get("ContentTime")):
        moment = str(dataset.AcquisitionDateTime)
        dataset.ContentDate, dataset.ContentTime = moment[:8], moment[8:14] or "000000"
    dataset.AcquisitionContextSequence = [
        item
        for item in dataset.get("AcquisitionContextSequence") or ()
        if item.get("ValueType") and item.get("ConceptNameCodeSequence")
    ]
    if not dataset.get("Laterality"):
        dataset.pop("Laterality", None)
    origin = reference(inputs.source)
    origin.PurposeOfReferenceCodeSequence = [c.coded(c.SOURCE_OF_MEASUREMENT)]
    earlier = dataset.get("ReferencedInstanceSequence") or ()
    dataset.ReferencedInstanceSequence = [*earlier, origin]


def _order(dataset: Dataset, ecg: ECG) -> list[int]:
    """Return the group numbers with the analysed rhythm first; the others keep their order."""
    groups = dataset.WaveformSequence

    def preference(index: int) -> tuple[bool, bool]:
        group = groups[index]
        return not _holds(group, ecg), group.get("WaveformOriginality") != "ORIGINAL"

    first = min(range(len(groups)), key=preference, default=0)
    return [first, *(i for i in range(len(groups)) if i != first)]


def _holds(group: Dataset, ecg: ECG) -> bool:
    return (
        int(group.get("NumberOfWaveformSamples") or 0) == ecg.samples
        and float(group.get("SamplingFrequency") or 0) == ecg.sampling_frequency
    )


def _group(source: Dataset, *, little_endian: bool) -> Dataset:
    """Return a copy: samples little-endian, leads in MDC, and what follows from the samples."""
    group = public_copy(source)
    bits = int(group.get("WaveformBitsAllocated") or 0)
    for keyword in ("WaveformData", "WaveformPaddingValue"):
        _set_bytes(group, keyword, bits, little_endian=little_endian)
    group.ChannelDefinitionSequence = [
        _channel(channel, bits, little_endian=little_endian)
        for channel in group.get("ChannelDefinitionSequence") or ()
    ]
    return group


def _channel(source: Dataset, bits: int, *, little_endian: bool) -> Dataset:
    channel = public_copy(source)
    for keyword in ("ChannelMinimumValue", "ChannelMaximumValue"):
        _set_bytes(channel, keyword, bits, little_endian=little_endian)
    _name_lead(channel)
    _fill(channel, bits)
    return channel


def _fill(channel: Dataset, bits: int) -> None:
    """Say what the analysis took for granted where the source is silent (C.10.9.1.4)."""
    if not channel.get("WaveformBitsStored"):
        channel.WaveformBitsStored = bits
    if "ChannelTimeSkew" not in channel and "ChannelSampleSkew" not in channel:
        channel.ChannelSampleSkew = "0"
    if channel.get("ChannelSensitivity") is not None:
        for keyword, value in _SCALE_DEFAULTS.items():
            if channel.get(keyword) in {None, ""}:
                setattr(channel, keyword, value)


def _set_bytes(item: Dataset, keyword: str, bits: int, *, little_endian: bool) -> None:
    if keyword not in item:
        return
    value = item[keyword].value or b""
    if not little_endian and bits > 8:  # noqa: PLR2004 - bytes have no order
        value = np.frombuffer(value, dtype=f">i{bits // 8}").astype(f"<i{bits // 8}").tobytes()
    item[keyword] = DataElement(keyword, "OB" if bits == 8 else "OW", value)  # noqa: PLR2004


def _name_lead(channel: Dataset) -> None:
    """Code the lead by CID 3001; what the source said stays beside it as an equivalent."""
    source = next(iter(channel.get("ChannelSourceSequence") or ()), Dataset())
    scheme, value, meaning, version = (
        str(source.get(keyword) or "").strip(" \0") for keyword in _CODE_KEYWORDS
    )
    said = Code(scheme, value, meaning)
    lead = _lead(said, str(channel.get("ChannelLabel") or ""))
    if lead is not None:
        channel.ChannelSourceSequence = [_lead_item(lead, value, meaning, version)]


@lru_cache(maxsize=1024)
def _lead_item(lead: Lead, value: str, meaning: str, version: str) -> Dataset:
    """Return the MDC code, with the SCPECG code it stands for; that one needs its version."""
    item = public_copy(c.coded(LEAD_CODES[lead]))
    if value.startswith(_SCPECG_LEAD) and version:
        item.EquivalentCodeSequence = [
            CodedConcept(value, "SCPECG", meaning or f"Lead {lead}", version)
        ]
    return item


def _lead(said: Code, label: str) -> Lead | None:
    if said.scheme in {"MDC", "SCPECG"}:
        return _LEADS.get(said.value.replace(_SCPECG_LEAD, "2:"))
    lead = Lead.parse(said.meaning or label)
    return lead if lead in LEAD_CODES else None


_LEADS = {code.value: lead for lead, code in LEAD_CODES.items()}


def _annotations(dataset: Dataset, inputs: Inputs, order: list[int]) -> list[Dataset]:
    groups = list(dataset.WaveformSequence)
    vendor = [_renumbered(i, order) for i in dataset.get("WaveformAnnotationSequence") or ()]
    kept = [item for item in vendor if _is_valid(item, groups)]
    number = max((int(i.get("AnnotationGroupNumber") or 0) for i in kept), default=0) + 1
    result = inputs.result
    ours = [*_texts(result, len(vendor) - len(kept), number), *_concepts(result, number)]
    if _holds(groups[0], result.recording.ecg):
        ours.extend(_beats(result, number + 1))
    return kept + ours


def _is_valid(item: Dataset, groups: list[Dataset]) -> bool:
    try:
        int(item.get("AnnotationGroupNumber") or 0)
        return not any(annotation_faults(item, groups))
    except UNREADABLE:
        return False


def _renumbered(source: Dataset, order: list[int]) -> Dataset:
    """Return the item with its groups under their new numbers."""
    value: Any = source.get("ReferencedWaveformChannels")
    if order == sorted(order) or value is None or len(value) % 2:
        return source
    pairs = list(value)
    new = {old + 1: position + 1 for position, old in enumerate(order)}
    pairs[::2] = [new.get(group, group) for group in pairs[::2]]
    item = public_copy(source)
    item.ReferencedWaveformChannels = pairs
    return item


def _texts(result: Result, left_out: int, number: int) -> Iterator[Dataset]:
    lines = [*headline(result), *result.not_assessed, models_line(result), SAFETY_SENTENCE]
    if left_out:
        lines.append(f"{left_out} annotations of the source are not valid and are left out.")
    if len(result.measurements.r_peaks) > MARKED_BEATS:
        lines.append(f"Only the first {MARKED_BEATS} beats are marked.")
    for line in lines:
        text = f"AI: {ascii_text(line, _TEXT_LIMIT - 4)}"
        yield _item(number, _element("UnformattedTextValue", "ST", text))


def _concepts(result: Result, number: int) -> Iterator[Dataset]:
    for statement in spoken(result):
        yield _item(number, _name(c.ECG_FINDING), _coded("ConceptCodeSequence", statement.code))
    for name, quantity in result.measurements.quantities():
        if name in c.MARKS and is_reported(name, quantity):
            yield _item(
                number,
                _name(c.MARKS[name]),
                _element("NumericValue", "DS", f"{quantity.value:.1f}"),
                _coded("MeasurementUnitsCodeSequence", c.UNITS[quantity.unit]),
            )


def _beats(result: Result, number: int) -> Iterator[Dataset]:
    """Yield the R peak and the waves of each beat; one annotation group per beat."""
    measurements, samples = result.measurements, result.recording.ecg.samples
    waves = measurements.fiducials.get("global", {})
    for row, peak in enumerate(measurements.r_peaks[:MARKED_BEATS]):
        marks: list[tuple[Code, str, tuple[float, ...]]] = [(c.R_WAVE, "POINT", (peak,))]
        marks += [
            (wave, "SEGMENT", (waves[begin][row], waves[end][row]))
            for wave, begin, end in _SEGMENTS
            if begin in waves and end in waves
        ]
        for concept, kind, where in marks:
            if all(0 <= sample <= samples - 1 for sample in where):
                positions = [round(float(sample)) + 1 for sample in where]
                yield _item(
                    number + row,
                    _name(concept),
                    _element("TemporalRangeType", "CS", kind),
                    _element("ReferencedSamplePositions", "UL", positions),
                )


def _item(number: int, *elements: DataElement) -> Dataset:
    """Return an annotation of all channels of the rhythm, in this annotation group."""
    group = _element("AnnotationGroupNumber", "US", number)
    return Dataset({element.tag: element for element in (_RHYTHM, group, *elements)})


def _name(concept: Code) -> DataElement:
    return _coded("ConceptNameCodeSequence", concept)


def _coded(keyword: str, code: Code) -> DataElement:
    return _element(keyword, "SQ", [c.coded(code)])


def _element(keyword: str, vr: str, value: object) -> DataElement:
    return DataElement(tag_for_keyword(keyword), vr, value)


_RHYTHM: Final = _element("ReferencedWaveformChannels", "US", [1, 0])
