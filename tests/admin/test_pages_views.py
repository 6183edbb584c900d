"""What the ECG page is given: samples, words and comparisons."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import analysis
from analysis.ecg import ECG, STANDARD_12, Acquisition, Patient, Recording, Sex, VendorStatement
from analysis.synthetic import Kind, simulate
from training.admin import views
from training.admin.pages.holdings import Holdings
from training.admin.pages.words import finding_name
from training.corpus import Record
from training.labels import LabelTable


def result(kind: Kind, **more: Any) -> analysis.Result:
    recording = Recording(ecg=simulate(kind, seed=1).ecg, format="simulated", **more)
    return analysis.analyse(recording, [])


def decoded(document: dict[str, Any]) -> npt.NDArray[np.float64]:
    counts = np.frombuffer(base64.b64decode(document["signal"]), "<i2")
    rows = counts.reshape(len(document["leads"]), -1).astype(float)
    rows[rows == views.BLANK] = np.nan
    return rows * np.array(document["steps"])[:, None]


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 60)),
        elements=st.floats(-400, 400, width=32) | st.just(float("nan")),
    )
)
def test_samples_come_back_within_half_a_step_and_gaps_stay_gaps(
    signal: npt.NDArray[np.float32],
) -> None:
    ecg = ECG(signal=signal, leads=STANDARD_12[: len(signal)], sampling_frequency=100.0)
    document = views.tracing(analysis.analyse(ecg, []))
    back = decoded(json.loads(json.dumps(document, allow_nan=False)))
    assert np.array_equal(np.isnan(back), np.isnan(signal))
    error = np.abs(back - signal)
    steps = np.array(document["steps"])[:, None]
    assert not (error > steps / 2 + 1e-4).any()


def test_microvolt_is_the_step_of_an_ordinary_ecg() -> None:
    assert views.tracing(result(Kind.SINUS))["steps"] == [0.001] * 12


def test_long_recording_is_cut_with_its_beats() -> None:
    whole = views.tracing(result(Kind.SINUS))
    part = views.tracing(result(Kind.SINUS), seconds=3.0)
    assert part["samples"] == 3 * part["sampling_frequency"]
    assert part["duration"] == whole["duration"]
    assert 0 < len(part["r_peaks"]) < len(whole["r_peaks"])
    assert len(part["kinds"]) == len(part["r_peaks"]) == len(part["fiducials"]["II"]["p_onset"])


def test_ecg_without_any_lead_makes_a_page_too() -> None:
    empty = ECG(signal=np.empty((0, 0), np.float32), leads=(), sampling_frequency=500.0)
    found = analysis.analyse(empty, [])
    assert views.tracing(found)["leads"] == []
    assert views.measurements(found)
    assert views.headline(found).overall.startswith("Non-diagnostic")


def test_name_is_shown_verbatim_in_every_script() -> None:
    who = Patient(name="Yamada^Tarou=山田^太郎", identifier="1")
    person = views.identified(Recording(ecg=simulate(Kind.SINUS).ecg, format="x", patient=who))
    assert person.title == "Yamada, Tarou / 山田, 太郎"
    nobody = views.identified(Recording(ecg=simulate(Kind.SINUS).ecg, format="x"))
    assert nobody.title == "Name not stated"


def test_pseudonym_tells_no_day_and_no_age_above_ninety() -> None:
    from datetime import UTC, datetime  # noqa: PLC0415

    recording = Recording(
        ecg=simulate(Kind.SINUS).ecg,
        format="x",
        patient=Patient(age=97.5, sex=Sex.FEMALE, name="Doe^Jane", identifier="ID-1"),
        acquisition=Acquisition(
            acquired_at=datetime(2026, 5, 17, tzinfo=UTC), manufacturer="Philips Ward 7"
        ),
    )
    person = views.pseudonymised(recording, "0123456789abcdef")
    assert person.title == "Patient 01234567"
    assert person.lines == ("female · 90 years", "Recorded 2026Q2", "Device: philips")


def test_free_text_of_a_cart_is_for_who_sees_patients() -> None:
    said = (VendorStatement(text="Jane Doe: sinus rhythm"), VendorStatement(text="Sinus rhythm."))
    found = result(Kind.SINUS, vendor_statements=said, notes=("Read from JANE.XML.",))
    private = dict(views.notes(found, identified=False))
    assert "Jane" not in json.dumps(private)
    assert private["The cart's own program said"] == ["Sinus rhythm"]
    assert (
        "Jane Doe: sinus rhythm"
        in dict(views.notes(found, identified=True))["The cart's own program said"]
    )


def test_comparison_shows_then_now_and_the_signed_difference() -> None:
    rows = {row.name: row for row in views.compared(result(Kind.LBBB), result(Kind.SINUS))}
    qrs = rows["QRS duration"]
    now, before = (int(words.split()[0]) for words in (qrs.words, qrs.before))
    assert now > before
    assert abs(int(qrs.change) - (now - before)) <= 1
    missing = views.compared(result(Kind.ATRIAL_FIBRILLATION), result(Kind.SINUS))
    pr = next(row for row in missing if row.name == "PR interval")
    assert (pr.words, pr.change) == ("–", "")
    assert pr.remark


def test_each_finding_stands_in_one_group_and_what_abstains_has_its_reason() -> None:
    found = analysis.analyse(simulate(Kind.ATRIAL_FIBRILLATION, seed=1).ecg)
    listed = [
        finding
        for group in views.findings(found)
        for finding in (
            *group.present,
            *group.absent,
            *(item for _, some in group.not_assessed for item in some),
        )
    ]
    assert len(listed) == len(found.findings)
    assert {id(item) for item in listed} == {id(item) for item in found.findings}


def test_lists_walk_through_a_corpus_in_both_directions() -> None:
    base = Record(
        id="", patient="p", age=None, sex=None, site="s", device="ge", quarter=None,
        sampling_frequency=500.0, leads=STANDARD_12, samples=5000, format="x", sha256="",
        ai_visible=False, patient_stated=True,
    )  # fmt: skip
    records = tuple(replace(base, id=f"{n:02x}") for n in range(5))
    held = Holdings(records=records, labels=LabelTable(()), stamp=())
    assert held.neighbours("02") == ("01", "03")
    assert held.neighbours("00") == (None, "01")
    assert held.neighbours("04") == ("03", None)
    assert held.neighbours("025") == ("02", "03")
    first, after = held.page("", "", 3)
    assert ([item.id for item in first], after) == (["00", "01", "02"], "02")
    rest, after = held.page("", "02", 3)
    assert ([item.id for item in rest], after) == (["03", "04"], None)
    assert held.get("03") is records[3]
    assert held.get("09") is None


def test_free_name_of_a_label_is_shown_as_it_is() -> None:
    assert finding_name("lbbb") == "Left bundle branch block"
    assert finding_name("our own word") == "our own word"
