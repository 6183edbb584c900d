"""The three result objects: conformant, faithful to their source, and always the same bytes."""

import hashlib
import html
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)
from report_samples import (
    DEVICE,
    PAGE,
    PREVIOUS,
    RECEIVED_AT,
    cart_file,
    finding,
    objects,
    result_for,
    save,
    statement,
    varied,
)
from support import shared
from validators import complaints, entities, errors, run

from analysis.codes import LEAD_CODES
from analysis.ecg import STANDARD_12, Lead
from analysis.result import Origin, Overall, Result
from dicom_node.report import Qualification, ReportOptions, Role, Unreportable, check, is_own
from dicom_node.report.annotated import DESCRIPTION, MARKED_BEATS
from dicom_node.report.comparison import change
from dicom_node.report.concepts import MEASUREMENTS
from dicom_node.report.shell import PATIENT_GROUPS, STUDY_KEYWORDS

SHARED_ECGS = (
    "dicom/ecg2dcm_synthetic_muse.dcm",
    "dicom/ecgprocess_example-DICOM1.dcm",
    "dicom/pixelmed_39da47b7_test_ecg.dcm",
    "dicom_derived/d01_12lead_ref_explicit.dcm",
    "dicom_derived/d02_mV_units.dcm",
    "dicom_derived/d04_correction_factor.dcm",
    "dicom_derived/d08_general_mdc_8leads.dcm",
    "dicom_derived/d10_label_only_no_source.dcm",
    "dicom_derived/d12_code_meaning_variants.dcm",
    "dicom_derived/d13_3x4_four_groups_2s5.dcm",
    "dicom_derived/d18_int32_general32.dcm",
    "dicom_derived/d19_sb8.dcm",
    "dicom_derived/d22_bits_stored_12.dcm",
    "dicom_derived/d23_fs_decimal.dcm",
    "dicom_derived/d26_charset_cyrillic.dcm",
    "dicom_derived/d27_charset_gb18030.dcm",
    "dicom_derived/d29_15_leads.dcm",
    "dicom_derived/d32_implicit_vr.dcm",
    "dicom_derived/d40_ambulatory_xyz_200hz.dcm",
    "dicom_derived/d41_hemodynamic_II_art.dcm",
    "dicom_derived/d51_deflated.dcm",
)
POOR = Overall.NON_DIAGNOSTIC
OUTCOMES = (Overall.ABNORMAL, Overall.NO_LISTED_FINDING, Overall.NORMAL, Overall.NON_DIAGNOSTIC)


def parse(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def parsed(source: Dataset, result: Result | None = None, **changes: object) -> dict[Role, Dataset]:
    return {role: parse(o.data) for role, o in objects(source, result, **changes).items()}


def walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from walk(child)


def content(report: Dataset) -> str:
    """Return every text, number and code of the report, one per line."""
    lines = []
    for item in walk(report):
        measured = item.get("MeasuredValueSequence") or [Dataset()]
        coded = [*(item.get("ConceptCodeSequence") or ()), *item.ConceptNameCodeSequence]
        lines += [item.get("TextValue"), measured[0].get("NumericValue")]
        lines += [f"{code.CodeValue} {code.CodeMeaning}" for code in coded]
    return "\n".join(str(line) for line in lines if line is not None)


def named(report: Dataset, concept: str) -> list[Dataset]:
    """Return the items of this concept name, in their order."""
    return [i for i in walk(report) if i.ConceptNameCodeSequence[0].CodeValue == concept]


def codes(report: Dataset, concept: str) -> list[str]:
    items = named(report, concept)
    return [item.ConceptCodeSequence[0].CodeValue for item in items if item.ValueType == "CODE"]


def below(item: Dataset) -> list[tuple[str, str, str]]:
    """Return relationship, concept and value of each item under one."""
    return [
        (i.RelationshipType, i.ConceptNameCodeSequence[0].CodeMeaning, content_of(i))
        for i in item.get("ContentSequence") or ()
    ]


def content_of(item: Dataset) -> str:
    if item.ValueType == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    if item.ValueType == "NUM":
        return str(item.MeasuredValueSequence[0].NumericValue)
    return str(item.get("TextValue"))


def texts(ecg: Dataset) -> list[str]:
    items = ecg.WaveformAnnotationSequence
    return [item.UnformattedTextValue for item in items if "UnformattedTextValue" in item]


def samples(dataset: Dataset, group: int = 0, order: str = "<") -> np.ndarray:
    item = dataset.WaveformSequence[group]
    kind = {"SB": "i1", "SS": "i2", "SL": "i4"}[item.WaveformSampleInterpretation]
    count = int(item.NumberOfWaveformSamples) * int(item.NumberOfWaveformChannels)
    return np.frombuffer(item.WaveformData, dtype=order + kind, count=count)


# Conformance


@pytest.mark.parametrize("overall", OUTCOMES)
def test_every_outcome_passes_our_checker_and_the_validators(
    overall: Overall, tmp_path: Path
) -> None:
    source = cart_file()
    made = objects(source, result_for(source, overall))
    assert set(made) == {Role.SR, Role.PDF, Role.ECG}
    for role, path in save(made, tmp_path).items():
        assert check(parse(made[role].data)) == made[role].faults == ()
        assert errors(path) == []
        assert run("dcmftest", path).returncode == 0
    report = run("dsrdump", tmp_path / "sr.dcm")
    assert (report.returncode, report.stderr) == (0, "")


def test_source_and_results_agree_about_patient_and_study(tmp_path: Path) -> None:
    made = save(objects(cart_file()), tmp_path)
    source = pydicom.data.get_testdata_file("waveform_ecg.dcm")
    assert complaints("dcentvfy", entities([source, *made.values()])) == []


@pytest.mark.parametrize("name", SHARED_ECGS)
def test_real_and_odd_sources_give_conformant_results(name: str, tmp_path: Path) -> None:
    path = shared("ecg", *name.split("/"))
    source = pydicom.dcmread(path)
    made = objects(source)
    for role, file in save(made, tmp_path).items():
        result = parse(made[role].data)
        assert check(result) == made[role].faults == ()
        assert result.PatientName == source.PatientName
        assert errors(file) == []
    if "d18" not in name:  # DCMTK 3.6.7 knows no reference to General 32-bit ECG
        assert run("dsrdump", tmp_path / "sr.dcm").returncode == 0
    if "d51" not in name:  # dcentvfy reads no deflated file
        files = [path, *tmp_path.glob("*.dcm")]
        assert complaints("dcentvfy", entities(files)) == []


@given(
    text=st.text(min_size=1, max_size=2000),
    name=st.text(max_size=80),
    overall=st.sampled_from(OUTCOMES),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_text_of_a_result_can_spoil_an_object(text: str, name: str, overall: Overall) -> None:
    source = cart_file()
    key = "normal" if overall is Overall.NORMAL else "lvh"
    odd = finding(key, model=name or None, threshold=None)
    said = replace(statement(key), text=text, evidence=(text,))
    result = result_for(source, overall, findings=(odd,), statements=(said,), not_assessed=(text,))
    for made in objects(source, result).values():
        assert check(parse(made.data)) == made.faults == ()


def _garbled(source: Dataset, where: int, tag_at: int, junk: bytes) -> None:
    """Overwrite one value, somewhere in the object, as a broken cart might."""
    places = [
        source,
        *source.WaveformSequence,
        *source.WaveformSequence[0].ChannelDefinitionSequence,
        *source.WaveformAnnotationSequence,
    ]
    item = places[where % len(places)]
    elements = [e for e in list(item.values()) if e.VR != "SQ"]
    element = elements[tag_at % len(elements)]
    raw = RawDataElement(element.tag, element.VR, len(junk), junk, 0, False, True)  # noqa: FBT003 - pydicom's signature
    item[element.tag] = raw


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of each such value
@given(
    where=st.integers(0, 99),
    tag_at=st.integers(0, 49),
    junk=st.sampled_from((b"", b"-1", b"1\\2 ", b"9" * 20)) | st.binary(max_size=9),
)
@settings(max_examples=30, deadline=None)
def test_a_garbled_value_gives_good_objects_or_one_sentence(
    where: int, tag_at: int, junk: bytes
) -> None:
    source = cart_file()
    result = result_for(source)
    _garbled(source, where, tag_at, junk)
    try:
        made = objects(source, result)
    except Unreportable:
        return
    assert all(item.faults == () for item in made.values())


@pytest.mark.parametrize("name", varied())
def test_every_kind_of_result_gives_conformant_objects_that_read_well(
    name: str, tmp_path: Path
) -> None:
    source, result, previous = varied()[name]
    made = objects(source, result, previous=previous)
    paths = save(made, tmp_path)
    for role, path in paths.items():
        assert check(parse(made[role].data)) == made[role].faults == ()
        assert errors(path) == []
    dumped, page = run("dsrdump", paths[Role.SR]), run("dsr2html", paths[Role.SR])
    for done in (dumped, page):
        assert done.returncode == 0
        assert complaints("dsrdump", done.stderr) == []
    assert "AI result, not verified by a clinician." in page.stdout
    said = [] if result.overall is POOR else [item.text for item in result.statements]
    assert all(html.escape(line, quote=False) in page.stdout for line in said)
    source.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    assert complaints("dcentvfy", entities(sorted(tmp_path.glob("*.dcm")))) == []


# Determinism


def test_the_same_arguments_give_the_same_bytes_and_leave_the_source_alone() -> None:
    source, untouched = cart_file(), cart_file()
    first, second = objects(source), objects(source)
    assert first == second
    assert source == untouched


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    program = (
        "import hashlib; from report_samples import cart_file, objects;"
        "made = objects(cart_file());"
        "print(*(hashlib.sha256(o.data).hexdigest() for o in made.values()))"
    )
    here = [hashlib.sha256(o.data).hexdigest() for o in objects(cart_file()).values()]
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    there = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert there.stdout.split() == here


def test_the_file_has_a_zero_preamble_and_fixed_meta_information() -> None:
    for made in objects(cart_file()).values():
        file = parse(made.data)
        assert made.data[:132] == bytes(128) + b"DICM"
        assert file.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert file.file_meta.ImplementationVersionName == "SINUSNODE"
        assert file.SOPInstanceUID == made.sop_instance_uid
        assert file.SeriesInstanceUID == made.series_instance_uid


def test_what_is_written_is_what_pydicom_would_write() -> None:
    for made in objects(cart_file()).values():
        buffer = io.BytesIO()
        parse(made.data).save_as(buffer)
        assert parse(buffer.getvalue()) == parse(made.data)


@pytest.mark.parametrize("change", [{"plan_digest": "0"}, {"source_sha256": "0"}])
def test_another_plan_or_other_source_bytes_make_other_objects(change: dict[str, str]) -> None:
    source = cart_file()
    first, second = objects(source), objects(source, **change)
    for role in first:
        assert first[role].sop_instance_uid != second[role].sop_instance_uid
        assert first[role].series_instance_uid != second[role].series_instance_uid


# Identity


def test_each_object_has_a_series_of_its_own_in_the_source_study() -> None:
    source = cart_file()
    results = parsed(source)
    assert {r.StudyInstanceUID for r in results.values()} == {source.StudyInstanceUID}
    assert len({r.SeriesInstanceUID for r in results.values()}) == 3
    assert [r.SeriesNumber for r in results.values()] == [901, 902, 903]
    assert [r.Modality for r in results.values()] == ["SR", "DOC", "ECG"]


def test_every_patient_and_study_attribute_of_the_standard_is_copied() -> None:
    modules = json.loads(
        resources.files("highdicom").joinpath("_standard/module_attribute_map.json").read_text()
    )
    for module in ("patient", "general-study", "patient-study", "clinical-trial-subject"):
        for attribute in modules[module]:
            keyword = attribute["keyword"]
            if not attribute["path"] and keyword not in STUDY_KEYWORDS:
                tag = pydicom.tag.Tag(keyword)
                assert tag.group in PATIENT_GROUPS, keyword


def test_identity_is_copied_verbatim_with_issuers_and_other_identifiers() -> None:
    source = cart_file()
    source.IssuerOfPatientID = "HOSPITAL-A"
    source.TimezoneOffsetFromUTC = "+0100"
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    source.IssuerOfPatientIDQualifiersSequence = [issuer]
    for result in parsed(source).values():
        for element in source:
            if element.tag.group == 0x0010 or element.keyword in STUDY_KEYWORDS:
                assert result[element.tag] == element


def test_bytes_that_do_not_fit_their_character_set_are_kept_as_they_came() -> None:
    source = cart_file()
    source.SpecificCharacterSet = "ISO_IR 192"
    buffer = io.BytesIO()
    source.save_as(buffer)
    data = buffer.getvalue().replace(b"Anonymous ", b"M\xfcller^Ax ")
    for made in objects(parse(data)).values():
        assert b"M\xfcller^Ax" in made.data


def test_our_own_words_are_ascii_in_every_character_set() -> None:
    source = cart_file()
    device = type(DEVICE)(
        device_uid="2.25.42", software_version="0.1\\0", station_name="KÖLN", serial_number="7"
    )
    result = result_for(source, not_assessed=("ST ≥ 100 µV – nicht überprüft",))
    for made in objects(source, result, device=device).values():
        assert check(parse(made.data)) == ()
    report = parsed(source, result, device=device)[Role.SR]
    assert report.StationName == "KOLN"
    assert "ST >= 100 uV - nicht uberpruft" in content(report)


def test_type_2_attributes_that_the_source_lacks_are_empty_not_invented() -> None:
    source = cart_file()
    del source.PatientBirthDate, source.AccessionNumber, source.Manufacturer
    results = parsed(source)
    for result in results.values():
        assert result.PatientBirthDate == ""
        assert result.AccessionNumber == ""
    assert results[Role.ECG].Manufacturer == ""


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", [None, "", "1..2", "not a uid"])
def test_a_source_without_its_identifiers_is_unreportable(keyword: str, value: str | None) -> None:
    source = cart_file()
    result = result_for(source)
    del source[keyword]
    if value is not None:
        source[keyword] = pydicom.DataElement(
            keyword, "UI", value, validation_mode=pydicom.config.IGNORE
        )
    with pytest.raises(Unreportable, match=keyword):
        objects(source, result)


def test_a_source_without_any_date_is_unreportable() -> None:
    source = cart_file()
    for keyword in ("AcquisitionDateTime", "ContentDate", "StudyDate"):
        del source[keyword]
    with pytest.raises(Unreportable, match="when the ECG was recorded"):
        objects(source)


# Dates


def test_dates_of_ours_come_from_the_ledger_in_local_time() -> None:
    source = cart_file()
    options = ReportOptions(utc_offset=timedelta(hours=2))
    for role, result in parsed(source, options=options).items():
        assert result.SeriesDate + result.SeriesTime == "20260329025959.250000"
        assert "TimezoneOffsetFromUTC" not in result
        if role is not Role.ECG:
            assert result.ContentDate + result.ContentTime == "20260329025959.250000"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        objects(cart_file(), received_at=RECEIVED_AT.replace(tzinfo=None))


def test_the_time_zone_of_the_source_wins() -> None:
    source = cart_file()
    source.TimezoneOffsetFromUTC = "-0330"
    report = parsed(source)[Role.SR]
    assert report.ContentDate + report.ContentTime == "20260328212959.250000"
    assert report.TimezoneOffsetFromUTC == "-0330"


@pytest.mark.parametrize("zone", ["CET", "+1", "+9900", "0100"])
def test_an_unreadable_time_zone_is_unreportable(zone: str) -> None:
    source = cart_file()
    source[0x00080201] = pydicom.DataElement(0x00080201, "SH", zone)
    with pytest.raises(Unreportable, match="Timezone"):
        objects(source)


# The report


def test_the_report_names_its_models_its_status_and_its_limits() -> None:
    report = parsed(cart_file())[Role.SR]
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.ContentQualification == "RESEARCH"
    for words in ("ecg12", "2026.1", f"sha256={'ab' * 32}", "not verified", "no urgent"):
        assert words in content(report)


def test_findings_carry_text_probability_threshold_and_origin() -> None:
    report = parsed(cart_file())[Role.SR]
    assert codes(report, "271921002") == ["49436004", "164873001"]
    assert codes(report, "18810-2") == ["102594003"]
    for words in ("Atrial fibrillation.", "0.9321", "model: ecg12", "RR variability 0.31"):
        assert words in content(report)


def test_a_finding_that_is_not_stated_is_not_coded_either() -> None:
    source = cart_file()
    contradicted = (finding("atrial_fibrillation"), finding("sinus_rhythm"))
    result = result_for(
        source, findings=contradicted, statements=(statement("atrial_fibrillation"),)
    )
    results = parsed(source, result)
    assert codes(results[Role.SR], "271921002") == ["49436004"]
    assert "10:9216" not in str(results[Role.ECG].WaveformAnnotationSequence)


def test_a_statement_takes_the_numbers_of_the_finding_it_rests_on() -> None:
    source = cart_file()
    findings = (
        finding("lvh", origin=Origin.CRITERIA, model=None, probability=None, threshold=None),
        finding("lvh", probability=0.8125, threshold=0.25),
    )
    result = result_for(source, findings=findings, statements=(statement("lvh"),))
    text = content(parsed(source, result)[Role.SR])
    assert "0.8125" in text
    assert "model: ecg12" in text


def test_a_measurement_without_a_value_is_said_in_words_and_no_number_is_made_up() -> None:
    report = parsed(cart_file())[Role.SR]
    assert "p duration, pr interval: no P wave found" in content(report)
    (pr_interval,) = named(report, "2:15872")
    assert len(pr_interval.MeasuredValueSequence) == 0
    assert pr_interval.NumericValueQualifierCodeSequence[0].CodeValue == "114006"
    assert named(report, "2:16184") == []  # P duration: not required by the template
    assert "nan" not in content(report)


def test_each_qtc_names_its_formula() -> None:
    report = parsed(cart_file())[Role.SR]
    formulas = {below(item)[0][2]: content_of(item) for item in named(report, "2:15876")}
    assert formulas == {
        "Bazett QT Correction Algorithm": "371.3",
        "Fridericia QTc Algorithm": "370.2",
        "Framingham QTc Algorithm": "371.0",
        "Hodges QT Correction Algorithm": "370.1",
    }


def test_every_global_measurement_of_a_good_ecg_is_a_number_with_its_code() -> None:
    source, result, _ = varied()["sinus rhythm"]
    report = parsed(source, result)[Role.SR]
    (measured,) = named(report, "122158")
    concepts = [item.ConceptNameCodeSequence[0].CodeValue for item in measured.ContentSequence]
    assert concepts == [code.value for code in MEASUREMENTS.values()]


def test_each_lead_has_its_voltages_durations_and_st_levels() -> None:
    source, result, _ = varied()["sinus rhythm"]
    report = parsed(source, result)[Role.SR]
    leads = {codes(lead, "122148")[0]: lead for lead in named(report, "122159")}
    assert list(leads) == [LEAD_CODES[lead].value for lead in STANDARD_12]
    values = {meaning: value for _, meaning, value in below(leads["2:2"])}
    numbers = result.leads[Lead.II]
    assert float(values["R1 amplitude, per lead"]) == pytest.approx(
        numbers["r_amplitude"].value, abs=5e-5
    )
    assert float(values["S1 amplitude, per lead"]) == pytest.approx(
        -(numbers["s_amplitude"].value or 0), abs=5e-5
    )
    assert float(values["J point Amplitude, per lead"]) == pytest.approx(
        numbers["st_j"].value, abs=5e-5
    )
    assert values["Measurement Method"] == "Median"
    assert all("R2 amplitude" not in meaning for meaning in values)  # this beat has no R'


def test_a_t_wave_that_points_down_is_a_minimum() -> None:
    source, result, _ = varied()["sinus rhythm"]
    report = parsed(source, result)[Role.SR]
    in_avr = next(i for i in named(report, "122159") if codes(i, "122148") == ["2:62"])
    values = {meaning: value for _, meaning, value in below(in_avr)}
    assert float(values["T minimum amplitude, per lead"]) < 0
    assert "T maximum amplitude, per lead" not in values


def test_a_finding_is_inferred_from_its_leads_and_numbers() -> None:
    source, result, _ = varied()["many findings"]
    report = parsed(source, result)[Role.SR]
    first = named(report, "271921002")[0]
    assert [part for part in below(first) if part[0] == "INFERRED FROM"] == [
        ("INFERRED FROM", "Lead ID", "Lead V1"),
        ("INFERRED FROM", "Lead ID", "Lead aVF"),
        ("INFERRED FROM", "Evidence of a finding", "RR variability 0.31"),
    ]
    assert below(first)[0] == (
        "HAS CONCEPT MOD", "Equivalent Meaning of Value", result.statements[0].text,
    )  # fmt: skip


def test_what_was_not_assessed_stands_under_how_much_was() -> None:
    source, result, _ = varied()["a child"]
    report = parsed(source, result)[Role.SR]
    (how_much,) = named(report, "111017")
    assert [text for _, _, text in below(how_much)] == [
        line.replace("–", "-") for line in result.not_assessed
    ]
    assert any("under 18" in text or "adult" in text for _, _, text in below(how_much))


def test_age_and_sex_are_those_the_criteria_were_told_or_unknown() -> None:
    known, unknown = (
        parsed(*varied()[name][:2])[Role.SR] for name in ("a child", "age and sex unknown")
    )
    assert [content_of(item) for item in named(known, "121033")] == ["4.0"]
    assert codes(known, "121032") == ["F"]
    assert named(unknown, "121033")[0].NumericValueQualifierCodeSequence[0].CodeValue == "114010"
    assert codes(unknown, "121032") == ["U"]


def test_private_codes_are_declared_in_the_object_that_uses_them() -> None:
    report = parsed(*varied()["sinus rhythm"][:2])[Role.SR]
    (declared,) = report.CodingSchemeIdentificationSequence
    used = {item.ConceptNameCodeSequence[0].CodingSchemeDesignator for item in walk(report)}
    assert declared.CodingSchemeDesignator == "99SINUS"
    assert {scheme for scheme in used if scheme.startswith("99")} == {"99SINUS"}


# Comparison


def compared(name: str) -> Dataset:
    source, result, previous = varied()[name]
    return parsed(source, result, previous=previous)[Role.SR]


def test_a_comparison_names_the_earlier_ecg_and_what_changed() -> None:
    report = compared("prior ECG")
    (prior,) = named(report, "55114-3")
    assert codes(prior, "122140") == ["373066001"]
    (earlier,) = named(prior, "121112")
    assert earlier.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == PREVIOUS.sop_instance_uid
    values = {meaning: value for _, meaning, value in below(prior)}
    rate = varied()["prior ECG"][1].measurements.heart_rate.value
    assert float(values["Change of ventricular rate since the prior ECG"]) == pytest.approx(
        rate - 58, abs=0.05
    )
    assert "Compared with the ECG of 2012-02-29 23:59: heart rate 58 to 1" in content(report)


def test_the_earlier_ecg_is_listed_as_other_evidence_in_its_own_study() -> None:
    (study,) = compared("prior ECG").PertinentOtherEvidenceSequence
    assert study.StudyInstanceUID == PREVIOUS.study_instance_uid
    (series,) = study.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == PREVIOUS.sop_instance_uid


def test_only_what_both_ecgs_have_is_compared() -> None:
    meanings = {meaning for _, meaning, _ in below(named(compared("prior ECG"), "55114-3")[0])}
    assert not any("PR interval" in meaning for meaning in meanings)


@pytest.mark.parametrize(
    ("before", "now", "difference"),
    [(-170, 170, -20), (170, -170, 20), (0, 180, 180), (0, -180, 180), (30, 10, -20)],
)
def test_an_axis_turns_the_shorter_way(before: float, now: float, difference: float) -> None:
    assert change("qrs_axis", before, now) == difference


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sinus rhythm", "knows no earlier ECG"),
        ("prior ECG of somebody else", "birth date or sex"),
        ("prior ECG of a poor one", "share no measurement"),
        ("comparison not asked for", "was not asked for"),
    ],
)
def test_no_comparison_says_why(name: str, why: str) -> None:
    report = compared(name)
    assert codes(report, "122140") == ["373067005"]
    assert "PertinentOtherEvidenceSequence" not in report
    (line,) = (item.TextValue for item in named(report, "55114-3")[0].ContentSequence[1:])
    assert line.startswith("No comparison with an earlier ECG: ")
    assert why in line


def test_another_revision_of_the_algorithm_is_said() -> None:
    assert "another algorithm revision" in content(compared("prior ECG of another revision"))
    assert "another algorithm revision" not in content(compared("prior ECG"))


def test_the_summary_reads_well_without_the_names_of_its_items() -> None:
    report = parsed(cart_file())[Role.SR]
    assert "Heart rate 61 /min, QRS 75 ms, QT 368 ms, QTc (Fridericia) 370 ms" in content(report)
    assert "Signal quality: full" in content(report)


def test_nothing_found_is_not_normal() -> None:
    source = cart_file()
    claimed = {"findings": (finding("normal"),), "statements": (statement("normal"),)}
    result = result_for(source, Overall.NO_LISTED_FINDING, **claimed)
    report = parsed(source, result)[Role.SR]
    assert codes(report, "18810-2") == []
    assert codes(report, "271921002") == []
    assert codes(report, "111017") == ["111243"]
    assert [item.ValueType for item in named(report, "271921002")] == ["TEXT"]
    assert "No listed finding above its threshold" in content(report)
    assert "QT interval: not assessed" in content(report)


def test_normal_is_coded_where_the_analysis_says_so() -> None:
    source = cart_file()
    said = (statement("sinus_rhythm"), statement("normal"))
    result = result_for(source, Overall.NORMAL, statements=said, not_assessed=())
    report = parsed(source, result)[Role.SR]
    assert codes(report, "18810-2") == ["164854000"]
    assert codes(report, "271921002") == ["10:9216", "164854000"]


def test_a_poor_ecg_gets_reasons_and_no_diagnosis_anywhere() -> None:
    source = cart_file()
    claimed = {"findings": (finding("st_elevation"),), "statements": (statement("st_elevation"),)}
    results = parsed(source, result_for(source, Overall.NON_DIAGNOSTIC, **claimed))
    report, ecg = results[Role.SR], results[Role.ECG]
    assert codes(report, "18810-2") == ["122753"]
    assert codes(report, "271921002") == []
    assert "noise, no-qrs" in content(report)
    for made in (content(report), str(ecg.WaveformAnnotationSequence)):
        assert "ST elevation" not in made
    assert any("noise" in text for text in texts(ecg))


# The page


def test_the_page_is_the_pdf_bit_for_bit_and_says_how_long_it_is() -> None:
    source = cart_file()
    page = parsed(source)[Role.PDF]
    assert page.EncapsulatedDocument[: page.EncapsulatedDocumentLength] == PAGE
    assert len(page.EncapsulatedDocument) % 2 == 0
    assert page.SourceInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert page.BurnedInAnnotation == "YES"


# The annotated ECG


def _reencoded(source: Dataset, syntax: str) -> Dataset:
    if syntax == ExplicitVRBigEndian:
        for group in source.WaveformSequence:
            data = np.frombuffer(group.WaveformData, "<i2").astype(">i2").tobytes()
            group["WaveformData"] = pydicom.DataElement("WaveformData", "OW", data)
    buffer = io.BytesIO()
    source.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        buffer,
        source,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    return parse(buffer.getvalue())


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_transfer_syntax_gives_the_same_copy(syntax: str, tmp_path: Path) -> None:
    plain = parsed(cart_file())[Role.ECG]
    made = objects(_reencoded(cart_file(), syntax))
    copy = parse(made[Role.ECG].data)
    assert copy == plain
    assert check(copy) == ()
    assert errors(save(made, tmp_path)[Role.ECG]) == []


def test_the_samples_of_every_group_equal_the_source_bit_for_bit() -> None:
    source = cart_file()
    copy = parsed(source)[Role.ECG]
    for group in range(2):
        np.testing.assert_array_equal(samples(copy, group), samples(source, group))
        assert np.array_equal(copy.waveform_array(group), source.waveform_array(group))


@pytest.mark.parametrize("name", SHARED_ECGS)
def test_the_samples_of_other_encodings_equal_the_source_too(name: str) -> None:
    source = pydicom.dcmread(shared("ecg", *name.split("/")))
    copy = parsed(source).get(Role.ECG)
    if copy is not None:
        np.testing.assert_array_equal(samples(copy), samples(source))


def test_the_copy_says_that_it_is_one() -> None:
    source = cart_file()
    copy = parsed(source)[Role.ECG]
    assert copy.SOPClassUID == "1.2.840.10008.5.1.4.1.1.9.1.2"
    assert copy.SeriesDescription == DESCRIPTION
    assert copy.SOPInstanceUID != source.SOPInstanceUID
    origin = copy.ReferencedInstanceSequence[-1]
    assert origin.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert copy.Manufacturer == source.Manufacturer


def test_the_cart_annotations_stay_as_they_came_and_ours_begin_with_ai() -> None:
    source = cart_file()
    copy = parsed(source)[Role.ECG]
    before = source.WaveformAnnotationSequence
    after = copy.WaveformAnnotationSequence
    assert list(after[: len(before)]) == list(before)
    ours = after[len(before) :]
    assert all(t.startswith("AI: ") for t in texts(copy)[2:])
    assert min(i.AnnotationGroupNumber for i in ours) > max(i.AnnotationGroupNumber for i in before)


def test_r_peaks_are_one_based_points_on_the_first_group() -> None:
    source = cart_file()
    result = result_for(source)
    items = parsed(source, result)[Role.ECG].WaveformAnnotationSequence
    marked = [
        item
        for item in items
        if "ConceptNameCodeSequence" in item
        and item.ConceptNameCodeSequence[0].CodeValue == "10:576"
    ]
    assert [i.ReferencedSamplePositions for i in marked] == [
        round(peak) + 1 for peak in result.measurements.r_peaks
    ]
    assert {tuple(i.ReferencedWaveformChannels) for i in marked} == {(1, 0)}
    assert {i.TemporalRangeType for i in marked} == {"POINT"}


def test_the_rhythm_comes_first_and_references_follow_it() -> None:
    source = cart_file()
    result = result_for(source)
    expected = samples(source, 0).copy()
    source.WaveformSequence = list(reversed(source.WaveformSequence))
    for item in source.WaveformAnnotationSequence:
        item.ReferencedWaveformChannels = [2, 0]
    copy = parsed(source, result)[Role.ECG]
    np.testing.assert_array_equal(samples(copy, 0), expected)
    assert copy.WaveformSequence[0].WaveformOriginality == "ORIGINAL"
    assert {tuple(i.ReferencedWaveformChannels) for i in copy.WaveformAnnotationSequence} == {
        (1, 0)
    }


def test_leads_are_coded_in_mdc_with_the_name_viewers_show() -> None:
    channels = parsed(cart_file())[Role.ECG].WaveformSequence[0].ChannelDefinitionSequence
    sources = [channel.ChannelSourceSequence[0] for channel in channels]
    assert {s.CodingSchemeDesignator for s in sources} == {"MDC"}
    assert [s.CodeMeaning for s in sources][:4] == ["Lead I", "Lead II", "Lead III", "Lead aVR"]
    assert sources[0].EquivalentCodeSequence[0].CodeValue == "5.6.3-9-1"


def test_private_elements_are_dropped_at_every_depth() -> None:
    source = cart_file()
    for item in (source, source.WaveformSequence[0], source.WaveformAnnotationSequence[0]):
        item.private_block(0x0099, "VENDOR", create=True).add_new(1, "LO", "SECRET")
    for made in objects(source).values():
        assert b"SECRET" not in made.data
        assert b"VENDOR" not in made.data


def test_a_silent_scale_is_said_and_the_copy_still_made() -> None:
    source = cart_file()
    for channel in source.WaveformSequence[0].ChannelDefinitionSequence:
        for keyword in ("ChannelBaseline", "ChannelSensitivityCorrectionFactor"):
            del channel[keyword]
        channel.pop("ChannelSampleSkew", None)
        channel.pop("ChannelTimeSkew", None)
    channel = parsed(source)[Role.ECG].WaveformSequence[0].ChannelDefinitionSequence[0]
    assert channel.ChannelSensitivityCorrectionFactor == 1
    assert channel.ChannelBaseline == 0


def test_what_the_standard_forbids_beside_other_attributes_is_left_out_of_the_copy(
    tmp_path: Path,
) -> None:
    source = cart_file()
    source.Laterality, source.SynchronizationTrigger = "L", "SOURCE"
    source["ContentTime"] = pydicom.DataElement(
        "ContentTime", "TM", "99", validation_mode=pydicom.config.IGNORE
    )
    for number, channel in enumerate(source.WaveformSequence[0].ChannelDefinitionSequence):
        channel.ChannelTimeSkew, channel.ChannelSampleSkew = ("0.001", "0")[:: 1 - 2 * (number % 2)]
        channel.ChannelSensitivityUnitsSequence[0].CodeMeaning = ""
    made = objects(source)
    copy = parse(made[Role.ECG].data)
    assert errors(save(made, tmp_path)[Role.ECG]) == []
    assert "SynchronizationTrigger" not in copy
    first, second, *_ = copy.WaveformSequence[0].ChannelDefinitionSequence
    assert (first.ChannelTimeSkew, "ChannelSampleSkew" in first) == (0.001, False)
    assert (second.ChannelSampleSkew, "ChannelTimeSkew" in second) == (0.001, False)
    assert first.ChannelSensitivityUnitsSequence[0].CodeMeaning == "uV"


def test_a_signature_of_the_original_does_not_stand_on_the_copy() -> None:
    source = cart_file()
    source.DigitalSignaturesSequence = [Dataset()]
    source.MACParametersSequence = [Dataset()]
    copy = parsed(source)[Role.ECG]
    assert "DigitalSignaturesSequence" not in copy
    assert "MACParametersSequence" not in copy


def test_an_annotation_that_breaks_the_standard_is_left_out_and_that_is_said() -> None:
    source = cart_file()
    source.WaveformAnnotationSequence[0].ReferencedWaveformChannels = [9, 1]
    copy = parsed(source)[Role.ECG]
    assert check(copy) == ()
    assert "RITMO SINUSALE" not in texts(copy)
    assert any(t.startswith("AI: 1 annotations of the source") for t in texts(copy))


def test_a_long_recording_is_marked_up_to_a_limit_and_says_so() -> None:
    source = cart_file()
    result = result_for(source)
    many = np.linspace(10, 9000, MARKED_BEATS + 20)
    changed = replace(result.measurements, r_peaks=many, fiducials={})
    copy = parsed(source, result_for(source, measurements=changed))[Role.ECG]
    assert any("Only the first" in text for text in texts(copy))
    assert check(copy) == ()


def test_samples_that_no_class_can_hold_leave_report_and_page() -> None:
    source = cart_file()
    result = result_for(source)
    group = source.WaveformSequence[0]
    group.SamplingFrequency = "5000"
    assert set(parsed(source, result)) == {Role.SR, Role.PDF}


def test_a_record_without_beats_or_fiducials_is_annotated_all_the_same() -> None:
    source = cart_file()
    result = result_for(source, Overall.NON_DIAGNOSTIC)
    bare = replace(result.measurements, r_peaks=np.array([]), fiducials={})
    copy = parsed(source, result_for(source, Overall.NON_DIAGNOSTIC, measurements=bare))
    assert check(copy[Role.ECG]) == ()


# Choices, and the loop guard


def test_a_site_chooses_objects_series_numbers_and_qualification() -> None:
    options = ReportOptions(
        roles=(Role.PDF,),
        series_numbers={Role.PDF: 7},
        qualification=Qualification.PRODUCT,
    )
    results = parsed(cart_file(), options=options)
    assert set(results) == {Role.PDF}
    assert results[Role.PDF].SeriesNumber == 7
    assert results[Role.PDF].ContentQualification == "PRODUCT"


def test_our_own_objects_are_known_and_a_cart_object_is_not() -> None:
    source = cart_file()
    assert not is_own(source)
    assert all(is_own(result) for result in parsed(source).values())


def test_a_renamed_device_is_still_known_as_ours() -> None:
    device = type(DEVICE)(
        device_uid="2.25.42", software_version="1", station_name="A", serial_number="7",
        manufacturer="Hospital", model_name="Gateway",
    )  # fmt: skip
    assert all(is_own(result) for result in parsed(cart_file(), device=device).values())
