"""The General ECG encoder: valid objects that read back as what was written."""

import subprocess
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_objects import TWELVE, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from support import need_program

from analysis.ecg import ECG, Acquisition, Annotation, Code, Lead, Patient, Sex
from analysis.formats import read
from analysis.formats.dicom import Identity, decode, encode, lead_code, lead_source_sequence

IDENTITY = Identity(
    study_instance_uid="2.25.11",
    series_instance_uid="2.25.12",
    sop_instance_uid="2.25.13",
    created_at=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
    study_at=datetime(2024, 1, 2, 3, 0, tzinfo=UTC),
    study_id="S1",
    accession_number="A1",
    series_number=903,
    series_description="Annotated copy",
)
PATIENT = Patient(
    age=53.4,
    sex=Sex.FEMALE,
    identifier="P-1",
    name="Müller^Änne",
    birth_date=date(1970, 8, 9),
)
ACQUISITION = Acquisition(
    acquired_at=datetime(2024, 1, 2, 3, 4, 5, 250000, tzinfo=UTC),
    manufacturer="Maker",
    model="Cart",
    software="1.0",
    filter_low_frequency=0.05,
    filter_high_frequency=150.0,
)


def ecg(signal: np.ndarray | None = None, rate: float = 500.0) -> ECG:
    signal = synthetic() if signal is None else signal
    leads = tuple(Lead(name) for name in TWELVE[: len(signal)])
    return ECG(signal=signal, leads=leads, sampling_frequency=rate)


def file_of(item: Dataset) -> bytes:
    buffer = BytesIO()
    item.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@settings(max_examples=40, deadline=None)
@given(
    amplitude=st.sampled_from([0.001, 0.5, 5.0, 33.0, 80.0, 160.0]),
    rate=st.sampled_from([200.0, 240.0, 500.0, 1000.0]),
    leads=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_a_round_trip_keeps_every_sample_within_half_a_step(
    amplitude: float, rate: float, leads: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    signal = chance.uniform(-amplitude, amplitude, (leads, 300))
    signal[:, 50:60] = np.nan
    written = ecg(signal, rate)
    item = encode(written, identity=IDENTITY)
    step = float(item.WaveformSequence[0].ChannelDefinitionSequence[0].ChannelSensitivity)
    again = read(file_of(item)).ecg.select(written.leads)
    assert step <= 5.0
    assert again.sampling_frequency == rate
    assert np.array_equal(np.isnan(again.signal), np.isnan(written.signal))
    off = np.nanmax(np.abs(again.signal.astype(float) - written.signal)) * 1000
    assert off <= step / 2 + amplitude * 1e-4


def test_what_is_said_of_patient_and_device_reads_back() -> None:
    item = encode(ecg(), identity=IDENTITY, patient=PATIENT, acquisition=ACQUISITION)
    recording = read(file_of(item))
    assert recording.patient.name == PATIENT.name
    assert recording.patient.identifier == PATIENT.identifier
    assert recording.patient.birth_date == PATIENT.birth_date
    assert (recording.patient.age, recording.patient.sex) == (53.0, Sex.FEMALE)
    assert recording.acquisition == ACQUISITION
    assert recording.format == "DICOM General ECG Waveform"
    assert recording.notes == ()


def test_the_same_arguments_give_the_same_bytes() -> None:
    one = file_of(encode(ecg(), identity=IDENTITY, patient=PATIENT))
    assert one == file_of(encode(ecg(), identity=IDENTITY, patient=PATIENT))


def test_the_median_beat_is_a_second_derived_group() -> None:
    beat = ecg(synthetic(seconds=1.2))
    item = encode(ecg(), identity=IDENTITY, median_beat=beat)
    rhythm, median = item.WaveformSequence
    assert (rhythm.WaveformOriginality, rhythm.MultiplexGroupLabel) == ("ORIGINAL", "RHYTHM")
    assert (median.WaveformOriginality, median.MultiplexGroupLabel) == ("DERIVED", "MEDIAN BEAT")
    assert decode(item).median_beat.samples == beat.samples


def test_annotations_read_back() -> None:
    fiducial = Code("MDC", "10:576", "R wave")
    annotations = (
        Annotation(text="AI: sinus rhythm"),
        Annotation(code=Code("MDC", "2:16160", "QT interval"), value=402.5, unit="ms"),
        Annotation(code=fiducial, leads=(Lead.V2,), samples=(17.0,), group=1),
        Annotation(code=fiducial, samples=(17.0, 400.0)),
    )
    item = encode(ecg(), identity=IDENTITY, annotations=annotations)
    assert item.WaveformAnnotationSequence[2].ReferencedSamplePositions == 18
    assert decode(item).annotations == annotations


@pytest.mark.parametrize(
    ("signal", "rate"),
    [
        (synthetic(), 100.0),
        (synthetic(), 2000.0),
        (np.full((1, 10), 200.0), 500.0),
    ],
)
def test_what_a_general_ecg_cannot_hold_is_refused(signal: np.ndarray, rate: float) -> None:
    with pytest.raises(ValueError, match="General ECG"):
        encode(ecg(signal, rate), identity=IDENTITY)


@pytest.mark.parametrize("lead", Lead)
def test_every_lead_has_a_code_of_the_standard_and_reads_back(lead: Lead) -> None:
    known = {getattr(codes.cid3001, name).value for name in codes.cid3001.dir()}
    assert lead_code(lead).value in known
    assert lead_source_sequence(lead)[0].CodingSchemeDesignator == "MDC"
    one = ECG(signal=np.zeros((1, 100)), leads=(lead,), sampling_frequency=500.0)
    assert decode(encode(one, identity=IDENTITY)).ecg.leads == (lead,)


def test_a_validator_finds_no_error(tmp_path: Path) -> None:
    need_program("dciodvfy")
    item = encode(
        ecg(),
        identity=IDENTITY,
        patient=PATIENT,
        acquisition=ACQUISITION,
        median_beat=ecg(synthetic(seconds=1.2)),
        annotations=[
            Annotation(text="AI: sinus rhythm"),
            Annotation(code=Code("MDC", "2:16160", "QT interval"), value=402.5, unit="ms"),
            Annotation(code=Code("MDC", "10:576", "R wave"), samples=(17.0,)),
        ],
    )
    path = tmp_path / "ecg.dcm"
    item.save_as(path, enforce_file_format=True)
    result = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    said = result.stdout + result.stderr
    assert "GeneralECG" in said
    assert "Error" not in said, said


def test_the_real_cart_ecg_survives_within_half_a_step() -> None:
    source = read(get_testdata_file("waveform_ecg.dcm"))
    item = encode(source.ecg, identity=IDENTITY, median_beat=source.median_beat)
    again = decode(dcmread(BytesIO(file_of(item))))
    assert np.abs(again.ecg.signal - source.ecg.signal).max() <= 0.0005 + 1e-6
    assert again.median_beat.leads == source.median_beat.leads


def test_words_on_the_device_that_no_long_string_holds_are_shortened() -> None:
    made = encode(
        ecg(),
        identity=IDENTITY,
        acquisition=Acquisition(manufacturer="A\\B", software="x" * 100),
    )
    assert (made.Manufacturer, made.SoftwareVersions) == ("A/B", "x" * 64)
