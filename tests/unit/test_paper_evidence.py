"""The page of evidence, measured from outside: from the coordinates and words of its files."""

import re
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import combinations
from typing import Any

import hearts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pypdf import PdfReader
from support import shared
from test_criteria import rhythm_of
from test_paper import (
    Stroke,
    judged,
    measurements,
    paths,
    quantity,
    result,
    spikes,
    statement,
    words,
)

from analysis import read
from analysis.analyse import analyse
from analysis.ecg import ECG, LIMB, STANDARD_12, Acquisition, Lead, Patient, Recording, Sex
from analysis.measure import everything
from analysis.paper import render
from analysis.paper.beats import beat_kinds
from analysis.paper.evidence import compose_evidence
from analysis.paper.lettering import width
from analysis.paper.page import Page, Text
from analysis.quality import examine
from analysis.result import (
    BeatKind,
    LeadMeasurements,
    Measurements,
    ModelIdentity,
    Origin,
    Overall,
    Quality,
    QualityReason,
    Result,
    Verdict,
)
from analysis.rhythm import Rhythm
from analysis.synthetic import Kind, simulate

RATE = 500.0
MEN = Patient(age=60.0, sex=Sex.MALE)
MARKS = {
    "p_onset": 60.0, "p_peak": 80.0, "p_offset": 100.0, "qrs_onset": 130.0, "r_peak": 150.0,
    "qrs_offset": 180.0, "t_onset": 220.0, "t_peak": 260.0, "t_offset": 320.0,
}  # fmt: skip
R_PEAKS = np.arange(200.0, 4900.0, 400.0)


def measured(leads: Sequence[Lead] = STANDARD_12, height: float = 1.0, **known: Any) -> Result:
    """Return a result whose median beat has spikes at the peaks and marks around them."""
    signal = np.zeros((len(leads), 400))
    for kind in ("p_peak", "r_peak", "t_peak"):
        signal[:, int(MARKS[kind])] = height * {"p_peak": 0.1, "r_peak": 1.0, "t_peak": 0.3}[kind]
    rows = {kind: R_PEAKS + mark - MARKS["r_peak"] for kind, mark in MARKS.items()}
    meas = measurements(
        pr_interval=quantity(140.0),
        qrs_duration=quantity(100.0),
        qt_interval=quantity(380.0),
        r_peaks=R_PEAKS,
        fiducials={str(lead): rows for lead in (*leads, "global")},
        median_beat=ECG(signal=signal, leads=tuple(leads), sampling_frequency=RATE),
        median_fiducials=MARKS,
        **known,
    )
    beats = LeadMeasurements(beats=tuple(range(R_PEAKS.size)))
    return result(spikes(leads, height=height), measurements=meas, leads=beats)


def scale(res: Result) -> tuple[float, float]:
    """Return speed and gain of the median beats, as they are printed."""
    found = re.search(r"Median beats (\S+) mm/s +(\S+) mm/mV", words(res, page=2))
    assert found
    return float(found[1]), float(found[2])


def panels(res: Result) -> Stroke:
    """Return the curves of all panels, one part each."""
    return black(res)[1]


def black(res: Result) -> list[Stroke]:
    """Return what is drawn as curves: all leads, the panels, the strip."""
    return [path for path in paths(res, 2) if len(path.points) > 6 and not sum(path.colour)]


def lines(res: Result) -> np.ndarray:
    """Return the ends of the upright hairlines through the panels: (lines, 2, 2) in mm."""
    grey = [path for path in paths(res, 2) if 0.3 < path.colour[0] < 0.4]
    return np.array(max(grey, key=lambda path: len(path.parts)).parts)


def texts(page: Page) -> dict[str, Text]:
    return {text.text: text for text in page.texts}


# --- true scale


def test_the_pdf_has_both_pages_and_the_second_says_so() -> None:
    reader = PdfReader(BytesIO(render(measured(), "pdf")))
    assert len(reader.pages) == 2
    assert "page 2 of 2" in words(measured(), page=2)
    assert "page 2 of 2" not in words(measured())


@pytest.mark.parametrize("height", [0.5, 1.0, 2.3, 4.1])
def test_the_median_beats_have_the_scale_that_is_printed(height: float) -> None:
    res = measured(height=height)
    speed, gain = scale(res)
    assert speed == 50
    for part in panels(res).parts:
        tops = [part[np.abs(part[:, 0] - x).argmin()] for x in _peaks_of(part, speed)]
        assert np.ptp(part[:, 1]) == pytest.approx(height * gain, abs=0.011)
        assert tops[1][0] - tops[0][0] == pytest.approx(70 / RATE * speed, abs=0.011)
        assert tops[2][0] - tops[1][0] == pytest.approx(110 / RATE * speed, abs=0.011)


def _peaks_of(part: np.ndarray, speed: float) -> list[float]:
    """Return where the three spikes of :func:`measured` stand."""
    level = part[0, 1]
    up = part[level - part[:, 1] > 0.3]
    starts = np.flatnonzero(np.diff(up[:, 0], prepend=-np.inf) > 5 / RATE * speed)
    assert starts.size == 3
    return up[starts, 0].tolist()


def test_the_rhythm_strip_has_the_scale_that_is_printed() -> None:
    res = measured(height=1.2)
    assert "Rhythm II 25 mm/s 10 mm/mV" in words(res, page=2)
    points = black(res)[-1].points
    tops = points[points[:, 1] < points[:, 1].max() - 5, 0]
    assert np.ptp(points[:, 1]) == pytest.approx(12, abs=0.011)
    assert np.diff(tops) == pytest.approx(np.full(len(tops) - 1, 0.8 * 25), abs=0.011)


def test_the_calibration_pulses_are_one_millivolt_high() -> None:
    res = measured()
    gain = float(re.search(r"All leads +(\S+) mm/mV", words(res, page=2))[1])
    beats, rhythm = (path.points for path in paths(res, 2) if len(path.points) == 6)
    assert np.ptp(beats[:, 1]) == pytest.approx(gain, abs=0.001)
    assert beats[3, 0] - beats[2, 0] == pytest.approx(0.1 * 50, abs=0.001)
    assert np.ptp(rhythm[:, 1]) == pytest.approx(10, abs=0.001)
    assert rhythm[3, 0] - rhythm[2, 0] == pytest.approx(0.2 * 25, abs=0.001)


def test_a_long_beat_is_drawn_slower_rather_than_cut() -> None:
    slow = MARKS | {"p_onset": 5.0, "t_offset": 395.0}
    res = measured()
    meas = replace(res.measurements, median_fiducials=slow)
    speed, _ = scale(replace(res, measurements=meas))
    assert speed == 25


# --- marks, intervals, beats


def test_each_panel_has_the_six_onsets_and_offsets_where_they_were_measured() -> None:
    res = measured()
    parts = panels(res).parts
    drawn = lines(res)
    assert len(drawn) == 13 * 6
    for part in parts:
        peak, level = part[part[:, 1].argmin(), 0], part[0, 1]
        x, (upper, lower) = drawn[:, 0, 0], np.sort(drawn[:, :, 1]).T
        here = (x > part[0, 0]) & (x < part[-1, 0] + 1) & (upper < level) & (level < lower)
        own = np.sort(x[here])
        kinds = ("p_onset", "p_offset", "qrs_onset", "qrs_offset", "t_onset", "t_offset")
        due = [peak + (MARKS[kind] - MARKS["r_peak"]) / RATE * 50 for kind in kinds]
        assert own == pytest.approx(due, abs=0.02)


def test_the_intervals_are_brackets_as_long_as_their_values() -> None:
    page = compose_evidence(measured(), "1")
    for label, milliseconds in (("PR 140 ms", 140), ("QRS 100 ms", 100), ("QT 380 ms", 380)):
        said = texts(page)[label]
        near = [line for line in page.lines if line.y0 == line.y1 and -1 < line.y0 - said.y < 1.2]
        assert [line.x1 - line.x0 for line in near] == [
            pytest.approx(milliseconds / 1000 * 50, abs=0.01)
        ]


def test_an_interval_that_was_not_measured_has_no_bracket_but_a_reason() -> None:
    res = measured()
    meas = replace(
        res.measurements,
        pr_interval=quantity(None, reason="no P wave was found"),
        median_fiducials=MARKS | dict.fromkeys(("p_onset", "p_peak", "p_offset"), np.nan),
    )
    text = " ".join(words(replace(res, measurements=meas), page=2).split())
    assert "PR 140 ms" not in text
    assert "PR interval (no P wave was found)" in text
    assert "QT 380 ms" in text


def test_each_beat_has_a_mark_where_it_is_and_the_interval_to_the_next() -> None:
    res = measured()
    page = compose_evidence(res, "1")
    ticks = sorted(
        line.x0 for line in page.lines if line.x0 == line.x1 and line.y1 - line.y0 < 1.5
        and line.y0 > 118
    )  # fmt: skip
    assert ticks == pytest.approx(28.5 + R_PEAKS / RATE * 25, abs=0.001)
    assert [text.text for text in page.texts].count("800") == R_PEAKS.size - 1


def test_premature_beats_bear_the_sign_of_their_kind() -> None:
    narrow, wide = hearts.beat(Kind.SINUS), hearts.beat(Kind.LBBB, with_p=False)
    times = [0.5, 1.3, 2.1, 2.6, 3.7, 4.5, 5.3, 5.8, 6.9, 7.7, 8.5]
    shapes = [wide if time == 2.6 else narrow for time in times]
    res = analyse(hearts.heart(list(zip(times, shapes, strict=True))), [], patient=MEN)
    kinds = dict(zip(times, beat_kinds(res), strict=True))
    assert kinds.pop(2.6) is BeatKind.VENTRICULAR
    assert kinds.pop(5.8) is BeatKind.SUPRAVENTRICULAR
    assert set(kinds.values()) == {BeatKind.DOMINANT}
    signs = [text.text for text in compose_evidence(res, "1").texts if text.text in {"S", "V"}]
    assert signs == ["V", "S"]
    assert "S premature, narrow, V ventricular" in words(res, page=2)


EARLY = [BeatKind.SUPRAVENTRICULAR, BeatKind.ABERRANT]


def counted(ecg: ECG) -> tuple[Rhythm, Result]:
    measured_rhythm = everything(ecg, examine(ecg, expected=STANDARD_12)).rhythm
    return measured_rhythm, analyse(ecg, [], patient=MEN)


@pytest.mark.parametrize(
    "pattern", ["NNNNVNNNNN", "NNNNANNNNN", "NVNVNVNVNV", "NANANANANA", "NNVNNANNVVNN", "NNN", "N"]
)
def test_the_beats_that_bear_a_sign_are_those_that_the_criteria_counted(pattern: str) -> None:
    rhythm, res = counted(rhythm_of(pattern))
    kinds = np.array(beat_kinds(res))
    present = {item.key for item in res.findings if item.present}
    if present & {"pvc", "ventricular_bigeminy"}:
        assert (kinds == BeatKind.VENTRICULAR).tolist() == rhythm.ventricular.tolist()
    if present & {"pac", "atrial_bigeminy"}:
        assert np.isin(kinds, EARLY).tolist() == rhythm.supraventricular.tolist()


@pytest.mark.parametrize("record", ["106", "119", "208", "215"])
def test_on_real_ectopic_beats_too(record: str) -> None:
    whole = read(shared("data", "mitdb_ds1", f"{record}.hea")).ecg
    minute = round(60 * whole.sampling_frequency)
    rate = whole.sampling_frequency
    ecg = ECG(signal=whole.signal[:, :minute], leads=whole.leads, sampling_frequency=rate)
    seen = everything(ecg, examine(ecg, expected=ecg.leads))
    told = (judged("pvc"), judged("pac"))
    res = result(ecg, measurements=seen.measurements, leads=seen.leads, findings=told)
    kinds = np.array(beat_kinds(res))
    assert (kinds == BeatKind.VENTRICULAR).tolist() == seen.rhythm.ventricular.tolist()
    assert np.isin(kinds, EARLY).tolist() == seen.rhythm.supraventricular.tolist()


def test_beats_of_fibrillation_are_not_called_premature() -> None:
    res = analyse(simulate(Kind.ATRIAL_FIBRILLATION).ecg, [], patient=MEN)
    assert BeatKind.SUPRAVENTRICULAR not in beat_kinds(res)


def test_dominant_beats_of_a_paced_rhythm_are_called_paced() -> None:
    res = replace(measured(), findings=(judged("paced"),))
    assert set(beat_kinds(res)) == {BeatKind.PACED}


# --- what carried a statement


def test_the_leads_of_a_statement_bear_its_number_and_no_other_lead_does() -> None:
    res = replace(
        measured(),
        statements=(
            statement("sinus_rhythm"),
            statement("t_inversion", "T in V5 -0.2 mV", leads=(Lead.V5, Lead.V6)),
            statement("lvh", leads=(Lead.aVL, Lead.V5)),
        ),
    )
    page = compose_evidence(res, "1")
    names = {text.text: text for text in page.texts if text.text in Lead.__members__}
    white = [text for text in page.texts if text.colour == "#ffffff" and text.y > 36]
    marked: dict[str, set[str]] = {}
    for number in white:
        beside = [t for t in names.values() if abs(t.y - number.y) < 2 and t.x < number.x]
        marked.setdefault(max(beside, key=lambda t: t.x).text, set()).add(number.text)
    assert marked == {"V5": {"2", "3"}, "V6": {"2"}, "aVL": {"3"}}


def test_findings_say_present_absent_or_why_not_with_their_origin() -> None:
    model = ModelIdentity(name="twelve", version="1.2.3", digest="0" * 64)
    said = {"origin": Origin.MODEL, "model": "twelve", "threshold": 0.5}
    res = replace(
        measured(),
        models=(model,),
        statements=(statement("lbbb"),),
        findings=(
            judged("lbbb", probability=0.91, **said),
            judged("rbbb", probability=0.02, present=False, **(said | {"threshold": 0.25})),
            judged("av_block_1", evidence=("PR interval 224 ms",)),
            judged("long_qt", present=None, reason="the patient's sex is not known"),
        ),
    )
    text = words(res, page=2)
    assert re.search(r"twelve 1\.2\.3\n", text)
    assert re.search(r"\+ +Left bundle branch block: +0\.91 / 0\.50", text)
    assert re.search(r"– +Right bundle branch block: +0\.02 / 0\.25", text)
    assert re.search(r"\+ +First-degree AV block: +PR interval 224 ms", text)
    assert re.search(r"\? +Prolonged QT interval: +the patient's sex is not known", text)


def test_a_model_that_finds_normal_does_not_make_the_page_say_so() -> None:
    found = judged("normal", probability=0.97, threshold=0.5, origin=Origin.MODEL, model="twelve")
    res = replace(measured(), findings=(found,), overall=Overall.NO_LISTED_FINDING, statements=())
    text = words(res, page=2)
    assert "0.97" not in text
    assert not re.search(r"\+ +Normal", text)


def test_a_poor_ecg_has_its_reason_its_curves_and_no_finding() -> None:
    bad = Quality(verdict=Verdict.NON_DIAGNOSTIC, reasons=(QualityReason.NOISE,))
    res = replace(
        measured(),
        quality=bad,
        findings=(judged("lbbb", probability=0.9),),
        overall=Overall.NON_DIAGNOSTIC,
    )
    text = words(res, page=2)
    assert "Non-diagnostic ECG: noise" in text
    assert "bundle" not in text
    assert "AV block" not in text
    assert len(panels(res).parts) == 12


def test_without_a_qrs_complex_the_strip_is_drawn_and_the_reason_said() -> None:
    meas = measurements(qrs_duration=quantity(None, reason="no QRS complex was found"))
    text = words(result(measurements=meas), page=2)
    assert "No median beat: no QRS complex was found" in text
    assert "Rhythm II" in text


def test_a_lead_that_was_not_used_says_why() -> None:
    res = measured()
    signal = res.measurements.median_beat.signal.copy()
    signal[6] = np.nan
    beat = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=RATE)
    poor = Quality(verdict=Verdict.LIMITED, leads={Lead.V1: (QualityReason.FLAT,)})
    res = replace(res, measurements=replace(res.measurements, median_beat=beat), quality=poor)
    assert "not used: flat" in words(res, page=2)
    assert len(panels(res).parts) == 11


def test_patient_time_and_caution_stand_on_the_page_too() -> None:
    res = measured()
    recording = replace(
        res.recording,
        patient=Patient(name="Doe^Jane", identifier="A 1", age=54.0, sex=Sex.FEMALE),
        acquisition=Acquisition(),
    )
    text = words(replace(res, recording=recording), page=2)
    for said in ("Doe, Jane", "ID A 1", "female · 54 years", "Time of recording not stated"):
        assert said in text
    assert "AI analysis – not verified by a clinician – research use only – not an alarm" in text


# --- nothing overlaps, nothing leaves the paper


def boxes(page: Page) -> list[tuple[float, float, float, float, str]]:
    """Return the box of each text: left, top, right, bottom in mm."""
    found = []
    for text in page.texts:
        wide = width(text.text, text.size, bold=text.bold)
        left = text.x if text.anchor == "start" else text.x - wide
        high = text.size * 25.4 / 72
        found.append((left, text.y - 0.72 * high, left + wide, text.y, text.text))
    return found


def overlapping(page: Page) -> list[tuple[str, str]]:
    return [
        (one[4], two[4])
        for one, two in combinations(boxes(page), 2)
        if min(one[2], two[2]) - max(one[0], two[0]) > 0.1
        and min(one[3], two[3]) - max(one[1], two[1]) > 0.1
    ]


def recorded(kind: Kind, leads: Sequence[Lead] = STANDARD_12, **changed: Any) -> Recording:
    ecg = simulate(kind, **changed).ecg.select(leads)
    return Recording(ecg=ecg, format="generated", patient=MEN)


@pytest.mark.parametrize("kind", list(Kind))
def test_no_words_stand_on_others(kind: Kind) -> None:
    assert overlapping(compose_evidence(analyse(recorded(kind)), "1")) == []


@pytest.mark.parametrize("rate", [34.0, 60.0, 150.0, 190.0])
@pytest.mark.parametrize("leads", [(Lead.II,), LIMB[:3], LIMB, STANDARD_12])
def test_no_words_stand_on_others_at_any_rate(leads: Sequence[Lead], rate: float) -> None:
    res = analyse(recorded(Kind.SINUS, leads, heart_rate=rate), [])
    assert overlapping(compose_evidence(res, "1")) == []


@settings(max_examples=30, deadline=None)
@given(
    leads=st.lists(st.sampled_from(list(Lead)), unique=True, max_size=len(Lead)),
    height=st.sampled_from([0.0, 0.01, 1.0, 9.0, 60.0, np.nan]),
    seconds=st.sampled_from([0.0, 0.9, 10.0, 31.0]),
)
def test_curves_of_any_leads_stay_inside_the_paper(
    leads: Sequence[Lead], height: float, seconds: float
) -> None:
    res = measured(leads, height=height)
    ecg = spikes(leads, seconds=seconds, height=height)
    page = compose_evidence(replace(res, recording=replace(res.recording, ecg=ecg)), "1")
    bottom = 100 * (page.grid.y + page.grid.height)
    for trace in page.traces:
        assert trace.starts[0]
        assert (trace.points >= (1850, 3600)).all()
        assert (trace.points <= (27850, bottom)).all()
    for line in page.lines:
        assert 18.4 <= line.x0 <= 278.6
        assert 18.4 <= line.x1 <= 278.6
    assert set(leads) <= {text.text for text in page.texts}


def test_a_gap_lifts_the_pen_of_the_strip() -> None:
    res = measured()
    signal = res.recording.ecg.signal.copy()
    signal[1, 500:750] = np.nan
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=RATE)
    before, after = black(replace(res, recording=replace(res.recording, ecg=ecg)))[-1].parts
    assert after[0, 0] - before[-1, 0] == pytest.approx(251 / 500 * 25, abs=0.02)


# --- files


def test_png_and_svg_show_the_page_that_is_asked_for() -> None:
    res = measured()
    assert b"page 2 of 2" in render(res, "svg", page=2)
    assert b"page 2 of 2" not in render(res, "svg")
    one, two = (render(res, "png", dpi=60, page=page) for page in (1, 2))
    assert Image.open(BytesIO(one)).size == Image.open(BytesIO(two)).size
    assert one != two


def test_a_page_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no page 3"):
        render(measured(), "svg", page=3)


def test_a_result_that_was_stored_and_read_again_gives_the_same_bytes() -> None:
    res = analyse(recorded(Kind.LBBB))
    again = Result.from_json(res.to_json(), res.recording)
    assert render(again, "pdf") == render(res, "pdf")


def test_measurements_are_complete_without_their_names_being_known() -> None:
    listed = [name for name, _ in Measurements.quantities(measured().measurements)]
    text = re.sub(r"\s+", " ", words(measured(), page=2))
    assert len(listed) > 20
    assert "Heart rate" in text
    assert "not measured" in text
