"""GE CardioSoft XML: integers between commas, one rate and one resolution for all leads."""

from datetime import datetime

import numpy as np
import pytest
from dicom_objects import synthetic
from files_vendor_xml import (
    EIGHT,
    RATE,
    STEP,
    cardiosoft,
    mutants,
    outcome,
    refusal,
    twelve,
)
from support import shared

from analysis.ecg import STANDARD_12, Lead, Sex
from analysis.errors import Reason
from analysis.formats import read


def test_twelve_leads_are_read_with_the_median_beat_apart() -> None:
    recording = read(cardiosoft().encode("latin-1"))
    assert recording.format == "GE CardioSoft XML"
    assert recording.ecg.leads == STANDARD_12
    assert np.abs(recording.ecg.signal - synthetic()).max() < 1e-6
    assert recording.ecg.sampling_frequency == RATE
    assert recording.median_beat is not None
    assert np.abs(recording.median_beat.signal - twelve(1.2) * STEP).max() < 1e-6
    assert recording.notes == ()


def test_what_stands_around_the_samples_is_read() -> None:
    recording = read(cardiosoft().encode("latin-1"))
    assert (recording.patient.age, recording.patient.sex) == (45, Sex.FEMALE)
    assert (recording.patient.identifier, recording.patient.name) == ("0815", "Sinüs^Nota")
    acquisition = recording.acquisition
    assert acquisition.acquired_at == datetime.fromisoformat("2025-08-17T09:05:01")
    assert (acquisition.model, acquisition.software) == ("CardioSoft", "V6.71")
    assert acquisition.notch_filter_frequency == 50.0
    assert [statement.text for statement in recording.vendor_statements] == ["Normal sinus rhythm"]
    (rate,) = recording.annotations
    assert (rate.value, rate.unit) == (75.0, "{H.B.}/min")


def test_beats_are_marked_in_samples_of_the_rhythm() -> None:
    more = (
        "<ArrhythmiaResults><Time units='ms'>505</Time><BeatClass>dominant</BeatClass>"
        "<Time units='ms'>99999</Time><BeatClass>dominant</BeatClass></ArrhythmiaResults>"
    )
    _, beat = read(cardiosoft(more=more).encode("latin-1")).annotations
    assert (beat.text, beat.samples, beat.group) == ("QRS of class dominant", (252.5,), 1)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("uVperLsb", "LsbperuV", Reason.NO_SCALE),
        (">5<", "><", Reason.NO_SCALE),
        ('"Hz"', '"kHz"', Reason.NO_RATE),
        (">500<", ">-500<", Reason.NO_RATE),
        (">2000<", ">2001<", Reason.DAMAGED),
        ("<NumberOfLeads>12<", "<NumberOfLeads>11<", Reason.DAMAGED),
        ("StripData", "OtherData", Reason.NO_WAVEFORM),
        ("MedianSamples", "StripData", Reason.NO_WAVEFORM),
        ('lead="V2"', 'lead="V1"', Reason.AMBIGUOUS),
        ("\t\t0,", "\t\t0 ", Reason.DAMAGED),
        ("\t\t0,", "\t\t0,,", Reason.DAMAGED),
        ("\t\t0,", "\t\t0.5,", Reason.DAMAGED),
        ("\t\t0,", f"\t\t{'9' * 5000},", Reason.DAMAGED),
    ],
)
def test_what_cannot_be_known_is_refused(old: str, new: str, reason: Reason) -> None:
    text = cardiosoft()
    assert old in text
    if old == "MedianSamples":
        text = text.replace("StripData", "OtherData")
    assert refusal(text.replace(old, new)) is reason


def test_several_strips_are_ambiguous() -> None:
    text = cardiosoft()
    strip = text[text.index("<StripData>") : text.index("</CardiologyXML>")]
    assert refusal(text.replace("</CardiologyXML>", f"{strip}</CardiologyXML>")) is Reason.AMBIGUOUS


def test_a_damaged_median_beat_is_left_out_with_a_note() -> None:
    recording = read(cardiosoft().replace(">600<", ">601<").encode("latin-1"))
    assert recording.median_beat is None
    assert any(note.startswith("The median beat was left out") for note in recording.notes)


def test_a_changed_limb_lead_is_noted() -> None:
    rows = twelve()
    rows[2, 100] += 7
    (note,) = read(cardiosoft(rows).encode("latin-1")).notes
    assert "contradict" in note


@pytest.mark.parametrize("seed", range(2))
def test_damage_is_refused_or_read_and_nothing_else(seed: int) -> None:
    for mutant in mutants(cardiosoft().encode("latin-1"), 200, seed):
        outcome(mutant)


def test_a_real_file_has_the_samples_that_another_reader_finds() -> None:
    """Sums as ecg2dcm 1.3.1 reads it."""
    recording = read(shared("ecg", "cardiosoft_xml", "heartwise_dummy_ecg.xml"))
    found = np.rint(recording.ecg.select(map(Lead, EIGHT)).signal / 0.005).astype(np.int64)
    assert found.shape == (8, 5000)
    assert (found.sum(), (found**2).sum()) == (-45919, 27659081)
    assert recording.median_beat is not None
    median = np.rint(recording.median_beat.select(map(Lead, EIGHT)).signal / 0.005)
    assert median.sum() == 48172
    assert recording.derived_leads == ()
    (note,) = recording.notes
    assert "contradict each other by up to 20 µV" in note
    assert len(recording.vendor_statements) == 3
