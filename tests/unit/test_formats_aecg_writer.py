"""The annotated ECG that is written is the one that is read again."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from defusedxml.ElementTree import fromstring
from dicom_objects import TWELVE, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import shared

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
from analysis.formats import read
from analysis.formats.aecg_writer import encode

START = datetime(2024, 1, 2, 3, 4, 5, 250_000, tzinfo=timezone(timedelta(hours=1)))


def ecg(**changes: object) -> ECG:
    stated = {
        "signal": synthetic(),
        "leads": tuple(Lead(name) for name in TWELVE),
        "sampling_frequency": 500.0,
        "start": START,
    }
    return ECG(**(stated | changes))  # type: ignore[arg-type]


def whole() -> Recording:
    """Return a recording with something in every field that the format has a place for."""
    return Recording(
        ecg=ecg(),
        median_beat=ecg(signal=synthetic()[:, :400], start=None),
        format="made",
        patient=Patient(
            age=64.25,
            sex=Sex.OTHER,
            identifier="P&<17>",
            name="Döe^Ann",
            birth_date=date(1960, 1, 2),
        ),
        acquisition=Acquisition(
            acquired_at=START,
            manufacturer="Maker",
            model="E 1",
            software="5.3",
            filter_low_frequency=0.05,
            filter_high_frequency=150.0,
            notch_filter_frequency=50.0,
        ),
        vendor_statements=(
            VendorStatement(text="Sinus rhythm < 60"),
            VendorStatement(text="Flutter", code=Code("SCT", "164890007", "Atrial flutter")),
        ),
        annotations=(
            Annotation(code=Code("MDC", "2:16016", "HR"), value=52.0, unit="{H.B.}/min"),
            Annotation(code=Code("MDC", "2:7168", "PR"), value=148.5, unit="ms", leads=(Lead.II,)),
            Annotation(text="a remark", samples=(10.0,)),
            Annotation(text="N", code=Code("MDC", "10:1600", "QRS"), samples=(100.0,), group=1),
            Annotation(code=Code("MDC", "MDC_ECG_BEAT_NORMAL", "normal"), group=2),
            Annotation(code=Code("MDC", "10:256", "P wave"), samples=(61.0, 112.5), group=2),
            Annotation(
                text="T wave offset",
                code=Code("MDC", "10:1024", "T wave"),
                samples=(345.0,),
                group=2,
            ),
            Annotation(
                code=Code("MDC", "10:576", "R"), samples=(160.0,), leads=(Lead.V2, Lead.V3), group=2
            ),
            Annotation(code=Code("99X", "odd", "Odd thing"), value=-1e-7, unit="1", text="why"),
        ),
    )


def written(recording: Recording) -> bytes:
    files = encode(recording, "case")
    assert list(files) == ["case.xml"]
    return files["case.xml"]


def test_a_whole_recording_comes_back() -> None:
    recording = whole()
    again = read(written(recording))
    assert np.array_equal(again.ecg.signal, recording.ecg.signal)
    assert again.ecg.leads == recording.ecg.leads
    assert (again.ecg.start, again.ecg.sampling_frequency) == (START, 500.0)
    assert again.median_beat is not None
    assert recording.median_beat is not None
    assert np.array_equal(again.median_beat.signal, recording.median_beat.signal)
    assert again.patient == recording.patient
    assert again.acquisition == recording.acquisition
    assert again.vendor_statements == recording.vendor_statements
    assert again.annotations == recording.annotations
    assert again.notes == ()


def test_the_same_recording_gives_the_same_bytes_and_another_gives_other_identifiers() -> None:
    first, second = written(whole()), written(whole())
    other = written(replace(whole(), patient=Patient(identifier="another")))
    assert first == second
    assert set(re.findall(rb'root="([0-9a-f-]{36})"', first)).isdisjoint(
        re.findall(rb'root="([0-9a-f-]{36})"', other)
    )


@given(
    arrays(np.float32, (2, 40), elements=st.floats(-300, 300, width=32)),
    st.sampled_from((180.0, 250.0, 300.0, 360.0, 500.0, 1000.0, 977.5, 1000 / 3.3)),
)
@settings(max_examples=40, deadline=None)
def test_any_signal_comes_back_within_ten_nanovolts_at_its_exact_rate(
    signal: np.ndarray, rate: float
) -> None:
    source = ecg(signal=signal, leads=(Lead.V1, Lead.MLII), sampling_frequency=rate)
    again = read(written(Recording(ecg=source, format="made"))).ecg
    assert again.sampling_frequency == rate
    assert again.leads == (Lead.V1, Lead.MLII)
    assert np.abs(again.signal - signal).max() <= 1e-5 + 300 * 2**-24


@pytest.mark.parametrize("step", [0.005, 0.0025, 0.001, 0.00125, 0.0001])
def test_samples_in_steps_of_a_cart_come_back_bit_equal(step: float) -> None:
    signal = (np.random.default_rng(1).integers(-3000, 3000, (12, 500)) * step).astype(np.float32)
    again = read(written(Recording(ecg=ecg(signal=signal), format="made")))
    assert np.array_equal(again.ecg.signal, signal)


@pytest.mark.parametrize("lead", list(Lead))
def test_every_lead_has_a_code(lead: Lead) -> None:
    source = ecg(signal=synthetic()[:1], leads=(lead,))
    assert read(written(Recording(ecg=source, format="made"))).ecg.leads == (lead,)


@pytest.mark.parametrize("start", [START, datetime(2024, 2, 29), None])  # noqa: DTZ001 - no zone
def test_a_gap_comes_back_as_nan_with_and_without_a_clock(start: datetime | None) -> None:
    signal = synthetic()
    signal[3:6, :1000] = np.nan
    signal[7, 200:300] = np.nan
    source = Recording(
        ecg=ecg(signal=signal, start=start),
        format="made",
        annotations=(Annotation(code=Code("MDC", "10:576", "R"), samples=(123.0,)),),
    )
    again = read(written(source))
    found = again.ecg.select(source.ecg.leads).signal
    assert np.array_equal(found, source.ecg.signal, equal_nan=True)
    assert again.ecg.start == start
    assert again.annotations == source.annotations


def test_a_mark_keeps_its_sample_where_the_first_samples_are_blank() -> None:
    signal = synthetic()
    signal[:, :100] = np.nan
    mark = Annotation(code=Code("MDC", "10:576", "R"), samples=(150.0,))
    again = read(written(Recording(ecg=ecg(signal=signal), format="made", annotations=(mark,))))
    assert again.ecg.samples == 1900
    assert again.annotations[0].samples == (50.0,)
    assert again.ecg.start == START + timedelta(seconds=0.2)


def test_an_age_that_was_not_believed_is_not_counted_again() -> None:
    patient = Patient(birth_date=date(1960, 1, 2), age=None)
    again = read(written(replace(whole(), patient=patient)))
    assert again.patient == patient


def test_computed_leads_are_named_in_the_file() -> None:
    data = written(replace(whole(), derived_leads=(Lead.III, Lead.aVR)))
    assert b"<text>III, aVR computed from the recorded limb leads.</text>" in data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ecg": ecg(signal=np.full((12, 9), np.nan))}, "no samples"),
        ({"ecg": ecg(signal=np.full((12, 9), np.inf))}, "not finite"),
        ({"ecg": ecg(signal=np.full((12, 9), 3e6))}, "digits"),
        ({"ecg": ecg(signal=np.tile([0.0, np.nan], (12, 900)))}, "gaps"),
        ({"median_beat": ecg(signal=np.full((12, 9), np.nan))}, "median beat"),
        ({"patient": Patient(name="A\x01B")}, "control characters"),
        ({"annotations": (Annotation(value=1.0),)}, "text or a code"),
        ({"ecg": ecg(start=datetime.max.replace(tzinfo=UTC))}, "last year"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_in_a_sentence(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        encode(replace(whole(), **change), "case")  # type: ignore[arg-type]


_WITHIN = "/component/annotation"


def paths(element: Element, above: str = "") -> Iterator[str]:
    """Yield the paths of all elements, with the type of values; annotations nest at will."""
    here = f"{above}/{element.tag.rpartition('}')[2]}".replace(_WITHIN * 2, _WITHIN)
    kind = next((v for k, v in element.attrib.items() if k.endswith("}type")), "")
    yield f"{here}:{kind}" if kind else here
    for child in element:
        yield from paths(child, here)


def test_every_element_stands_where_the_official_example_has_it() -> None:
    official = shared("ecg", "hl7_aecg", "hl7_official_Example_aECG.xml")
    known = set(paths(fromstring(official.read_bytes())))
    known |= {path.replace("series/", "series/derivation/derivedSeries/") for path in known}
    here = set(paths(fromstring(written(read(official)))))
    assert here - known == {
        "/AnnotatedECG/effectiveTime/low",  # the schema has center, or low and high
        "/AnnotatedECG/effectiveTime/high",
    }


def test_the_official_example_comes_back_bit_equal_with_all_its_annotations() -> None:
    official = read(shared("ecg", "hl7_aecg", "hl7_official_Example_aECG.xml"))
    again = read(written(official))
    assert np.array_equal(again.ecg.signal, official.ecg.signal)
    assert again.annotations == official.annotations
    assert again.vendor_statements == official.vendor_statements
    assert again.patient == official.patient
    assert again.acquisition == official.acquisition


def test_the_zone_and_the_century_of_a_clock_are_kept() -> None:
    start = datetime(800, 1, 2, tzinfo=UTC)
    again = read(written(Recording(ecg=ecg(start=start), format="made")))
    assert again.ecg.start == start
