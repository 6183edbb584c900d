"""What carts state in their own words, and when it is taken for stated at all."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.ecg import Sex
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.calibration import samples_of_ecg

RECORDED = datetime.fromisoformat("2025-08-17T09:15:11")


@given(
    st.lists(st.integers(-(2**31), 2**31), max_size=30),
    st.sampled_from([",", ", ", ",\r\n\t\t", " ,"]),
    st.sampled_from(["", ",", "\n"]),
)
def test_integers_between_commas_are_read_whatever_white_space_is_around_the_commas(
    values: list[int], comma: str, end: str
) -> None:
    stated = comma.join(map(str, values)) + end
    assert fields.samples_of_list(stated).tolist() == values


@given(st.text("0123456789-,. \n_e+x٣", max_size=12))
def test_a_text_is_integers_as_python_has_them_or_it_is_refused(text: str) -> None:
    try:
        found = fields.samples_of_list(text).tolist()
    except Undecodable:
        return
    words = text.strip().removesuffix(",").split(",")
    assert found == ([] if words == [""] or not text.strip(" \n,") else [int(w) for w in words])


@pytest.mark.parametrize("text", ["1,,2", ",1", "1 2", "1\n2", "--1", "1-2", "-", "9" * 20, "٣"])
def test_what_is_no_list_of_integers_is_damaged(text: str) -> None:
    with pytest.raises(Undecodable) as caught:
        fields.samples_of_list(text)
    assert caught.value.reason is Reason.DAMAGED


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1_0", "1,5", "1e999"])
def test_what_is_no_finite_number_is_none(text: str) -> None:
    assert fields.number(text) is None


@pytest.mark.parametrize(
    ("age", "birth_date", "years"),
    [
        (45.0, "", 45.0),
        (None, "1979-08-17", 46.0),
        (45.0, "1979-12-31", 45.0),
        (45.0, "1950-01-01", None),
        (200.0, "", None),
        (None, "2026-01-01", None),
        (None, "31.12.1979", None),
    ],
)
def test_an_age_is_stated_or_counted_and_never_both_in_conflict(
    age: float | None, birth_date: str, years: float | None
) -> None:
    patient, notes = fields.patient_of(
        age=age,
        birth_date=birth_date,
        recorded=RECORDED,
        sex="unknown",
        identifier="",
        name=("", ""),
    )
    assert patient.age == (None if years is None else pytest.approx(years, abs=0.01))
    assert bool(notes) is (years is None)
    assert (patient.sex, patient.identifier, patient.name) == (None, None, None)


def test_notes_hold_no_identity() -> None:
    patient, notes = fields.patient_of(
        age=3.0,
        birth_date="Sinus 1979",
        recorded=RECORDED,
        sex="Male",
        identifier="0815",
        name=("Sinus", "Nota"),
    )
    assert patient.sex is Sex.MALE
    assert not any(word in " ".join(notes) for word in ("Sinus", "Nota", "0815", "1979"))


def test_filter_edges_that_contradict_each_other_are_left_out_with_a_note() -> None:
    acquisition, notes = fields.acquisition_of(acquired_at=None, low=150.0, high=0.05, notch=0.0)
    assert (acquisition.filter_low_frequency, acquisition.filter_high_frequency) == (None, None)
    assert acquisition.notch_filter_frequency is None
    assert len(notes) == 1


@pytest.mark.parametrize("rate", [250.0, 500.0, 1000.0])
def test_a_calibration_pulse_is_found_at_any_rate(rate: float) -> None:
    signal = np.zeros((3, round(11 * rate)))
    signal[:, round(-0.3 * rate) : round(-0.1 * rate)] = 1.0
    assert samples_of_ecg(signal, rate, 0.005) == 10 * rate
    signal[:, -1] = 0.02
    assert samples_of_ecg(signal, rate, 0.005) == 11 * rate


def test_a_recording_shorter_than_the_pulse_has_none() -> None:
    assert samples_of_ecg(np.ones((2, 10)), 500.0, 0.005) == 10
