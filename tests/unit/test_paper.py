"""The printed page, measured from outside: from the coordinates and words of its files."""

import hashlib
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageChops, ImageFilter
from pypdf import PageObject, PdfReader
from pypdfium2 import PdfDocument
from support import need_program

from analysis.codes import VOCABULARY
from analysis.ecg import (
    ECG,
    LIMB,
    STANDARD_12,
    Acquisition,
    Lead,
    Patient,
    Recording,
    Sex,
)
from analysis.paper import KINDS, Kind, draw, render
from analysis.paper.evidence import compose_evidence
from analysis.paper.lettering import width
from analysis.paper.sheet import compose
from analysis.paper.tracing import pen_strokes, share
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

Points = npt.NDArray[np.float64]
Colour = tuple[float, ...]
Matrix = tuple[float, ...]

MM = 72 / 25.4
DIGEST = "0123456789abcdef" * 4


def quantity(value: float | None, unit: str = "ms", reason: str | None = None) -> Quantity:
    return Quantity(value=value, unit=unit, method="by hand", reason=reason)


def measurements(**known: Any) -> Measurements:
    names = [item.name for item in fields(Measurements) if item.type is Quantity]
    missing = {name: quantity(None, reason="not measured") for name in names}
    return Measurements(**missing | {"r_peaks": np.array([]), "fiducials": {}} | known)


def statement(key: str, *evidence: str, leads: tuple[Lead, ...] = ()) -> Statement:
    entry = VOCABULARY[key]
    return Statement(
        key=key,
        code=entry.code,
        text=entry.name,
        origin=Origin.CRITERIA,
        evidence=evidence,
        leads=leads,
    )


def judged(key: str, **changed: Any) -> Finding:
    entry = VOCABULARY[key]
    parts = {"present": True, "origin": Origin.CRITERIA} | changed
    return Finding(key=key, code=entry.code, name=entry.name, **parts)


def spikes(
    leads: Sequence[Lead] = STANDARD_12,
    rate: float = 500.0,
    seconds: float = 10.0,
    every: float = 0.8,
    height: float = 1.0,
) -> ECG:
    """One sharp R wave of ``height`` mV every ``every`` s, the first after 0.4 s."""
    signal = np.full((len(leads), round(rate * seconds)), height * 0)
    signal[:, np.round(np.arange(0.4, seconds, every) * rate).astype(int)] = height
    return ECG(signal=signal, leads=tuple(leads), sampling_frequency=rate)


def result(
    ecg: ECG | None = None,
    *,
    patient: Patient | None = None,
    acquisition: Acquisition | None = None,
    **changed: Any,
) -> Result:
    recording = Recording(
        ecg=ecg or spikes(),
        format="by hand",
        patient=patient or Patient(name="Doe^Jane", identifier="4711", age=54.9, sex=Sex.FEMALE),
        acquisition=acquisition or Acquisition(),
    )
    parts = {
        "recording": recording,
        "statements": (statement("av_block_1", "PR interval 224 ms"),),
        "findings": (),
        "measurements": measurements(heart_rate=quantity(75.0, "{H.B.}/min")),
        "quality": Quality(verdict=Verdict.FULL),
        "models": (ModelIdentity(name="twelve", version="1.2.3", digest=DIGEST),),
        "overall": Overall.ABNORMAL,
    }
    return Result(**parts | changed)


def words(res: Result, version: str = "9.8.7", page: int = 1) -> str:
    """Return the text of a page of the PDF as a reader extracts it, blanks single."""
    with PdfDocument(render(res, "pdf", version=version)) as document:
        return document[page - 1].get_textpage().get_text_bounded().replace("\r\n", "\n")


@dataclass(frozen=True)
class Stroke:
    """A stroked path in mm from the top left corner."""

    colour: Colour
    parts: list[Points]

    @property
    def points(self) -> Points:
        return np.concatenate(self.parts)


def multiply(inner: Matrix, outer: Matrix) -> Matrix:
    a, b, c, d, e, f = inner
    g, h, i, j, k, m = outer
    return (
        a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j,
        e * g + f * i + k, e * h + f * j + m,
    )  # fmt: skip


def stroked(page: PageObject) -> Iterator[Stroke]:
    """Yield what a PDF interpreter would stroke (ISO 32000-1, 8.3 to 8.5)."""
    matrix, colour = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0), (0.0,)
    height = float(page.mediabox.height)
    stack, parts = [], []
    for operands, operator in page.get_contents().operations:
        if operator == b"q":
            stack.append((matrix, colour))
        elif operator == b"Q":
            matrix, colour = stack.pop()
        elif operator == b"cm":
            matrix = multiply([float(part) for part in operands], matrix)
        elif operator == b"RG":
            colour = tuple(float(part) for part in operands)
        elif operator in {b"m", b"l"}:
            x, y = (float(part) for part in operands)
            a, b, c, d, e, f = matrix
            point = ((a * x + c * y + e) / MM, (height - (b * x + d * y + f)) / MM)
            parts += [[point]] if operator == b"m" else []
            parts[-1] += [point] if operator == b"l" else []
        elif operator in {b"S", b"n", b"f"}:
            if operator == b"S" and parts:
                yield Stroke(colour, [np.array(part) for part in parts])
            parts = []


def paths(res: Result, page: int = 1) -> list[Stroke]:
    return list(stroked(PdfReader(BytesIO(render(res, "pdf"))).pages[page - 1]))


def traces(res: Result) -> list[Stroke]:
    """Return the strips of the PDF: black paths that are no pulse, no separator."""
    return [path for path in paths(res) if path.colour == (0, 0, 0) and len(path.points) > 6]


def pulses(res: Result) -> list[Stroke]:
    return [path for path in paths(res) if len(path.points) == 6]


def labels(res: Result) -> list[tuple[str, float, float]]:
    """Return where each lead's name stands in the PDF: (name, x, y) in mm from the top left."""
    found = []

    def visit(text: str, matrix: Matrix, text_matrix: Matrix, *_font: Any) -> None:
        word, *_ = *text.split(), ""
        if word in Lead.__members__:
            x, y = multiply(text_matrix, matrix)[4:]
            found.append((word, x / MM, 210 - y / MM))

    PdfReader(BytesIO(render(res, "pdf"))).pages[0].extract_text(visitor_text=visit)
    return found


# --- true scale


def test_the_page_is_a4_landscape_and_asks_to_be_printed_unscaled() -> None:
    reader = PdfReader(BytesIO(render(result(), "pdf")))
    box = reader.pages[0].mediabox
    assert (float(box.width) / MM, float(box.height) / MM) == pytest.approx((297, 210), abs=0.01)
    assert reader.trailer["/Root"]["/ViewerPreferences"]["/PrintScaling"] == "/None"


def test_on_the_pdf_25_mm_are_one_second() -> None:
    rhythm = traces(result(spikes(every=0.8)))[-1].points
    tops = rhythm[rhythm[:, 1] < rhythm[:, 1].max() - 5, 0]
    assert np.diff(tops) == pytest.approx(np.full(len(tops) - 1, 0.8 * 25), abs=0.011)


def test_on_the_pdf_10_mm_are_one_millivolt() -> None:
    for trace in traces(result(spikes(height=1.3))):
        assert np.ptp(trace.points[:, 1]) == pytest.approx(13, abs=0.011)


def test_each_row_opens_with_a_pulse_of_one_millivolt_for_200_ms() -> None:
    drawn = pulses(result())
    assert len(drawn) == 4
    for pulse in drawn:
        corners = pulse.points
        assert np.ptp(corners[:, 1]) == pytest.approx(10, abs=0.001)
        assert corners[3, 0] - corners[2, 0] == pytest.approx(5, abs=0.001)


def test_the_grid_has_a_line_every_millimetre_and_a_stronger_one_every_five() -> None:
    fine, coarse = paths(result())[:2]
    upright = [
        np.array([part[0, 0] for part in path.parts if part[0, 0] == part[1, 0]])
        for path in (fine, coarse)
    ]
    assert np.diff(upright[1]) == pytest.approx(np.full(52, 5), abs=0.001)
    assert np.diff(np.sort(np.concatenate(upright))) == pytest.approx(np.ones(260), abs=0.001)
    assert sum(coarse.colour) < sum(fine.colour)


def test_the_rhythm_strip_and_the_columns_run_on_the_same_time() -> None:
    drawn = traces(result())
    of_rhythm = drawn[-1].points
    for trace in drawn[:-1]:
        tall = trace.points[:, 1].min()
        x = trace.points[trace.points[:, 1] == tall, 0]
        baseline = of_rhythm[:, 1].max()
        tops = of_rhythm[of_rhythm[:, 1] < baseline - 5, 0]
        assert all(np.abs(tops - at).min() < 0.011 for at in x)


def test_the_svg_draws_the_same_points_as_the_pdf() -> None:
    root = ET.fromstring(render(result(), "svg"))
    drawn = [
        np.array(re.findall(r"\d+", path.get("d")), dtype=float).reshape(-1, 2) / 100
        for path in root.find("{*}g").findall("{*}path")
    ]
    assert root.get("width") == "297mm"
    assert root.get("viewBox") == "0 0 29700 21000"
    expected = [path for path in paths(result()) if len(path.points) >= 6 and not sum(path.colour)]
    for mine, other in zip(drawn, expected, strict=True):
        assert mine == pytest.approx(other.points, abs=0.001)


def test_the_png_has_its_true_size_and_ink_where_the_pulse_stands() -> None:
    image = Image.open(BytesIO(render(result(), "png", dpi=200)))
    assert image.size == (2339, 1654)
    assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    x, y = pulses(result())[0].points[2:4].mean(axis=0) * 200 / 25.4
    around = image.convert("L").crop((int(x) - 3, int(y) - 2, int(x) + 3, int(y) + 3))
    assert around.getextrema()[0] < 60


# --- the right lead under the right name


@pytest.mark.parametrize("leads", [STANDARD_12, STANDARD_12[::-1], (*STANDARD_12, Lead.V4R), LIMB])
def test_each_lead_is_drawn_under_its_own_name(leads: Sequence[Lead]) -> None:
    t = np.arange(5000) / 500
    cycles = {lead: 4.0 + 1.7 * number for number, lead in enumerate(leads)}
    signal = [0.5 * np.sin(2 * np.pi * cycles[lead] * t) for lead in leads]
    res = result(ECG(signal=np.array(signal), leads=leads, sampling_frequency=500))
    drawn, named = traces(res), labels(res)
    assert len(drawn) == len(named) == len(leads) + 1
    for name, x, y in named:
        trace = next(
            path.points
            for path in drawn
            if 0 < x - path.points[0, 0] < 3 and 0 < path.points[:, 1].mean() - y < 22
        )
        height = trace[:, 1] - trace[:, 1].mean()
        seconds = np.ptp(trace[:, 0]) / 25
        crossings = np.count_nonzero(np.diff(height > 0))
        assert crossings / 2 / seconds == pytest.approx(cycles[Lead[name]], abs=0.5)


def test_the_lead_names_stand_in_the_standard_order() -> None:
    rows = [["I", "aVR", "V1", "V4"], ["II", "aVL", "V2", "V5"], ["III", "aVF", "V3", "V6"], ["II"]]
    named = sorted(labels(result()), key=lambda label: (round(label[2]), label[1]))
    assert [name for name, *_ in named] == [name for row in rows for name in row]


def test_a_lead_that_is_absent_is_said_to_be_not_recorded() -> None:
    eight = [lead for lead in STANDARD_12 if not lead.startswith("aV") and lead != Lead.III]
    res = result(spikes(eight))
    assert words(res).count("not recorded") == 4
    assert len(traces(res)) == 9


@pytest.mark.parametrize(
    ("leads", "quality"),
    [
        (STANDARD_12, {Lead.II: (QualityReason.FLAT,)}),
        ([lead for lead in STANDARD_12 if lead != Lead.II], {}),
    ],
)
def test_the_rhythm_strip_takes_another_lead_where_ii_cannot_serve(
    leads: Sequence[Lead], quality: dict[Lead, tuple[QualityReason, ...]]
) -> None:
    verdict = Quality(verdict=Verdict.LIMITED, leads=quality)
    assert re.search(
        r"V1 +\(II not (usable|recorded)\)", words(result(spikes(leads), quality=verdict))
    )


def test_the_rhythm_strip_never_shows_a_lead_without_samples() -> None:
    ecg = spikes()
    signal = ecg.signal.copy()
    signal[1] = np.nan
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    assert "V1 (II not usable)" in words(res)


# --- the samples as they are


def test_a_gap_lifts_the_pen() -> None:
    ecg = spikes()
    signal = ecg.signal.copy()
    signal[1, 500:750] = np.nan
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    before, after = traces(res)[-1].parts
    assert after[0, 0] - before[-1, 0] == pytest.approx(251 / 500 * 25, abs=0.02)


def test_a_single_sample_between_gaps_leaves_a_dot() -> None:
    ecg = spikes([Lead.II])
    signal = np.full_like(ecg.signal, np.nan)
    signal[0, [100, 200, 201, 300, 2000]] = 0.1
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    assert [len(part) for part in traces(res)[0].parts] == [2, 2, 2, 2]


values = npst.arrays(
    np.float64,
    st.integers(0, 300),
    elements=st.one_of(st.just(np.nan), st.floats(-5, 5)),
)


@given(mv=values, rate=st.sampled_from([100.0, 500.0, 1000.0, 2000.0, 8000.0, 31250.0]))
def test_no_peak_is_lost_and_no_gap_is_bridged(mv: Points, rate: float) -> None:
    index, starts = pen_strokes(mv, rate)
    assert np.isfinite(mv[index]).all()
    assert (np.diff(index) >= 0).all()
    for here, there, start in zip(index[:-1], index[1:], starts[1:], strict=True):
        assert start == bool(np.isnan(mv[here:there]).any())
    size = max(1, int(0.002 * rate))
    kept = np.zeros(len(mv), dtype=bool)
    kept[index] = True
    for at in range(0, len(mv), size):
        column, drawn = mv[at : at + size], kept[at : at + size]
        if np.isfinite(column).any():
            assert np.nanmax(column[drawn]) == np.nanmax(column)
            assert np.nanmin(column[drawn]) == np.nanmin(column)


def test_the_baseline_is_moved_by_a_constant_only() -> None:
    t = np.arange(5000) / 500
    drift = 0.3 * np.sin(2 * np.pi * 0.2 * t)
    plain = ECG(signal=drift[None], leads=(Lead.II,), sampling_frequency=500)
    moved = ECG(signal=drift[None] + 7, leads=(Lead.II,), sampling_frequency=500)
    heights = [traces(result(ecg))[0].points[:, 1] for ecg in (plain, moved)]
    assert heights[0] == pytest.approx(heights[1], abs=0.011)
    assert np.ptp(heights[0]) == pytest.approx(6, abs=0.03)


def test_a_tall_wave_makes_its_row_taller_instead_of_being_cut() -> None:
    ecg = spikes()
    signal = ecg.signal.copy()
    signal[ecg.leads.index(Lead.V4)] *= 4.2
    signal[ecg.leads.index(Lead.V2)] *= -3.1
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    tall = sorted(np.ptp(trace.points[:, 1]) for trace in traces(res))
    assert tall[-2:] == pytest.approx([31, 42], abs=0.011)
    assert "cut at the border" not in words(res)


def test_what_no_row_can_hold_is_cut_with_a_mark_and_a_word() -> None:
    ecg = spikes(height=40.0)
    res = result(ecg)
    assert "cut at the border of the row" in words(res)
    assert "▲" in words(res)
    for trace in traces(res):
        assert trace.points[:, 1].min() >= 52
        assert trace.points[:, 1].max() <= 192


def test_one_lead_of_noise_does_not_cut_the_others() -> None:
    ecg = spikes(height=1.5)
    signal = ecg.signal.copy()
    signal[0] = np.random.default_rng(0).normal(0, 30, 5000)
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    assert [np.ptp(trace.points[:, 1]) for trace in traces(res)[4:]] == pytest.approx(
        [15] * 9, abs=0.1
    )


@given(
    needs=npst.arrays(
        np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(1, 50)
    ),
    total=st.floats(35, 140),
)
def test_shared_room_adds_up_and_small_needs_are_met_first(needs: Points, total: float) -> None:
    room = share(needs, total)
    assert room.sum() == pytest.approx(total)
    met = room >= needs - 1e-9
    assert met.all() or room[~met].min() >= room[met].max(initial=0) - 1e-9


def test_infinite_samples_are_gaps() -> None:
    ecg = spikes([Lead.II])
    signal = ecg.signal.copy()
    signal[0, 1000] = np.inf
    signal[0, 2000] = -np.inf
    drawn = traces(result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500)))
    assert len(drawn[0].parts) == 3


# --- layouts


def test_one_lead_fills_the_page_with_strips_that_go_on_in_time() -> None:
    text = words(result(spikes([Lead.V5], seconds=34)))
    assert [f"V5 from {start} s" in text for start in (10, 20, 30)] == [True] * 3


def test_a_long_recording_says_that_only_its_beginning_is_shown() -> None:
    assert "first 10 s of 60 s" in words(result(spikes(seconds=60)))
    assert "first 10 s of 10.4 s" in words(result(spikes(seconds=10.4)))
    assert "first 40 s of 60 s" in words(result(spikes([Lead.II], seconds=60)))
    assert "first 10 s" not in words(result(spikes(seconds=10)))


def test_a_short_recording_still_shows_every_lead_and_says_from_when() -> None:
    res = result(spikes(seconds=4))
    assert len(traces(res)) == 13
    assert "V6 from 1.5 s" in words(res)


def test_a_recording_that_begins_with_no_samples_is_shown_from_where_it_has_some() -> None:
    ecg = spikes(seconds=40)
    signal = ecg.signal.copy()
    signal[:, :10000] = np.nan
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    assert len(traces(res)) == 13
    assert words(res).count("from 20 s") == 13


def test_leads_recorded_one_group_after_the_other_are_all_shown() -> None:
    ecg = spikes()
    signal = np.full_like(ecg.signal, np.nan)
    for row in range(12):
        begin = (3 - row // 3) * 1250
        signal[row, begin : begin + 1250] = ecg.signal[row, begin : begin + 1250]
    res = result(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500))
    assert len(traces(res)) == 13
    assert "V4 from 0 s" in words(res)


@settings(max_examples=40, deadline=None)
@given(
    leads=st.lists(st.sampled_from(list(Lead)), unique=True, max_size=len(Lead)),
    seconds=st.sampled_from([0.0, 0.004, 0.9, 2.4, 5.0, 9.98, 10.0, 31.0]),
    rate=st.sampled_from([40.0, 240.0, 500.0, 977.0]),
    scale=st.sampled_from([1.0, np.nan]),
)
def test_any_set_of_leads_of_any_length_is_drawn_inside_the_paper(
    leads: Sequence[Lead], seconds: float, rate: float, scale: float
) -> None:
    ecg = spikes(leads, rate, seconds, height=scale)
    page = compose(result(ecg), "1")
    for trace in page.traces:
        assert trace.starts[0]
        assert (trace.points >= (1850, 5200)).all()
        assert (trace.points <= (27850, 19200)).all()
    assert render(result(ecg), "pdf").startswith(b"%PDF")
    assert set(leads) <= {text.text.split()[0] for text in page.texts if text.text}


def test_traces_are_black_even_where_no_separator_set_the_colour() -> None:
    assert traces(result(spikes([Lead.II])))


# --- what is said


def test_the_page_says_what_it_is_and_which_model_spoke() -> None:
    text = words(result())
    assert "AI analysis – not verified by a clinician – research use only – not an alarm" in text
    assert "twelve 1.2.3 (sha256 0123456789ab)" in text
    assert "Sinusnode 9.8.7" in text


def test_each_of_several_models_is_named_with_its_digest() -> None:
    several = tuple(
        ModelIdentity(name=f"sinusnode-{number}-lead", version="1.0.0", digest=f"{number}" * 64)
        for number in range(5)
    )
    text = words(result(models=several))
    assert all(f"(sha256 {number * 12})" in text for number in "01234")


def test_patient_time_and_device_are_shown_as_the_source_states_them() -> None:
    patient = Patient(
        name="Doe^Jane^^Dr",
        identifier="A 1",
        age=54.9,
        sex=Sex.FEMALE,
        birth_date=date(1970, 1, 31),
    )
    acquisition = Acquisition(
        acquired_at=datetime(2024, 5, 17, 14, 22, 10),  # noqa: DTZ001 - carts give local time
        manufacturer="Maker",
        model="Cart 3",
        filter_low_frequency=0.05,
        filter_high_frequency=150.0,
        notch_filter_frequency=50.0,
    )
    text = words(result(patient=patient, acquisition=acquisition))
    assert "Doe, Jane Dr" in text
    assert "ID A 1" in text
    assert "female · 54 years · born 1970-01-31" in text
    assert "Recorded 2024-05-17 14:22:10" in text
    assert "Maker Cart 3" in text
    assert "25 mm/s 10 mm/mV 0.05–150 Hz notch 50 Hz" in text


def test_what_the_source_does_not_state_is_said_to_be_missing() -> None:
    text = words(result(patient=Patient()))
    assert "Name not stated" in text
    assert "ID not stated" in text
    assert "sex, age, birth date not stated" in text
    assert "filter not stated" in text


def test_an_infant_is_not_nought_years_old() -> None:
    assert "4 months" in words(result(patient=Patient(age=0.4)))


def test_a_statement_carries_its_evidence_and_at_most_five_are_listed() -> None:
    seven = ("lbbb", "long_qt", "pvc", "left_axis", "lvh", "rvh", "lae")
    text = words(result(statements=tuple(statement(key, f"number {key}") for key in seven)))
    for key in seven[:5]:
        assert VOCABULARY[key].name in text
        assert f"— number {key}" in text
    assert VOCABULARY["rvh"].name not in text
    assert "(+ 2 more in the report)" in text


def test_a_missing_measurement_is_a_dash_with_its_reason() -> None:
    meas = measurements(
        pr_interval=quantity(None, reason="no P waves"),
        qtc_fridericia=quantity(412.4),
        qrs_axis=quantity(-32.0, "deg"),
    )
    text = words(result(measurements=meas))
    assert re.search(r"PR interval\s+–\s+no P waves", text)
    assert re.search(r"QTc\s+412 ms\s+Fridericia", text)
    assert "– / −32° / –" in text


def test_a_non_diagnostic_ecg_shows_the_tracing_the_reason_and_no_diagnosis() -> None:
    bad = Quality(
        verdict=Verdict.NON_DIAGNOSTIC,
        reasons=(QualityReason.NO_QRS,),
        leads={Lead.V1: (QualityReason.FLAT,)},
    )
    res = result(quality=bad, overall=Overall.NON_DIAGNOSTIC)
    assert "Non-diagnostic ECG: no QRS, flat" in words(res)
    assert "asystole, ventricular flutter or fibrillation" in " ".join(words(res).split())
    assert "flat (V1)" in words(res)
    assert "AV block" not in words(res)
    assert len(traces(res)) == 13


def test_a_non_diagnostic_verdict_silences_statements_whatever_the_overall_says() -> None:
    res = result(quality=Quality(verdict=Verdict.NON_DIAGNOSTIC, reasons=(QualityReason.NOISE,)))
    assert "AV block" not in words(res)
    assert "Abnormal" not in words(res)


def test_nothing_above_its_threshold_is_not_called_normal() -> None:
    text = words(result(overall=Overall.NO_LISTED_FINDING, statements=()))
    assert "No listed finding above its threshold" in text
    assert "Normal" not in text


def test_what_was_not_assessed_is_listed_or_counted() -> None:
    sentences = tuple(f"criterion {number}" for number in range(20))
    text = words(result(not_assessed=sentences))
    listed = [number for number in range(20) if re.search(rf"criterion {number}\b", text)]
    left = int(re.search(r"Not assessed: (\d+) more", text)[1])
    assert listed
    assert len(listed) + left == 20


# --- names of the world, and hostile text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Чехов^Антон", "Чехов, Антон"),
        ("Παπαδόπουλος^Γιώργος", "Παπαδόπουλος, Γιώργος"),
        ("Nguyễn^Văn A", "Nguyễn, Văn A"),
        ("Åse^Bjo\u0308rk", "Åse, Björk"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou"),
        ("plain name", "plain name"),
        ("Padded^Name\0\0", "Padded, Name"),
    ],
)
def test_names_of_other_scripts_are_printed(name: str, shown: str) -> None:
    text = words(result(patient=Patient(name=name)))
    assert shown in unicodedata.normalize("NFC", text)
    assert "cannot print" not in text


@pytest.mark.parametrize("name", ["山田^太郎", "محمد^علي", "כהן^דוד", "Bell\x07^Ring", "\ud800^X"])
def test_a_name_that_cannot_be_printed_is_replaced_visibly(name: str) -> None:
    text = words(result(patient=Patient(name=name)))
    assert "□" in text
    assert "□ = a character that this page cannot print" in text


hostile = st.text(max_size=900) | st.text(alphabet="W", min_size=40, max_size=300)


@settings(max_examples=60, deadline=None)
@given(text=hostile, kind=st.sampled_from(KINDS))
def test_no_text_leaves_the_page_or_breaks_it(text: str, kind: Kind) -> None:
    res = result(
        patient=Patient(name=text, identifier=text),
        acquisition=Acquisition(manufacturer=text, model=text),
        statements=(replace(statement("lbbb", text, text), text=text or "x"),) * 7,
        not_assessed=(text,) * 9,
        models=(ModelIdentity(name=text, version=text, digest=DIGEST),) * 3,
        measurements=measurements(pr_interval=quantity(None, reason=text)),
        findings=(judged("lbbb", evidence=(text,)), judged("pvc", present=None, reason=text)),
    )
    for line in (*compose(res, text).texts, *compose_evidence(res, text).texts):
        wide = width(line.text, line.size, bold=line.bold)
        left = line.x if line.anchor == "start" else line.x - wide
        assert left >= 18.49
        assert left + wide <= 278.51
        assert 5 < line.y < 205.1
    written = render(res, kind, version=text)
    if kind == "svg":
        ET.fromstring(written)


def test_a_long_name_ends_in_an_ellipsis_rather_than_seeming_complete() -> None:
    assert "…" in words(result(patient=Patient(name="Wolfeschlegelsteinhausen" * 9)))


def test_an_identifier_of_64_characters_is_shown_whole() -> None:
    identifier = "".join(chr(65 + number % 26) for number in range(64))
    text = words(result(patient=Patient(identifier=identifier)))
    assert identifier in re.sub(r"\s", "", text)


# --- files


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_result_gives_the_same_bytes(kind: Kind) -> None:
    assert render(result(), kind, version="1") == render(result(), kind, version="1")


def test_another_process_writes_the_same_bytes() -> None:
    code = (
        "import hashlib, test_paper as t\n"
        "for kind in t.KINDS:\n"
        "    print(hashlib.sha256(t.render(t.result(), kind)).hexdigest())\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    here = [hashlib.sha256(render(result(), kind)).hexdigest() for kind in KINDS]
    assert there.stdout.split() == here


def test_a_page_with_rare_letters_leaves_no_trace_in_the_next_one() -> None:
    before = render(result(), "pdf")
    render(result(patient=Patient(name="Чехов^Антон")), "pdf")
    assert render(result(), "pdf") == before


def test_every_font_is_embedded() -> None:
    page = PdfReader(BytesIO(render(result(), "pdf"))).pages[0]
    fonts = [font["/DescendantFonts"][0] for font in page["/Resources"]["/Font"].values()]
    assert len(fonts) == 2
    assert all("/FontFile2" in font["/FontDescriptor"] for font in fonts)


def test_a_strict_reader_finds_every_object_where_the_file_says() -> None:
    data = render(result(), "pdf")
    reader = PdfReader(BytesIO(data), strict=True)
    assert len(reader.pages) == 2
    for number, offset in reader.xref[0].items():
        assert data[offset:].startswith(b"%d 0 obj" % number)


def test_another_program_draws_the_pdf_as_the_png_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "sheet.pdf"
    draw(result(), path)
    program = need_program("pdftoppm")
    subprocess.run([program, "-r", "150", "-singlefile", path, tmp_path / "sheet"], check=True)
    other, own = (
        Image.open(source).convert("L").point(lambda grey: 255 * (grey < 80))
        for source in (tmp_path / "sheet.ppm", BytesIO(render(result(), "png", dpi=150)))
    )
    for one, two in ((other, own), (own, other)):
        beside = ImageChops.subtract(one, two.filter(ImageFilter.MaxFilter(7)))
        assert beside.histogram()[255] < 0.005 * one.histogram()[255]


def test_the_document_properties_name_no_patient() -> None:
    reader = PdfReader(BytesIO(render(result(), "pdf")))
    said = " ".join(str(value) for value in reader.metadata.values())
    assert "Doe" not in said
    assert "4711" not in said


@pytest.mark.parametrize(
    ("suffix", "magic"), [("pdf", b"%PDF"), ("svg", b"<svg"), ("PNG", b"\x89PNG")]
)
def test_draw_writes_the_format_that_the_suffix_names(
    tmp_path: Path, suffix: str, magic: bytes
) -> None:
    path = tmp_path / f"sheet.{suffix}"
    draw(result(), path)
    assert path.read_bytes().startswith(magic)


def test_an_unknown_suffix_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'\.bmp'"):
        draw(result(), tmp_path / "sheet.bmp")
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="bmp"):
        render(result(), "bmp")
