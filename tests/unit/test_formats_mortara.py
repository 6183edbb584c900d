"""Mortara ELI XML: everything in attributes, chest leads first."""

from datetime import date, datetime

import numpy as np
import pytest
from dicom_objects import synthetic
from files_vendor_xml import EIGHT, RATE, STEP, mortara, mutants, outcome, refusal, twelve
from support import shared

from analysis.ecg import CHEST, LIMB, STANDARD_12, Lead, Sex
from analysis.errors import Reason
from analysis.formats import read


def test_leads_keep_their_names_in_whatever_order_they_stand() -> None:
    recording = read(mortara().encode())
    assert recording.format == "Mortara ELI XML"
    assert recording.ecg.leads == CHEST + LIMB
    assert np.abs(recording.ecg.select(STANDARD_12).signal - synthetic()).max() < 1e-6
    assert recording.ecg.sampling_frequency == RATE
    assert recording.median_beat is not None
    assert np.abs(recording.median_beat.signal - twelve(1.2) * STEP).max() < 1e-6
    assert recording.notes == ()


def test_what_stands_around_the_samples_is_read() -> None:
    recording = read(mortara().encode())
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.age, patient.sex, patient.birth_date) == (45, Sex.FEMALE, date(1979, 12, 31))
    assert (patient.identifier, patient.name) == ("0815", "Sinus^Nota")
    assert acquisition.acquired_at == datetime.fromisoformat("2025-08-17T09:15:11")
    assert (acquisition.manufacturer, acquisition.model) == ("Mortara", "ELI 250")
    assert acquisition.filter_high_frequency == 150.0
    texts = [statement.text for statement in recording.vendor_statements]
    assert texts == ["SINUS RHYTHM", "LEFT AXIS DEVIATION: QRS AXIS < -30"]
    values = {item.code.value: item.value for item in recording.annotations if item.code}
    assert values == {"2:16016": 75.0, "2:16160": 400.0, "2:15880": 440.0, "2:16132": -35.0}


@pytest.mark.parametrize("duration", ["2000", "4000"])
def test_a_duration_may_count_samples_or_milliseconds(duration: str) -> None:
    text = mortara().replace('DURATION="2000"', f'DURATION="{duration}"')
    assert read(text.encode()).ecg.samples == 2000


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('UNITS_PER_MV="200"', "", Reason.NO_SCALE),
        ('UNITS_PER_MV="200"', 'UNITS_PER_MV="0"', Reason.NO_SCALE),
        ('UNITS_PER_MV="200"', 'UNITS_PER_MV="1e-308"', Reason.NO_SCALE),
        ('SAMPLE_FREQ="500"', 'SAMPLE_FREQ=""', Reason.NO_RATE),
        ('DURATION="2000"', 'DURATION="1999"', Reason.DAMAGED),
        ('OFFSET="0"', 'OFFSET="5"', Reason.UNSUPPORTED),
        ('OFFSET="0"', 'OFFSET=""', Reason.UNSUPPORTED),
        ('BITS="16"', 'BITS="12"', Reason.UNSUPPORTED),
        ('FORMAT="SIGNED"', 'FORMAT="FLOAT"', Reason.UNSUPPORTED),
        ('NAME="V2" DATA', 'NAME="V1" DATA', Reason.AMBIGUOUS),
        ("<CHANNEL ", "<OTHER ", Reason.DAMAGED),
    ],
)
def test_what_cannot_be_known_is_refused(old: str, new: str, reason: Reason) -> None:
    text = mortara()
    assert old in text
    assert refusal(text.replace(old, new)) is reason


def test_a_document_without_channels_has_no_waveform() -> None:
    text = mortara().replace("<CHANNEL ", "<OTHER ").replace("</CHANNEL>", "</OTHER>")
    assert refusal(text) is Reason.NO_WAVEFORM


def test_leads_of_different_rates_are_refused() -> None:
    text = mortara(cycle="").replace('SAMPLE_FREQ="500"', 'SAMPLE_FREQ="1000"', 1)
    assert refusal(text) is Reason.UNSUPPORTED


def test_another_document_with_the_same_root_is_not_taken_for_one() -> None:
    assert refusal("<ECG><Lead>1 2 3</Lead></ECG>") is Reason.NOT_RECOGNISED


@pytest.mark.parametrize("seed", range(2))
def test_damage_is_refused_or_read_and_nothing_else(seed: int) -> None:
    for mutant in mutants(mortara().encode(), 200, seed):
        outcome(mutant)


def test_a_derived_file_has_the_samples_that_another_reader_finds() -> None:
    """Sums as ecgdatakit 2.0.3 reads it; no file of a real cart is at hand."""
    recording = read(shared("ecg", "mortara_xml", "derived_mortara_eli250.xml"))
    found = np.rint(recording.ecg.select(map(Lead, EIGHT)).signal / 0.0025).astype(np.int64)
    assert found.shape == (8, 5000)
    assert (found.sum(), (found**2).sum()) == (-24341, 313304689)
    assert recording.patient.age == pytest.approx(49.54, abs=0.01)
