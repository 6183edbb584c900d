"""Results and sources for the tests of the report: made by hand, or real and public."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from analysis.codes import VOCABULARY
from analysis.ecg import ECG, STANDARD_12, Recording
from analysis.result import (
    Finding,
    Measurements,
    ModelIdentity,
    Origin,
    Overall,
    Quality,
    QualityReason,
    Quantity,
    Result,
    Statement,
    Verdict,
)
from dicom_node.report import Device, ReportOptions, ResultObject, Role, build

RECEIVED_AT = datetime(2026, 3, 29, 0, 59, 59, 250000, tzinfo=UTC)
DEVICE = Device(
    device_uid="2.25.42", software_version="0.1.0", station_name="SINUSNODE", serial_number="7"
)
MODEL = ModelIdentity(name="ecg12", version="2026.1", digest="ab" * 32)
PAGE = b"%PDF-1.4\nodd length"
_WAVES = {
    "p_onset": -0.20, "p_offset": -0.10, "qrs_onset": -0.04, "qrs_offset": 0.05,
    "t_onset": 0.15, "t_offset": 0.35,
}  # fmt: skip


def cart_file() -> Dataset:
    """Return pydicom's real cart file: 12 leads, 1000 Hz, a median beat, 77 annotations."""
    return pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm")))


def result_for(source: Dataset, overall: Overall = Overall.ABNORMAL, **changes: object) -> Result:
    """Return a result on the source's first group, as an analysis might give it."""
    group = source.WaveformSequence[0]
    ecg = _flat(int(group.NumberOfWaveformSamples), float(group.SamplingFrequency))
    keys = ("atrial_fibrillation", "lvh") if overall is Overall.ABNORMAL else ()
    findings = tuple(finding(key) for key in keys)
    poor = overall is Overall.NON_DIAGNOSTIC
    quality = Quality(
        verdict=Verdict.NON_DIAGNOSTIC if poor else Verdict.FULL,
        reasons=(QualityReason.NOISE, QualityReason.NO_QRS) if poor else (),
    )
    parts = {
        "recording": Recording(ecg=ecg, format="DICOM 12-lead ECG"),
        "statements": tuple(statement(key) for key in keys),
        "findings": findings,
        "measurements": measurements(ecg),
        "quality": quality,
        "models": (MODEL,),
        "overall": overall,
        "not_assessed": ("QT interval: not assessed, T wave end unclear.",),
    }
    return Result(**parts | changes)


def finding(key: str, **changes: object) -> Finding:
    entry = VOCABULARY[key]
    parts = {
        "key": key,
        "code": entry.code,
        "name": entry.name,
        "probability": 0.9321,
        "threshold": 0.5,
        "present": True,
        "origin": Origin.MODEL,
        "model": MODEL.name,
        "evidence": ("RR variability 0.31",),
    }
    return Finding(**parts | changes)


def statement(key: str) -> Statement:
    entry = VOCABULARY[key]
    return Statement(
        key=key,
        code=entry.code,
        text=f"{entry.name}.",
        origin=Origin.MODEL,
        evidence=("RR variability 0.31",),
    )


def measurements(ecg: ECG) -> Measurements:
    rate = ecg.sampling_frequency
    peaks = np.arange(0.4 * rate, ecg.samples - 0.5 * rate, 0.9 * rate)
    waves = {kind: peaks + offset * rate for kind, offset in _WAVES.items()}
    absent = Quantity(value=None, unit="ms", method="median beat", reason="no P wave found")
    return Measurements(
        heart_rate=_quantity(61.2, "{H.B.}/min"),
        rr_interval=_quantity(982.0, "ms"),
        p_duration=absent,
        pr_interval=absent,
        qrs_duration=_quantity(75.0, "ms"),
        qt_interval=_quantity(368.0, "ms"),
        qtc_bazett=_quantity(371.3, "ms"),
        qtc_fridericia=_quantity(370.2, "ms"),
        qtc_framingham=_quantity(371.0, "ms"),
        qtc_hodges=_quantity(370.1, "ms"),
        p_axis=_quantity(-12.0, "deg"),
        qrs_axis=_quantity(52.0, "deg"),
        t_axis=_quantity(float("nan"), "deg"),
        rr_variability=_quantity(0.031, "1"),
        r_peaks=peaks,
        fiducials={"global": waves},
    )


def objects(
    source: Dataset, result: Result | None = None, **changes: object
) -> dict[Role, ResultObject]:
    """Return what build makes of the source, by role."""
    arguments = {
        "source": source,
        "source_sha256": "0f" * 32,
        "result": result or result_for(source),
        "plan_digest": "1e" * 32,
        "received_at": RECEIVED_AT,
        "device": DEVICE,
        "options": ReportOptions(),
        "page": PAGE,
    }
    return {item.role: item for item in build(**arguments | changes)}


def save(made: dict[Role, ResultObject], folder: Path) -> dict[Role, Path]:
    paths = {role: folder / f"{role}.dcm" for role in made}
    for role, path in paths.items():
        path.write_bytes(made[role].data)
    return paths


def _quantity(value: float, unit: str) -> Quantity:
    return Quantity(value=value, unit=unit, method="median beat")


def _flat(samples: int, rate: float) -> ECG:
    return ECG(
        signal=np.zeros((12, samples), np.float32), leads=STANDARD_12, sampling_frequency=rate
    )
