"""One ECG to one General ECG Waveform (PS3.3 A.34.4); the only such encoder of the house.

Strict out: 16-bit signed samples in µV, MDC lead codes, the rhythm first. Identity and UIDs are
the caller's; nothing is generated here, so the same arguments give the same object.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, GeneralECGWaveformStorage

from analysis.ecg import ECG, Acquisition, Annotation, Code, Lead, Patient, Signal
from analysis.formats.dicom.leads import code_item, lead_source_sequence

STEPS: Final = (1.0, 1.25, 2.5, 5.0)
"""µV per step; the finest whose 16 bits hold the signal is taken."""
PADDING: Final = -32768
RATES: Final = (200.0, 1000.0)
MAX_CHANNELS: Final = 24

_MICROVOLT: Final = Code("UCUM", "uV", "microvolt")
_LARGEST: Final = 32767
_LONG_STRING: Final = 64
_NO_PATIENT: Final = Patient()
_NO_ACQUISITION: Final = Acquisition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which object this is, and in which study; all of it decided by the caller."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    created_at: datetime
    """Content Date and Time (0008,0023), (0008,0033)."""
    study_at: datetime | None = None
    study_id: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    series_number: int = 1
    instance_number: int = 1
    series_description: str = ""


def encode(
    ecg: ECG,
    *,
    identity: Identity,
    patient: Patient = _NO_PATIENT,
    acquisition: Acquisition = _NO_ACQUISITION,
    median_beat: ECG | None = None,
    annotations: Iterable[Annotation] = (),
) -> Dataset:
    """Return a General ECG Waveform object that holds the ECG.

    Parameters
    ----------
    ecg
        The rhythm; NaN becomes the padding value.
    identity, patient, acquisition
        Copied as they are. An ECG without a known time of acquisition takes that of its start,
        else of the object's creation.
    median_beat
        Becomes a second, derived group.
    annotations
        Marks and texts on the rhythm; samples from 0, as everywhere in this library.

    Returns
    -------
    Dataset
        With File Meta Information for Explicit VR Little Endian; `save_as` writes it.

    Raises
    ------
    ValueError
        If a General ECG cannot hold it: outside 200–1000 Hz, more than 24 leads, or beyond
        ±163 mV.
    """
    dataset = Dataset()
    dataset.file_meta = _file_meta(identity)
    dataset.SOPClassUID = GeneralECGWaveformStorage
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Modality = "ECG"
    _write_patient(dataset, patient)
    _write_study(dataset, identity)
    acquired_at = acquisition.acquired_at or ecg.start or identity.created_at
    _write_acquisition(dataset, acquisition, acquired_at)
    groups = [_group(ecg, "RHYTHM", "ORIGINAL", acquisition)]
    if median_beat is not None:
        groups.append(_group(median_beat, "MEDIAN BEAT", "DERIVED", acquisition))
    dataset.WaveformSequence = groups
    if items := [annotation_item(annotation, ecg.leads) for annotation in annotations]:
        dataset.WaveformAnnotationSequence = items
    return dataset


def _file_meta(identity: Identity) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = GeneralECGWaveformStorage
    meta.MediaStorageSOPInstanceUID = identity.sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _write_patient(dataset: Dataset, patient: Patient) -> None:
    dataset.PatientName = patient.name or ""
    dataset.PatientID = patient.identifier or ""
    dataset.PatientBirthDate = f"{patient.birth_date:%Y%m%d}" if patient.birth_date else ""
    dataset.PatientSex = patient.sex or ""
    if patient.age is not None:
        dataset.PatientAge = _age(patient.age)


def _age(years: float) -> str:
    """Return an Age String (PS3.5 §6.2): years from two on, else months."""
    if years >= 2:  # noqa: PLR2004 - the years a month still matters
        return f"{int(years):03d}Y"
    return f"{int(years * 12):03d}M"


def _write_study(dataset: Dataset, identity: Identity) -> None:
    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.StudyID = identity.study_id
    dataset.AccessionNumber = identity.accession_number
    dataset.ReferringPhysicianName = identity.referring_physician
    dataset.SeriesNumber = identity.series_number
    dataset.InstanceNumber = identity.instance_number
    if identity.series_description:
        dataset.SeriesDescription = identity.series_description
    study_at = identity.study_at
    dataset.StudyDate = f"{study_at:%Y%m%d}" if study_at else ""
    dataset.StudyTime = f"{study_at:%H%M%S}" if study_at else ""
    dataset.ContentDate = f"{identity.created_at:%Y%m%d}"
    dataset.ContentTime = f"{identity.created_at:%H%M%S}"


def _write_acquisition(dataset: Dataset, acquisition: Acquisition, at: datetime) -> None:
    dataset.AcquisitionDateTime = f"{at:%Y%m%d%H%M%S.%f%z}"
    dataset.AcquisitionContextSequence = []
    dataset.Manufacturer = _long_string(acquisition.manufacturer)
    if acquisition.model:
        dataset.ManufacturerModelName = _long_string(acquisition.model)
    if acquisition.software:
        dataset.SoftwareVersions = _long_string(acquisition.software)


def _long_string(words: str | None) -> str:
    """Return words about a device as one LO (PS3.5 §6.2): 64 characters, no backslash."""
    return (words or "").replace("\\", "/").strip()[:_LONG_STRING]


def _group(ecg: ECG, label: str, originality: str, acquisition: Acquisition) -> Dataset:
    """Return one item of the Waveform Sequence (PS3.3 §C.10.9)."""
    if not RATES[0] <= ecg.sampling_frequency <= RATES[1]:
        raise ValueError("a General ECG has 200 to 1000 Hz: resample first")
    if not 0 < len(ecg.leads) <= MAX_CHANNELS:
        raise ValueError("a General ECG has 1 to 24 channels")
    step = _step(ecg.signal)
    group = Dataset()
    group.WaveformOriginality = originality
    group.NumberOfWaveformChannels = len(ecg.leads)
    group.NumberOfWaveformSamples = ecg.samples
    group.SamplingFrequency = _decimal(ecg.sampling_frequency)
    group.MultiplexGroupLabel = label
    group.ChannelDefinitionSequence = [_channel(lead, step, acquisition) for lead in ecg.leads]
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    group.add_new("WaveformPaddingValue", "OW", np.array(PADDING, "<i2").tobytes())
    group.add_new("WaveformData", "OW", _samples(ecg.signal, step))
    return group


def _step(signal: Signal) -> float:
    """Return the finest step in µV whose 16 bits hold the signal."""
    largest = 1000.0 * float(np.max(np.abs(signal), initial=0.0, where=np.isfinite(signal)))
    for step in STEPS:
        if largest <= _LARGEST * step:
            return step
    raise ValueError("a General ECG of 5 µV per step holds no more than ±163 mV")


def _samples(signal: Signal, step: float) -> bytes:
    steps = np.rint(signal.T.astype(np.float64) * (1000.0 / step))
    return np.where(np.isnan(steps), PADDING, steps).astype("<i2").tobytes()


def _channel(lead: Lead, step: float, acquisition: Acquisition) -> Dataset:
    channel = Dataset()
    channel.ChannelLabel = lead.value
    channel.ChannelSourceSequence = lead_source_sequence(lead)
    channel.ChannelSensitivity = _decimal(step)
    channel.ChannelSensitivityUnitsSequence = [code_item(_MICROVOLT)]
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = "0"
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    for keyword, frequency in _filters(acquisition).items():
        if frequency is not None:
            setattr(channel, keyword, _decimal(frequency))
    return channel


def _filters(acquisition: Acquisition) -> Mapping[str, float | None]:
    return {
        "FilterLowFrequency": acquisition.filter_low_frequency,
        "FilterHighFrequency": acquisition.filter_high_frequency,
        "NotchFilterFrequency": acquisition.notch_filter_frequency,
    }


def _decimal(number: float) -> str:
    """Return a Decimal String, at most 16 characters (PS3.5 §6.2)."""
    return f"{number:.10g}"


def annotation_item(annotation: Annotation, leads: Sequence[Lead], group: int = 1) -> Dataset:
    """Return one item of the Waveform Annotation Sequence (PS3.3 §C.10.10).

    Parameters
    ----------
    annotation
        Its text excludes a code; its leads must be among `leads`, none means all.
    leads
        Of the group it refers to, in the order of their channels.
    group
        Place of that group in the Waveform Sequence, from 1.
    """
    item = Dataset()
    if annotation.text is not None:
        item.UnformattedTextValue = annotation.text
    elif annotation.code is not None:
        item.ConceptNameCodeSequence = [code_item(annotation.code)]
        _write_value(item, annotation)
    else:
        raise ValueError("an annotation has a text or a code")
    channels = [leads.index(lead) + 1 for lead in annotation.leads] or [0]
    item.ReferencedWaveformChannels = [part for c in channels for part in (group, c)]
    if annotation.samples:
        item.TemporalRangeType = "POINT" if len(annotation.samples) == 1 else "MULTIPOINT"
        item.ReferencedSamplePositions = [round(sample) + 1 for sample in annotation.samples]
    if annotation.group is not None:
        item.AnnotationGroupNumber = annotation.group
    return item


def _write_value(item: Dataset, annotation: Annotation) -> None:
    if annotation.value is None:
        return
    item.NumericValue = _decimal(annotation.value)
    if annotation.unit:
        item.MeasurementUnitsCodeSequence = [
            code_item(Code("UCUM", annotation.unit, annotation.unit))
        ]
