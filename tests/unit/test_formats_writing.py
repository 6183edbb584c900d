"""What is written is read again, equal within the resolution of each encoding."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import edfio
import numpy as np
import numpy.typing as npt
import pytest
import wfdb
from dicom_objects import TWELVE, synthetic
from hypothesis import given
from hypothesis import strategies as st
from support import shared

import analysis
from analysis.ecg import (
    ECG,
    Acquisition,
    Annotation,
    Code,
    Lead,
    Patient,
    Recording,
    Sex,
    VendorStatement,
)
from analysis.formats import writing

RESOLUTION: Mapping[str, float] = {
    ".csv": 0.0,
    ".npz": 0.0,
    ".parquet": 0.0,
    ".hea": 0.5e-6,
    ".edf": 0.5 / 32_767,
}
"""Of the greatest sample for EDF, in mV for WFDB up to 8 mV."""
GAPS = (".csv", ".hea", ".npz", ".parquet")
"""Encodings that can say that no sample was recorded."""


def recording(
    signal: npt.NDArray[np.float64],
    leads: tuple[str, ...] = TWELVE,
    rate: float = 500.0,
    **parts: object,
) -> Recording:
    ecg = ECG(
        signal=signal.astype(np.float32),
        leads=tuple(Lead(name) for name in leads),
        sampling_frequency=rate,
    )
    return Recording(ecg=ecg, format="made", **parts)  # type: ignore[arg-type]


def round_trip(made: Recording, suffix: str) -> Recording:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"ecg{suffix}"
        written = analysis.write(made, path)
        assert all(item.exists() for item in written)
        assert path in written
        return analysis.read(path)


@given(
    suffix=st.sampled_from(sorted(RESOLUTION)),
    peak=st.floats(0.01, 8.0),
    rate=st.sampled_from([128.0, 250.0, 257.0, 300.0, 360.0, 500.0, 511.422, 1000.0]),
    samples=st.integers(1000, 1100),
    seed=st.integers(0, 2**16),
)
def test_what_is_written_is_read_again(
    suffix: str, peak: float, rate: float, samples: int, seed: int
) -> None:
    signal = np.random.default_rng(seed).uniform(-peak, peak, (3, samples))
    made = recording(signal, ("V1", "V3R", "MLII"), rate)
    read = round_trip(made, suffix)
    assert read.ecg.leads == made.ecg.leads
    assert read.ecg.samples == samples
    assert read.ecg.sampling_frequency == pytest.approx(
        rate, rel=1e-6 if suffix == ".edf" else 1e-12
    )
    step = RESOLUTION[suffix] * (peak + 0.001 if suffix == ".edf" else 1.0)
    assert np.abs(read.ecg.signal - made.ecg.signal).max() <= step + peak * 2**-23


@pytest.mark.parametrize("suffix", sorted(RESOLUTION))
@pytest.mark.parametrize("step", [5.0, 4.88, 2.5, 1.25, 1.0, 0.5])
def test_the_steps_of_carts_are_kept_exactly(suffix: str, step: float) -> None:
    counts = np.random.default_rng(1).integers(-800, 800, (2, 1000))
    made = recording(counts * step / 1000, ("V1", "V2"))
    assert np.abs(round_trip(made, suffix).ecg.signal - made.ecg.signal).max() < 1e-6


@pytest.mark.parametrize("suffix", GAPS)
def test_samples_that_were_not_recorded_stay_absent(suffix: str) -> None:
    signal = np.random.default_rng(2).normal(size=(3, 500))
    signal[0, :100] = signal[1, 250:] = signal[2] = np.nan
    read = round_trip(recording(signal, ("V1", "V2", "V3")), suffix)
    assert np.array_equal(np.isnan(read.ecg.signal), np.isnan(signal))


@pytest.mark.parametrize("suffix", sorted(writing.WRITERS))
def test_the_same_recording_gives_the_same_bytes(suffix: str) -> None:
    made = recording(synthetic())
    assert writing.encode(made, f"a{suffix}") == writing.encode(made, f"a{suffix}")


@pytest.mark.parametrize("suffix", sorted(writing.WRITERS))
def test_twelve_leads_are_written_and_read(suffix: str) -> None:
    made = recording(synthetic())
    read = round_trip(made, suffix)
    assert read.ecg.leads == made.ecg.leads
    assert read.ecg.sampling_frequency == 500
    assert np.abs(read.ecg.signal - made.ecg.signal).max() < 1e-4
    assert not any("contradict" in note for note in read.notes)


# Facts around the samples


FACTS = {
    "patient": Patient(
        age=61, sex=Sex.FEMALE, identifier="P 1", name="Doe^Ann", birth_date=date(1962, 2, 3)
    ),
    "acquisition": Acquisition(
        acquired_at=datetime.fromisoformat("2024-02-03T04:05:06.700000"),
        model="Cart 7",
        filter_low_frequency=0.05,
        filter_high_frequency=150.0,
        notch_filter_frequency=50.0,
    ),
    "vendor_statements": (
        VendorStatement(text="Sinus rhythm", code=Code("SCT", "426783006", "Sinus rhythm")),
        VendorStatement(text="Normal ECG\nfor age"),
    ),
    "annotations": (
        Annotation(text="chest pain", samples=(100.0, 200.0)),
        Annotation(text="no place"),
        Annotation(value=60.0, unit="/min"),
    ),
}


def test_wfdb_holds_age_sex_time_and_statements_and_no_identity() -> None:
    files = writing.encode(recording(synthetic(), **FACTS), "a.hea")
    assert set(files) == {"a.hea", "a.dat"}
    assert not any(word in files["a.hea"] for word in (b"Doe", b"P 1", b"1962"))
    read = round_trip(recording(synthetic(), **FACTS), ".hea")
    assert (read.patient.age, read.patient.sex) == (61, Sex.FEMALE)
    assert read.acquisition.acquired_at == FACTS["acquisition"].acquired_at  # type: ignore[attr-defined]
    assert [item.text for item in read.vendor_statements] == ["426783006", "Normal ECG for age"]


def test_edf_plus_holds_identification_filters_and_marks() -> None:
    read = round_trip(recording(synthetic(), **FACTS), ".edf")
    patient = read.patient
    assert (patient.identifier, patient.name) == ("P_1", "Doe^Ann")
    assert (patient.sex, patient.birth_date) == (Sex.FEMALE, date(1962, 2, 3))
    assert read.acquisition == replace(FACTS["acquisition"], model="Cart_7")  # type: ignore[type-var]
    assert [(item.text, item.samples) for item in read.annotations] == [
        ("chest pain", (100.0, 200.0))
    ]


@pytest.mark.parametrize("name", ["Jürgen", "x" * 70, "\t", ""])
def test_edf_plus_leaves_out_words_that_its_field_cannot_hold(name: str) -> None:
    made = recording(synthetic(), patient=Patient(name=name, identifier="y" * 40))
    read = round_trip(made, ".edf")
    assert read.patient.name is None
    assert read.patient.identifier == "y" * 40


# Other programs read it


def test_the_wfdb_package_reads_what_is_written(tmp_path: Path) -> None:
    made = recording(synthetic(), **FACTS)
    analysis.write(made, tmp_path / "rec.hea")
    record = wfdb.rdrecord(str(tmp_path / "rec"))
    assert np.allclose(record.p_signal.T, made.ecg.signal, atol=1e-6)
    assert (record.units, record.sig_name) == (["mV"] * 12, list(TWELVE))
    stored = wfdb.rdrecord(str(tmp_path / "rec"), physical=False).d_signal
    assert not ((stored.sum(axis=0) - record.checksum) % 2**16).any()


def test_edfio_reads_what_is_written(tmp_path: Path) -> None:
    made = recording(synthetic(), **FACTS)
    analysis.write(made, tmp_path / "rec.edf")
    edf = edfio.read_edf(tmp_path / "rec.edf")
    assert edf.labels == tuple(f"ECG {name}" for name in TWELVE)
    assert np.allclose(np.stack([s.data for s in edf.signals]), made.ecg.signal * 1000, atol=0.1)
    assert edf.is_continuous


# What an encoding cannot hold


@pytest.mark.parametrize("suffix", [".txt", "", ".dcm"])
def test_an_unknown_suffix_is_said(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as .*\.csv"):
        analysis.write(recording(synthetic()), tmp_path / f"a{suffix}")


def test_edf_refuses_gaps_and_volts_and_years_it_cannot_hold() -> None:
    gap = synthetic()
    gap[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"not recorded .lead aVR"):
        writing.encode(recording(gap), "a.edf")
    with pytest.raises(ValueError, match="10 V"):
        writing.encode(recording(synthetic() * 1e5), "a.edf")
    early = Acquisition(acquired_at=datetime.fromisoformat("1979-01-01T00:00:00"))
    with pytest.raises(ValueError, match="1985"):
        writing.encode(recording(synthetic(), acquisition=early), "a.edf")


def test_wfdb_refuses_names_that_its_header_cannot_hold() -> None:
    for name in ("a b.hea", "ä.hea", "a.b.hea", ".hea"):
        with pytest.raises(ValueError, match=r"letters|written as"):
            writing.encode(recording(synthetic()), name)


@pytest.mark.parametrize("peak", [30.0, 300.0, 5000.0])
def test_wfdb_holds_large_samples_in_coarser_steps(peak: float) -> None:
    signal = np.random.default_rng(3).uniform(-peak, peak, (1, 100))
    read = round_trip(recording(signal, ("V1",)), ".hea")
    assert np.abs(read.ecg.signal - signal).max() <= peak * 2**-18


def test_a_rate_without_an_exact_record_is_off_by_less_than_a_millionth() -> None:
    rate = 360.0
    signal = np.random.default_rng(4).normal(size=(1, 5003))
    found = round_trip(recording(signal, ("V1",), rate), ".edf").ecg.sampling_frequency
    assert Fraction(found) != rate
    assert found == pytest.approx(rate, rel=1e-6)


def test_every_shared_ecg_survives_each_encoding() -> None:
    folder = shared("ecg", "dicom")
    for path in sorted(folder.glob("*.dcm")):
        try:
            made = analysis.read(path)
        except analysis.Undecodable:
            continue
        for suffix in RESOLUTION:
            if suffix == ".edf" and np.isnan(made.ecg.signal).any():
                continue
            read = round_trip(made, suffix)
            scale = float(np.nanmax(np.abs(made.ecg.signal))) + 0.001
            off = np.abs(read.ecg.signal - made.ecg.signal)
            assert np.nanmax(off, initial=0.0) < scale * 2e-5
            assert read.ecg.leads == made.ecg.leads
