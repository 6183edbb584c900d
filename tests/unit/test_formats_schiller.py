"""Schiller XML: averaged beats stand before the rhythm, and leads are spelt in capitals."""

from datetime import date, datetime

import numpy as np
import pytest
from dicom_objects import synthetic
from files_vendor_xml import (
    EIGHT,
    RATE,
    STEP,
    mutants,
    outcome,
    refusal,
    schiller,
    schiller_waves,
    twelve,
)
from support import shared

from analysis.ecg import STANDARD_12, Lead, Sex
from analysis.errors import Reason
from analysis.formats import read


@pytest.mark.parametrize("rhythm_first", [True, False])
def test_the_type_and_not_the_order_says_which_waves_are_the_rhythm(*, rhythm_first: bool) -> None:
    waves = [schiller_waves("ECG_AVERAGES", twelve(1.2)), schiller_waves("ECG_RHYTHMS", twelve())]
    recording = read(schiller(*reversed(waves) if rhythm_first else waves).encode())
    assert recording.ecg.leads == STANDARD_12
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-6
    assert recording.ecg.sampling_frequency == RATE
    assert recording.median_beat is not None
    assert np.abs(recording.median_beat.signal - twelve(1.2) * STEP).max() < 1e-6
    assert recording.notes == ()


def test_what_stands_around_the_samples_is_read() -> None:
    recording = read(schiller().encode())
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.sex, patient.birth_date) == (Sex.FEMALE, date(1979, 12, 31))
    assert patient.age == pytest.approx(45.63, abs=0.01)
    assert (patient.identifier, patient.name) == ("0815", "Sinus^Nota")
    assert acquisition.acquired_at == datetime.fromisoformat("2025-08-17T09:15:11")
    assert (acquisition.manufacturer, acquisition.model) == ("Schiller", "AT-110")
    edges = acquisition.filter_low_frequency, acquisition.filter_high_frequency
    assert (*edges, acquisition.notch_filter_frequency) == (0.05, 150.0, 50.0)
    texts = [statement.text for statement in recording.vendor_statements]
    assert texts == ["Sinus rhythm", "Normal ECG"]
    (rate,) = recording.annotations
    assert (rate.value, rate.unit) == (59.0, "{H.B.}/min")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (">UV<", ">BARLEYCORNS<", Reason.NO_SCALE),
        (">5.0<", ">-0<", Reason.NO_SCALE),
        ("<exponent>1<", "<exponent>2<", Reason.NO_RATE),
        (">500<", ">inf<", Reason.NO_RATE),
        (">2000<", ">1999<", Reason.DAMAGED),
        (">0,0,", ">0,-,", Reason.DAMAGED),
        ("COMMASEPARATE", "BASE64", Reason.UNSUPPORTED),
        ("ECG_RHYTHMS", "ECG_OTHERS", Reason.NO_WAVEFORM),
        ("ECG_AVERAGES", "ECG_RHYTHMS", Reason.AMBIGUOUS),
        (">AVR<", ">AVL<", Reason.AMBIGUOUS),
    ],
)
def test_what_cannot_be_known_is_refused(old: str, new: str, reason: Reason) -> None:
    text = schiller()
    assert old in text
    assert refusal(text.replace(old, new)) is reason


def test_other_waves_are_left_out_with_a_note() -> None:
    waves = (schiller_waves("ECG_RHYTHMS", twelve()), schiller_waves("SPIRO", twelve(1.0)))
    assert read(schiller(*waves).encode()).notes == ("Waves of type SPIRO were left out.",)


@pytest.mark.parametrize("seed", range(2))
def test_damage_is_refused_or_read_and_nothing_else(seed: int) -> None:
    for mutant in mutants(schiller().encode(), 200, seed):
        outcome(mutant)


def test_a_real_file_has_the_samples_that_another_reader_finds() -> None:
    """Sums as ecg2dcm 1.3.1 reads it."""
    recording = read(shared("ecg", "schiller_xml", "cvrg_schiller.xml"))
    found = np.rint(recording.ecg.select(map(Lead, EIGHT)).signal / 0.001).astype(np.int64)
    assert found.shape == (8, 4998)
    assert (found.sum(), (found**2).sum()) == (10640660, 5748227400)
    assert recording.median_beat is not None
    median = np.rint(recording.median_beat.select(map(Lead, EIGHT)).signal / 0.001)
    assert median.sum() == 168012
    assert recording.derived_leads == ()
    assert recording.notes == ()
