"""What AI writes on the copy of the waveform, read back as a viewer reads it."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from report_samples import cart_file, objects, result_for, statement
from support import need_program, shared

from analysis.analyse import analyse
from analysis.ecg import Lead
from analysis.formats import dicom
from analysis.result import Quality, QualityReason, Result, Verdict
from dicom_node.report import Role, check
from dicom_node.report.annotated import MARKED_BEATS

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@cache
def analysed() -> Result:
    """Return the result of the real cart file, which has 10 beats, 12 leads, a median beat."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, cart_file())
    return analyse(dicom.read(buffer.getvalue()), [])


def copy_of(source: Dataset, result: Result) -> Dataset:
    return pydicom.dcmread(BytesIO(objects(source, result)[Role.ECG].data))


def ours(copy: Dataset, source: Dataset) -> list[Dataset]:
    """Return the annotations behind those that the source brought."""
    return list(copy.WaveformAnnotationSequence)[
        len(source.get("WaveformAnnotationSequence", [])) :
    ]


def name(item: Dataset) -> str:
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def points(items: list[Dataset]) -> list[Dataset]:
    return [item for item in items if item.get("TemporalRangeType") == "POINT"]


def rows(copy: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the rows of a viewer's table: texts, numbers with units, points."""
    for item in copy.WaveformAnnotationSequence:
        if "UnformattedTextValue" in item:
            yield "text", item.UnformattedTextValue
        elif "MeasurementUnitsCodeSequence" in item:
            yield (
                name(item),
                f"{item.NumericValue} {item.MeasurementUnitsCodeSequence[0].CodeValue}",
            )
        elif item.get("TemporalRangeType") == "POINT":
            yield name(item), f"{item.ReferencedSamplePositions} POINT"


def said(copy: Dataset) -> list[str]:
    return [value for kind, value in rows(copy) if kind == "text" and value.startswith("AI: ")]


# --- beats


def test_each_beat_is_a_group_of_its_own_with_onsets_peaks_and_offsets() -> None:
    source, result = cart_file(), analysed()
    items = ours(copy_of(source, result), source)
    beats = Counter(item.AnnotationGroupNumber for item in points(items))
    assert len(beats) == result.measurements.r_peaks.size
    for number in beats:
        own = [name(item) for item in points(items) if item.AnnotationGroupNumber == number]
        assert own[0] == "R wave"
        assert own[1] in {"Dominant beat", "Unclassifiable beat"}
        due = ["P Onset", "P wave", "P Offset", "QRS Onset", "QRS Offset", "T wave", "T Offset"]
        assert [mark for mark in due if mark in own] == own[2:]
    marked = Counter(name(item) for item in points(items))
    assert marked["QRS Onset"] == len(beats)
    assert marked["Dominant beat"] > len(beats) / 2


def test_points_are_the_marks_of_the_rhythm_lead_one_based_and_in_order() -> None:
    source, result = cart_file(), analysed()
    marks = result.measurements.fiducials["II"]
    items = points(ours(copy_of(source, result), source))
    for kind, mark in (("P Onset", "p_onset"), ("QRS Offset", "qrs_offset"), ("T wave", "t_peak")):
        found = [item for item in items if name(item) == kind]
        finite = marks[mark][np.isfinite(marks[mark])]
        assert [item.ReferencedSamplePositions for item in found] == [
            round(float(position)) + 1 for position in finite
        ]
        assert {tuple(item.ReferencedWaveformChannels) for item in found} == {(1, 2)}


def test_waves_of_all_leads_together_are_segments_from_onset_to_offset() -> None:
    source, result = cart_file(), analysed()
    items = ours(copy_of(source, result), source)
    segments = [item for item in items if item.get("TemporalRangeType") == "SEGMENT"]
    assert {name(item) for item in segments} == {
        "P wave", "Entire QRS (excluding P, T and U)", "T wave",
    }  # fmt: skip
    for item in segments:
        first, last = item.ReferencedSamplePositions
        assert 1 <= first < last <= 10000
        assert list(item.ReferencedWaveformChannels) == [1, 0]


def test_the_marks_agree_with_those_of_the_cart() -> None:
    source, result = cart_file(), analysed()
    every = list(copy_of(source, result).WaveformAnnotationSequence)
    theirs = [i for i in every[:77] if i.AnnotationGroupNumber >= 100 and name(i) == "QRS Onset"]
    mine = [i for i in every[77:] if name(i) == "QRS Onset"]
    apart = np.array([i.ReferencedSamplePositions for i in mine]) - [
        i.ReferencedSamplePositions for i in theirs
    ]
    assert np.abs(np.median(apart)) <= 10


def test_a_mark_outside_the_recording_is_left_out() -> None:
    source, result = cart_file(), analysed()
    marks = {lead: dict(kinds) for lead, kinds in result.measurements.fiducials.items()}
    marks["II"]["t_offset"] = marks["II"]["t_offset"] + 9000
    far = replace(result.measurements, fiducials=marks)
    copy = copy_of(source, replace(result, measurements=far))
    assert check(copy) == ()
    assert sum(name(item) == "T Offset" for item in points(ours(copy, source))) < 3


def test_group_numbers_never_meet_those_of_the_source() -> None:
    source, result = cart_file(), analysed()
    for number, item in enumerate(source.WaveformAnnotationSequence):
        item.AnnotationGroupNumber = (65535, 65530, 3)[number % 3]
    copy = copy_of(source, result)
    theirs = {item.AnnotationGroupNumber for item in source.WaveformAnnotationSequence}
    mine = {item.AnnotationGroupNumber for item in ours(copy, source)}
    assert not theirs & mine
    assert len(mine) == 1 + result.measurements.r_peaks.size


def test_a_long_recording_is_marked_as_far_as_a_table_can_be_read() -> None:
    source = cart_file()
    result = result_for(source)
    many = replace(
        result.measurements, r_peaks=np.linspace(10, 9000, MARKED_BEATS + 20), fiducials={}
    )
    copy = copy_of(source, replace(result, measurements=many))
    assert sum(name(item) == "R wave" for item in ours(copy, source)) == MARKED_BEATS
    assert f"AI: Only the first {MARKED_BEATS} beats are marked." in said(copy)


# --- statements


def test_a_statement_is_a_text_with_its_numbers_on_the_leads_that_carried_it() -> None:
    source = cart_file()
    told = replace(statement("lvh"), evidence=("Sokolow-Lyon 4.10 mV",), leads=(Lead.V1, Lead.V5))
    result = replace(analysed(), statements=(told, replace(statement("pvc"), leads=(Lead.V9,))))
    items = ours(copy_of(source, result), source)
    spoken = [item for item in items if "UnformattedTextValue" in item]
    assert spoken[0].UnformattedTextValue == (
        "AI: Left ventricular hypertrophy: Sokolow-Lyon 4.10 mV"
    )
    assert list(spoken[0].ReferencedWaveformChannels) == [1, 7, 1, 11]
    assert list(spoken[1].ReferencedWaveformChannels) == [1, 0]
    coded = [item for item in items if "ConceptCodeSequence" in item]
    assert [list(item.ReferencedWaveformChannels) for item in coded] == [[1, 7, 1, 11], [1, 0]]


def test_every_text_says_that_ai_speaks_and_the_models_are_named() -> None:
    source = cart_file()
    copy = copy_of(source, analysed())
    texts = [
        item.UnformattedTextValue for item in ours(copy, source) if "UnformattedTextValue" in item
    ]
    assert all(text.startswith("AI: ") and text.isascii() for text in texts)
    assert any("not verified by a clinician" in text for text in texts)


def test_numbers_have_ucum_units() -> None:
    source = cart_file()
    found = dict(rows(copy_of(source, analysed())))
    assert re.fullmatch(r"6\d\.\d \{H\.B\.\}/min", found["Ventricular Heart Rate"])
    assert re.fullmatch(r"\d+\.\d ms", found["QT interval global"])
    assert re.fullmatch(r"-?\d+\.\d deg", found["QRS axis"])


def test_a_viewer_that_shows_a_table_shows_texts_first_and_all_of_it() -> None:
    copy = copy_of(cart_file(), analysed())
    kinds = ["text" if kind == "text" else "row" for kind, _ in rows(copy)][77:]
    assert kinds == sorted(kinds, reverse=True)
    assert len(kinds) < 130


# --- quality


def test_a_poor_lead_bears_its_noise_in_words_and_code() -> None:
    source = cart_file()
    poor = Quality(
        verdict=Verdict.LIMITED,
        leads={
            Lead.V1: (QualityReason.NOISE,),
            Lead.aVL: (QualityReason.FLAT, QualityReason.MAINS),
            Lead.II: (),
            Lead.V9: (QualityReason.MISSING,),
        },
    )
    copy = copy_of(source, replace(analysed(), quality=poor))
    assert {"AI: Lead V1: noise.", "AI: Lead aVL: flat, mains."} <= set(said(copy))
    coded = {
        name(item): tuple(item.ReferencedWaveformChannels)
        for item in ours(copy, source)
        if name(item) in {"Moderate noise", "Severe noise", "No signal"}
    }
    assert coded == {"Moderate noise": (1, 7), "No signal": (1, 5)}
    assert not any("V9" in text for text in said(copy))


def test_noise_in_which_no_beat_was_found_is_severe() -> None:
    source = cart_file()
    poor = Quality(
        verdict=Verdict.NON_DIAGNOSTIC,
        reasons=(QualityReason.NO_QRS,),
        leads={Lead.V1: (QualityReason.NOISE,)},
    )
    copy = copy_of(source, replace(analysed(), quality=poor))
    assert "Severe noise" in {name(item) for item in ours(copy, source)}


# --- what came stays as it came


def test_leads_in_another_order_are_referenced_where_they_stand() -> None:
    source, result = cart_file(), analysed()
    for group in source.WaveformSequence:
        group.ChannelDefinitionSequence = list(reversed(group.ChannelDefinitionSequence))
    items = points(ours(copy_of(source, result), source))
    assert {tuple(i.ReferencedWaveformChannels) for i in items if name(i) == "P Onset"} == {(1, 11)}


@pytest.mark.parametrize("sample", ["pydicom", *range(4)])
def test_original_annotations_and_samples_stay_bit_for_bit(
    sample: str | int, tmp_path: Path
) -> None:
    path = _sample(sample, tmp_path)
    source, result = pydicom.dcmread(path), analyse(dicom.read(path.read_bytes()), [])
    copy = copy_of(source, result)
    before = source.get("WaveformAnnotationSequence", [])
    assert list(copy.WaveformAnnotationSequence[: len(before)]) == list(before)
    for mine, theirs in zip(copy.WaveformSequence, source.WaveformSequence, strict=True):
        assert mine.WaveformData == theirs.WaveformData
    assert check(copy) == ()


@pytest.mark.parametrize("sample", ["pydicom", *range(4)])
def test_dciodvfy_finds_no_error_in_the_copy(sample: str | int, tmp_path: Path) -> None:
    program = need_program("dciodvfy")
    path = _sample(sample, tmp_path)
    source, result = pydicom.dcmread(path), analyse(dicom.read(path.read_bytes()), [])
    made = tmp_path / "copy.dcm"
    made.write_bytes(objects(source, result)[Role.ECG].data)
    told = subprocess.run([program, "-new", made], capture_output=True, text=True, check=False)
    faults = [line for line in told.stderr.splitlines() if line.startswith("Error")]
    assert [line for line in faults if "MultiplexGroupTimeOffset" not in line] == []


def _sample(which: str | int, folder: Path) -> Path:
    if isinstance(which, int):
        return shared("ecg", "dicom_derived", _DERIVED[which])
    path = folder / "cart.dcm"
    pydicom.dcmwrite(path, cart_file())
    return path


_DERIVED = (
    "d29_15_leads.dcm",
    "d13_3x4_four_groups_2s5.dcm",
    "d08_general_mdc_8leads.dcm",
    "d25_1000hz.dcm",
)
