"""DICOM waveform objects as carts write them, well or badly, made for tests.

Written with pydicom alone and independent of the encoder under test.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
NUMBERS = dict(zip(TWELVE, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))
PER_MILLIVOLT = {"nV": 1e6, "uV": 1e3, "mV": 1.0, "V": 1e-3}
STORED = {
    "SB": (8, "<i1"),
    "UB": (8, "<u1"),
    "SS": (16, "<i2"),
    "US": (16, "<u2"),
    "SL": (32, "<i4"),
    "UL": (32, "<u4"),
}
MEDIAN_SECONDS = 1.2


def synthetic(rate: int = 500, seconds: float = 4.0) -> npt.NDArray[np.float64]:
    """Return twelve leads that obey the limb laws, ``(12, samples)`` in mV, steps of 40 µV."""
    time = np.arange(round(rate * seconds)) / rate
    beat = np.exp(-(((time % 0.8) - 0.3) ** 2) / 0.0008)
    wave = 0.2 * np.exp(-(((time % 0.8) - 0.55) ** 2) / 0.004)
    leads = {"I": 0.72 * beat + wave, "II": 1.12 * beat + 0.8 * wave}
    leads |= {f"V{n}": (0.4 * n - 1.3) * beat + 0.3 * n * wave for n in range(1, 7)}
    leads = {name: np.rint(signal / 0.08) * 0.08 for name, signal in leads.items()}
    one, two = leads["I"], leads["II"]
    leads |= {"III": two - one, "aVR": -(one + two) / 2}
    leads |= {"aVL": one - two / 2, "aVF": two - one / 2}
    return np.stack([leads[name] for name in TWELVE])


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def channel(name: str, *, naming: str = "MDC", step: float, unit: str, bits: int) -> Dataset:
    """Return a channel definition; `step` in the unit."""
    item = Dataset()
    if naming == "text":
        item.ChannelLabel = name
    else:
        prefix = "2:" if naming == "MDC" else "5.6.3-9-"
        value = f"{prefix}{NUMBERS.get(name, name)}"
        item.ChannelSourceSequence = [code(value, naming, f"Lead {name}")]
    item.ChannelSensitivity = f"{step:.10g}"
    item.ChannelSensitivityUnitsSequence = [code(unit, "UCUM", unit)]
    item.ChannelSensitivityCorrectionFactor = "1"
    item.ChannelBaseline = "0"
    item.ChannelSampleSkew = "0"
    item.WaveformBitsStored = bits
    return item


def group(
    signal: npt.NDArray[np.float64],
    names: Sequence[str] = TWELVE,
    *,
    rate: float = 500,
    unit: str = "uV",
    step: float = 0.04,
    stored: str = "SS",
    bits: int | None = None,
    naming: str = "MDC",
    originality: str = "ORIGINAL",
    label: str | None = "RHYTHM",
) -> Dataset:
    """Return one multiplex group; `signal` ``(leads, samples)`` and `step` in mV."""
    allocated, dtype = STORED[stored]
    offset = 0 if stored.startswith("S") else 1 << min(bits or allocated, 16) - 1
    item = Dataset()
    item.WaveformOriginality = originality
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = signal.shape
    item.SamplingFrequency = f"{rate:g}"
    if label is not None:
        item.MultiplexGroupLabel = label
    scaled = step * PER_MILLIVOLT[unit]
    item.ChannelDefinitionSequence = [
        channel(name, naming=naming, step=scaled, unit=unit, bits=bits or allocated)
        for name in names
    ]
    for definition in item.ChannelDefinitionSequence:
        definition.ChannelBaseline = f"{-offset * scaled:.10g}"
    item.WaveformBitsAllocated = allocated
    item.WaveformSampleInterpretation = stored
    samples = np.rint(signal.T / step).astype(np.int64) + offset
    data = samples.astype(dtype).tobytes()
    item.add_new("WaveformData", "OW", data + b"\0" * (len(data) % 2))
    return item


def dataset(groups: Sequence[Dataset], **changes: Any) -> Dataset:
    """Return a General ECG object with these groups."""
    item = Dataset()
    item.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.2"
    item.SOPInstanceUID = "2.25.1"
    item.StudyInstanceUID, item.SeriesInstanceUID = "2.25.2", "2.25.3"
    item.Modality = "ECG"
    item.PatientID, item.PatientName, item.PatientSex = "P1", "Doe^Jane", "F"
    item.AcquisitionDateTime = "20240102030405"
    item.WaveformSequence = list(groups)
    for keyword, value in changes.items():
        setattr(item, keyword, value)
    return item


def written(item: Dataset, syntax: str = ExplicitVRLittleEndian, *, preamble: bool = True) -> bytes:
    """Return the bytes of a file; OW of big-endian files is swapped here, as PS3.5 demands."""
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = syntax
    item.file_meta.MediaStorageSOPClassUID = item.get("SOPClassUID", "")
    item.file_meta.MediaStorageSOPInstanceUID = item.get("SOPInstanceUID", "2.25.1")
    if syntax == "1.2.840.10008.1.2.2":
        for part in item.WaveformSequence:
            part.WaveformData = np.frombuffer(part.WaveformData, "<u2").byteswap().tobytes()
    buffer = BytesIO()
    dcmwrite(buffer, item, enforce_file_format=True)
    return buffer.getvalue() if preamble else buffer.getvalue()[132:]
