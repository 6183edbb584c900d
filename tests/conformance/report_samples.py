"""Results and sources for the tests of the report: made by hand, or real and public."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from analysis.analyse import analyse
from analysis.codes import VOCABULARY
from analysis.ecg import ECG, STANDARD_12, Acquisition, Lead, Patient, Recording, Sex
from analysis.formats import dicom
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
from analysis.synthetic import Kind, simulate
from dicom_node.report import (
    Device,
    NoComparison,
    Previous,
    ReportOptions,
    ResultObject,
    Role,
    build,
)

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
        "recording": Recording(ecg=ecg, format="DICOM 12-lead ECG", patient=Patient(age=61.0)),
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


PREVIOUS = Previous(
    study_instance_uid="2.25.11",
    series_instance_uid="2.25.12",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.9.1.1",
    sop_instance_uid="2.25.13",
    acquired_at="20120229235959.123+0100",
    measurements=MappingProxyType({"heart_rate": 58.0, "qrs_duration": 92.0, "qrs_axis": -170.0}),
)
_RECORDED_AT = datetime(2026, 3, 29, 0, 58, tzinfo=UTC)
_MAN = Patient(identifier="P1", name="Doe^John", age=70.0, sex=Sex.MALE)


def simulated(
    kind: Kind = Kind.SINUS, patient: Patient = _MAN, leads: tuple[Lead, ...] = STANDARD_12
) -> tuple[Dataset, Result]:
    """Return a simulated ECG as an object of a cart, and what the criteria make of it."""
    acquisition = Acquisition(
        manufacturer="Carts & Co.", model="K12", filter_high_frequency=150.0,
        notch_filter_frequency=50.0,
    )  # fmt: skip
    source = dicom.encode(
        simulate(kind, sampling_frequency=500.0).ecg.select(leads),
        identity=dicom.Identity(
            study_instance_uid="2.25.1",
            series_instance_uid="2.25.2",
            sop_instance_uid="2.25.3",
            created_at=_RECORDED_AT,
            study_at=_RECORDED_AT,
        ),
        patient=patient,
        acquisition=acquisition,
    )
    return source, analyse(dicom.decode(source), ())


def _paced() -> tuple[Dataset, Result]:
    source, result = simulated()
    silent = "Not assessed (the rhythm is paced): Left bundle branch block, ST elevation."
    paced = finding("paced", origin=Origin.CRITERIA, model=None, probability=None, threshold=None)
    return source, replace(
        result, findings=(paced,), statements=(statement("paced"),), overall=Overall.ABNORMAL,
        not_assessed=(silent,),
    )  # fmt: skip


def _many_findings() -> tuple[Dataset, Result]:
    source, result = simulated()
    keys = [key for key in VOCABULARY if key != "normal"]
    said = tuple(replace(statement(key), leads=(Lead.V1, Lead.aVF)) for key in keys)
    return source, replace(
        result, findings=tuple(map(finding, keys)), statements=said, models=(MODEL, MODEL),
        overall=Overall.ABNORMAL,
    )  # fmt: skip


def _normal() -> tuple[Dataset, Result]:
    source, result = simulated()
    said = (statement("sinus_rhythm"), statement("normal"))
    return source, replace(
        result, statements=said, findings=(finding("normal"),), overall=Overall.NORMAL,
        not_assessed=(),
    )  # fmt: skip


@cache
def varied() -> Mapping[str, tuple[Dataset, Result, Previous | NoComparison]]:
    """Return sources with their results and earlier ECGs, by what is special about them."""
    return MappingProxyType(dict(_varied()))


def _varied() -> Iterator[tuple[str, tuple[Dataset, Result, Previous | NoComparison]]]:
    child = Patient(identifier="P2", age=4.0, sex=Sex.FEMALE)
    for name, made in {
        "sinus rhythm": simulated(),
        "no listed finding": simulated(patient=Patient(identifier="P2")),
        "normal": _normal(),
        "atrial fibrillation": simulated(Kind.ATRIAL_FIBRILLATION),
        "bundle branch block": simulated(Kind.LBBB),
        "a flat lead": simulated(Kind.FLAT_LEAD),
        "non-diagnostic": simulated(Kind.NOISE),
        "one lead": simulated(leads=(Lead.II,)),
        "paced": _paced(),
        "a child": simulated(patient=child),
        "age and sex unknown": simulated(patient=Patient()),
        "another sex": simulated(patient=Patient(age=40.0, sex=Sex.OTHER)),
        "many findings": _many_findings(),
    }.items():
        yield name, (*made, NoComparison.NONE)
    yield "prior ECG", (*simulated(Kind.TACHYCARDIA), PREVIOUS)
    yield "prior ECG of another revision", (*simulated(), replace(PREVIOUS, same_algorithm=False))
    yield "prior ECG of a poor one", (*simulated(Kind.NOISE), PREVIOUS)
    yield "prior ECG of somebody else", (*simulated(), NoComparison.CONFLICT)
    yield "comparison not asked for", (*simulated(), NoComparison.NOT_ASKED)


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
