"""One DICOM waveform object to one Recording; the only place of the house that owns scale."""

from datetime import datetime
from typing import Final

from pydicom.uid import UID_dictionary

from analysis.ecg import ECG, Recording
from analysis.errors import Reason, Undecodable
from analysis.formats.common import completed
from analysis.formats.dicom.elements import Encoded, Item, items, text
from analysis.formats.dicom.facts import (
    Axis,
    Texts,
    acquisition_of,
    annotations_of,
    patient_of,
    recorded_on,
)
from analysis.formats.dicom.groups import Group, group_of, on_one_axis, rhythm_and_median

_WAVEFORM: Final = "1.2.840.10008.5.1.4.1.1.9."
_HEMODYNAMIC: Final = "1.2.840.10008.5.1.4.1.1.9.2.1"
FORMATS: Final = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "DICOM 12-Lead ECG Waveform",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "DICOM General ECG Waveform",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "DICOM Ambulatory ECG Waveform",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "DICOM General 32-bit ECG Waveform",
    _HEMODYNAMIC: "DICOM Hemodynamic Waveform",
}


def recording(encoded: Encoded) -> Recording:
    """Return the ECG of a DICOM file.

    Raises
    ------
    Undecodable
        With the reason (FORMATS.md lists them).
    """
    _refuse_other_class(text(encoded.meta, "MediaStorageSOPClassUID"), absent=True)
    dataset = encoded.dataset()
    sop_class = text(dataset, "SOPClassUID") or text(encoded.meta, "MediaStorageSOPClassUID")
    _refuse_other_class(sop_class)
    groups, notes = _groups(dataset)
    rhythm, median, group_notes = rhythm_and_median(groups)
    joined, firsts, axis_notes = on_one_axis(rhythm)
    used = [group for group in rhythm if group.number in firsts]
    channels = [channel for group in used for channel in group.channels]
    leads = {(group.number, c.number): c.lead for group in used for c in group.channels}

    texts = Texts.of(dataset)
    patient, patient_notes = patient_of(dataset, texts, recorded_on(dataset))
    acquisition, acquisition_notes = acquisition_of(dataset, texts, channels)
    axis = Axis(leads, firsts, joined.sampling_frequency)
    annotations, statements = annotations_of(dataset, texts, axis)
    ecg, derived, limb_notes = completed(
        _started(joined, acquisition.acquired_at), max(group.resolution for group in used)
    )
    notes += [*group_notes, *axis_notes, *(note for group in used for note in group.notes)]
    notes += [*texts.notes, *patient_notes, *acquisition_notes, *limb_notes]
    return Recording(
        ecg=ecg,
        median_beat=_median_beat(median),
        format=FORMATS[sop_class],
        patient=patient,
        acquisition=acquisition,
        vendor_statements=statements,
        annotations=annotations,
        notes=tuple(notes),
        derived_leads=derived,
    )


def _refuse_other_class(uid: str, *, absent: bool = False) -> None:
    if uid in FORMATS or (absent and not uid):
        return
    what = UID_dictionary[uid][0] if uid in UID_dictionary else "an object of unknown SOP Class"
    if uid.startswith(_WAVEFORM):
        what = f"{what}, which is no surface ECG"
    raise Undecodable(Reason.NOT_AN_ECG, f"The object is {what}; send ECG waveforms only.")


def _groups(dataset: Item) -> tuple[list[Group], list[str]]:
    """Return the groups that can be read; those beside the rhythm may fail with a note."""
    groups: list[Group] = []
    notes: list[str] = []
    refusals: list[Undecodable] = []
    for place, item in enumerate(items(dataset, "WaveformSequence"), 1):
        try:
            groups.append(group_of(item, place))
        except Undecodable as refusal:
            derived = text(item, "WaveformOriginality") == "DERIVED"
            if not (derived or refusal.reason is Reason.NOT_AN_ECG):
                raise
            refusals.append(refusal)
            notes.append(f"Group {place} was left out: {refusal.message}")
    if not groups:
        raise (
            refusals[0]
            if refusals
            else Undecodable(Reason.NO_WAVEFORM, "The object holds no waveform.")
        )
    if len({group.ecg.sampling_frequency for group in groups}) > 1:
        notes.append("The groups have different sampling frequencies.")
    return groups, notes


def _started(ecg: ECG, start: datetime | None) -> ECG:
    return ECG(
        signal=ecg.signal,
        leads=ecg.leads,
        sampling_frequency=ecg.sampling_frequency,
        start=start,
    )


def _median_beat(median: Group | None) -> ECG | None:
    return None if median is None else completed(median.ecg, median.resolution)[0]
