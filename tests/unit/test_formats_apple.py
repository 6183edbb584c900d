"""Apple Health ECGs: in any language, with any decimal mark, and never a guessed birth date."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime

import numpy as np
import pytest
from damage import damaged
from support import shared

import analysis
from analysis.ecg import Lead
from analysis.errors import Reason, Undecodable

ENGLISH = {
    "Name": "Ann Doe",
    "Date of Birth": '"Jan 8, 1972"',
    "Recorded Date": "2024-02-29 23:59:59 +0100",
    "Classification": "Sinus Rhythm",
    "Symptoms": "",
    "Software Version": "1.90",
    "Device": '"Watch7,12"',
    "Sample Rate": "512 hertz",
}
GERMAN = {
    "Name": "Ann Doe",
    "Geburtstag": "08.01.1972",
    "Aufzeichnungsdatum": "2024-02-29 23:59:59 +0100",
    "Klassifizierung": "Sinusrhythmus",
    "Symptome": "",
    "Softwareversion": '"1,90"',
    "Gerät": '"Watch7,12"',
    "Messrate": '"511,422\u00a0Hertz"',
}
VALUES = (-68.582, -199.83, 3.0, 0.0, 12.5)


def rows(of: dict[str, str], lead: str = "Lead,Lead I", unit: str = "Unit,µV") -> str:
    head = "".join(f"{key},{value}\n" for key, value in of.items())
    return f"{head}\n\n{lead}\n{unit}\n\n\n"


def exported(head: str, values: Sequence[object] = VALUES, mark: str = ".") -> bytes:
    lines = [str(value).replace(".", mark) for value in values]
    return (head + "\n".join(lines) + "\n").encode()


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        analysis.read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


def test_lead_one_is_read_with_all_that_stands_around_it() -> None:
    recording = analysis.read(exported(rows(ENGLISH)))
    assert recording.format == "Apple Health ECG"
    assert recording.ecg.leads == (Lead.I,)
    assert recording.ecg.sampling_frequency == 512
    assert np.allclose(recording.ecg["I"], np.array(VALUES) / 1000, atol=1e-9)
    assert recording.ecg.start == datetime.fromisoformat("2024-02-29T23:59:59+01:00")
    assert (recording.patient.name, recording.patient.birth_date) == ("Ann Doe", date(1972, 1, 8))
    assert recording.patient.age == pytest.approx(52.1, abs=0.1)
    assert [item.text for item in recording.vendor_statements] == ["Sinus Rhythm"]
    assert (recording.acquisition.model, recording.acquisition.software) == ("Watch7,12", "1.90")
    assert recording.notes == ()


def test_another_language_reads_the_same_and_its_rate_is_not_rounded() -> None:
    data = exported(rows(GERMAN, "Ableitung,Ableitung I", "Einheit,µV"), mark=",")
    recording = analysis.read(data)
    assert recording.ecg.sampling_frequency == 511.422
    assert np.allclose(recording.ecg["I"], np.array(VALUES) / 1000, atol=1e-9)
    assert recording.patient.birth_date == date(1972, 1, 8)
    assert [item.text for item in recording.vendor_statements] == ["Sinusrhythmus"]


def test_values_may_stand_in_quotes() -> None:
    data = exported(rows(ENGLISH), [f'"{value}"' for value in VALUES], mark=",")
    assert np.allclose(analysis.read(data).ecg["I"], np.array(VALUES) / 1000, atol=1e-9)


@pytest.mark.parametrize("stated", ["01/02/1972", "1972年1月8日"])
def test_a_birth_date_with_several_readings_is_left_out(stated: str) -> None:
    recording = analysis.read(exported(rows(ENGLISH | {"Date of Birth": stated})))
    assert recording.patient.birth_date is None
    assert recording.patient.age is None
    assert any("birth date" in note for note in recording.notes)


def test_an_empty_name_is_no_name() -> None:
    head = rows(ENGLISH).replace("Name,Ann Doe", "Name")
    assert analysis.read(exported(head)).patient.name is None


def test_rows_in_another_order_tell_no_identity() -> None:
    other = {"Symptoms": "none"} | ENGLISH
    recording = analysis.read(exported(rows(other)))
    assert recording.ecg.sampling_frequency == 512
    assert recording.patient.name is None
    assert recording.vendor_statements == ()


@pytest.mark.parametrize("values", [(1.5, "x"), (1, "1.234,5"), (1, "2 3,5.1"), ("1,5", "2.5")])
def test_rows_that_are_no_numbers_are_refused(values: Sequence[object]) -> None:
    assert refusal(exported(rows(ENGLISH), values)) is Reason.DAMAGED


def test_a_file_without_samples_or_lead_is_refused() -> None:
    assert refusal(exported(rows(ENGLISH), ())) is Reason.NO_WAVEFORM
    assert refusal(exported(rows(ENGLISH, "Lead,unknown"))) is Reason.NO_LEADS


def test_damage_gives_an_answer_or_a_refusal() -> None:
    for mutant in damaged(exported(rows(ENGLISH)), 500, seed=3):
        with suppress(Undecodable):
            analysis.read(mutant)


def test_the_shared_export_is_read() -> None:
    path = shared("ecg", "csv_apple", "derived_apple_en_512hz.csv")
    recording = analysis.read(path)
    values = np.array(path.read_text("utf-8").split("µV")[1].split(), float)
    assert recording.format == "Apple Health ECG"
    assert recording.ecg.samples == 15360
    assert np.allclose(recording.ecg["I"], values / 1000, atol=1e-7)
