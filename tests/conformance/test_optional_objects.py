"""The objects that are written only where a site asks for them: picture, TID 1500, annotations."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from report_samples import DEVICE, PREVIOUS, cart_file, objects, result_for, save, simulated, varied
from support import shared
from test_report_objects import SHARED_ECGS
from validators import complaints, entities, errors, run

from analysis import paper
from analysis.analyse import analyse
from analysis.ecg import Lead
from analysis.formats import dicom
from analysis.result import Overall, Result
from analysis.synthetic import Kind
from dicom_node.plan import Plan
from dicom_node.report import Message, ReportOptions, Role, check
from dicom_node.report import concepts as c
from dicom_node.report.capture import DPI
from dicom_node.settings import Report, Settings

OPTIONAL = (Role.SC, Role.TID1500, Role.ANNOTATION)
EVERY = ReportOptions(roles=tuple(Role))
ANNOTATION_SR = "1.2.840.10008.5.1.4.1.1.88.77"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

# PS3.3 Table A.35.23-2, as DCMTK 3.7.0 has it (dcmsr/libsrc/dsrwancc.cc); it reads no 88.77 itself
# in the version at hand.
ALLOWED = MappingProxyType(
    {
        ("CONTAINER", "CONTAINS"): {"TEXT", "CODE", "NUM", "TCOORD", "WAVEFORM", "CONTAINER"},
        ("CONTAINER", "HAS OBS CONTEXT"): {"CODE", "PNAME", "TEXT", "UIDREF", "DATE", "NUM"},
        ("CONTAINER", "HAS CONCEPT MOD"): {"TEXT", "CODE"},
        ("CODE", "HAS CONCEPT MOD"): {"TEXT", "CODE"},
        ("CODE", "HAS PROPERTIES"): {"CODE", "TEXT", "NUM"},
        ("CODE", "INFERRED FROM"): {"WAVEFORM", "TCOORD"},
        ("TCOORD", "SELECTED FROM"): {"WAVEFORM"},
    }
)


def parse(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@cache
def encoded(name: str) -> dict[Role, bytes]:
    source, result, previous = varied()[name]
    made = objects(source, result, previous=previous, options=EVERY)
    return {role: item.data for role, item in made.items()}


def made(role: Role, name: str = "atrial fibrillation") -> Dataset:
    return parse(encoded(name)[role])


def walk(item: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    for child in item.get("ContentSequence") or ():
        yield item, child
        yield from walk(child)


def named(report: Dataset, code: str) -> list[Dataset]:
    return [i for _, i in walk(report) if i.ConceptNameCodeSequence[0].CodeValue == code]


# Whether and how


def test_nothing_optional_is_written_unless_a_site_asks_for_it() -> None:
    assert set(objects(cart_file())) == {Role.SR, Role.PDF, Role.ECG}
    plan = Plan.of(Settings.model_construct(report=Report()), models=())
    assert plan.report_options.roles == (Role.SR, Role.PDF, Role.ECG)


def test_a_site_that_asks_gets_them_in_series_of_their_own() -> None:
    chosen = Report(objects=("sr", "sc", "tid1500", "annotation"), series_number_sc=77)
    plan = Plan.of(Settings.model_construct(report=chosen), models=())
    options = Plan.from_json(plan.text).report_options
    made = objects(cart_file(), options=options)
    numbers = {role: parse(item.data).SeriesNumber for role, item in made.items()}
    assert numbers == {Role.SR: 901, Role.SC: 77, Role.TID1500: 905, Role.ANNOTATION: 906}
    assert len({item.series_instance_uid for item in made.values()}) == 4


def test_a_plan_pinned_before_there_were_such_objects_still_reports() -> None:
    plan = Plan.of(Settings.model_construct(report=Report()), models=())
    old = {k: v for k, v in plan.settings.items() if k not in {"series_number_sc",
           "series_number_tid1500", "series_number_annotation"}}  # fmt: skip
    assert replace(plan, settings=old).report_options.series_numbers == {
        Role.SR: 901, Role.PDF: 902, Role.ECG: 903,
    }  # fmt: skip


@pytest.mark.parametrize("role", OPTIONAL)
def test_the_same_row_gives_the_same_bytes_and_another_plan_another_object(role: Role) -> None:
    only = ReportOptions(roles=(role,))
    first, again, other = (
        objects(cart_file(), options=only, plan_digest=digest)[role] for digest in "001"
    )
    assert first == again
    assert first.sop_instance_uid != other.sop_instance_uid


# Conformance


@pytest.mark.parametrize("name", varied())
def test_every_kind_of_result_gives_objects_without_errors(name: str, tmp_path: Path) -> None:
    source, result, previous = varied()[name]
    made = objects(source, result, previous=previous, options=EVERY)
    paths = save(made, tmp_path)
    for role in OPTIONAL:
        assert check(parse(made[role].data)) == made[role].faults == ()
        assert errors(paths[role]) == []
    for tool in ("dsrdump", "dsr2html"):
        done = run(tool, paths[Role.TID1500])
        assert done.returncode == 0
    source.save_as(tmp_path / "source.dcm", enforce_file_format=True)
    assert complaints("dcentvfy", entities(sorted(tmp_path.glob("*.dcm")))) == []


@pytest.mark.parametrize("name", varied())
def test_annotations_under_a_class_that_the_validators_know_are_without_errors(
    name: str, tmp_path: Path
) -> None:
    report = made(Role.ANNOTATION, name)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = COMPREHENSIVE_3D_SR
    path = tmp_path / "as3d.dcm"
    report.save_as(path)
    assert errors(path) == []
    assert run("dsrdump", path).returncode == 0
    assert run("dsr2html", path).returncode == 0


@pytest.mark.parametrize("name", varied())
def test_annotations_keep_the_relationships_of_their_iod(name: str) -> None:
    for parent, item in walk(made(Role.ANNOTATION, name)):
        assert item.ValueType in ALLOWED[parent.ValueType, item.RelationshipType]


@pytest.mark.parametrize("role", OPTIONAL)
def test_every_mandatory_attribute_of_the_iod_is_there(role: Role) -> None:
    """highdicom holds PS3.3 as data, of Supplement 239 too."""
    dataset = made(role)
    for module in _mandatory_modules(dataset.SOPClassUID):
        for item in _attributes()[module]:
            if not item["path"] and item["type"] in {"1", "2"}:
                assert item["keyword"] in dataset, (module, item["keyword"])
            if not item["path"] and item["type"] == "1":
                assert dataset[item["keyword"]].value not in (None, ""), (module, item["keyword"])


def _standard(name: str) -> dict[str, list[dict[str, str]]]:
    return json.loads(resources.files(hd).joinpath("_standard", name).read_text())


@cache
def _attributes() -> dict[str, list[dict[str, str]]]:
    return _standard("module_attribute_map.json")


def _mandatory_modules(sop_class_uid: str) -> list[str]:
    iod = str(_standard("sop_class_iod_map.json")[sop_class_uid])
    modules = [m["key"] for m in _standard("iod_module_map.json")[iod] if m["usage"] == "M"]
    return [name for name in modules if name != "sr-document-content"]


@pytest.mark.parametrize("name", SHARED_ECGS)
def test_real_and_odd_sources_give_objects_and_messages_without_faults(name: str) -> None:
    data = shared("ecg", *name.split("/")).read_bytes()
    result = analyse(dicom.read(data), ())
    made = objects(dicom.parse(data), result, options=EVERY, messages=tuple(Message))
    assert set(OPTIONAL) | set(Message) <= set(made)
    assert all(item.faults == () for item in made.values())


# The picture


def test_the_picture_is_page_one_pixel_by_pixel_in_true_size() -> None:
    _source, result, _ = varied()["sinus rhythm"]
    picture = made(Role.SC, "sinus rhythm")
    png = paper.render(result, "png", version=DEVICE.software_version, dpi=DPI)
    drawn = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert np.array_equal(picture.pixel_array, drawn)
    assert [float(x) * picture.Columns for x in picture.NominalScannedPixelSpacing][1] == (
        pytest.approx(297.0, abs=0.2)  # A4
    )


def test_the_picture_says_that_it_shows_the_patient_and_what_it_shows() -> None:
    picture = made(Role.SC)
    assert (picture.Modality, picture.BurnedInAnnotation) == ("OT", "YES")
    assert picture.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "2.25.3"
    assert picture.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


# TID 1500


def test_another_library_reads_the_measurement_groups_as_tid_1500() -> None:
    dataset = made(Role.TID1500, "sinus rhythm")
    drop(dataset, "121112")  # highdicom 0.28 reads no WAVEFORM item
    report = hd.sr.Comprehensive3DSR.from_dataset(dataset)
    content = report.content
    assert isinstance(content, hd.sr.MeasurementReport)
    groups = content.get_image_measurement_groups()
    names = [group.tracking_identifier for group in groups]
    assert (names[0], names[-1]) == ("Global measurements", "Statements")
    assert {f"Lead {lead}" for lead in ("I", "aVF", "V6")} <= set(names)
    assert len({group.tracking_uid for group in groups}) == len(groups)
    _source, result, _ = varied()["sinus rhythm"]
    (rate,) = groups[0].get_measurements(name=c.coded(c.MEASUREMENTS["heart_rate"]))
    assert rate.value == pytest.approx(result.measurements.heart_rate.value, abs=0.05)
    assert rate.unit.value == "{H.B.}/min"


def test_the_groups_say_what_found_them_and_on_which_waveform() -> None:
    report = made(Role.TID1500)
    groups = named(report, "125007")
    for group in groups:
        below = [item.ConceptNameCodeSequence[0].CodeValue for item in group.ContentSequence]
        assert {"111001", "111003", "121112"} <= set(below)
    reference = named(report, "121112")[0].ReferencedSOPSequence[0]
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert reference.ReferencedSOPInstanceUID == "2.25.3"
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.3"


def test_a_poor_ecg_has_groups_without_a_diagnosis() -> None:
    report = made(Role.TID1500, "non-diagnostic")
    assert named(report, "271921002") == []
    assert [i.ConceptCodeSequence[0].CodeValue for i in named(report, "18810-2")] == ["122753"]


# Annotations


def positions(report: Dataset, meaning: str) -> list[int]:
    for item in named(report, "ANNOTATION"):
        if item.ConceptCodeSequence[0].CodeMeaning == meaning:
            return list(item.ContentSequence[0].ReferencedSamplePositions)
    return []


def test_waves_are_where_the_analysis_found_them() -> None:
    _source, result, _ = varied()["sinus rhythm"]
    report, waves = made(Role.ANNOTATION, "sinus rhythm"), result.measurements.fiducials["global"]
    found = np.array(positions(report, c.QRS_COMPLEX.meaning)).reshape(-1, 2) - 1
    ends = np.column_stack([waves["qrs_onset"], waves["qrs_offset"]])
    assert np.array_equal(found, np.round(ends[np.isfinite(ends).all(axis=1)]))
    peaks = np.array(positions(report, c.R_WAVE.meaning)) - 1
    assert np.array_equal(peaks, np.round(result.measurements.r_peaks))


def test_waves_point_to_the_group_of_the_source_that_was_analysed() -> None:
    group = cart_file().WaveformSequence
    source = cart_file()
    source.WaveformSequence = [group[1], group[0]]  # the median beat first
    only = ReportOptions(roles=(Role.ANNOTATION,))
    result = result_for(cart_file())
    report = parse(objects(source, result, options=only)[Role.ANNOTATION].data)
    (place,) = {
        tuple(item.ReferencedSOPSequence[0].ReferencedWaveformChannels)
        for parent, item in walk(report) if parent.get("ValueType") == "TCOORD"
    }  # fmt: skip
    assert place == (2, 0)


def test_an_ecg_that_was_not_analysed_as_it_came_has_statements_and_no_places() -> None:
    source = cart_file()
    other = cart_file()
    other.WaveformSequence[0].NumberOfWaveformSamples = 9000
    only = ReportOptions(roles=(Role.ANNOTATION,))
    report = parse(objects(source, result_for(other), options=only)[Role.ANNOTATION].data)
    assert named(report, "ANNOTATION") == []
    assert named(report, "271921002")


def test_a_statement_names_its_leads_and_its_evidence() -> None:
    report = made(Role.ANNOTATION, "many findings")
    (first, *_) = named(report, "271921002")
    below = [
        (i.RelationshipType, i.ConceptNameCodeSequence[0].CodeMeaning)
        for i in first.ContentSequence
    ]
    assert below.count(("HAS PROPERTIES", "Lead ID")) == 2
    assert ("HAS PROPERTIES", "Evidence of a finding") in below


def test_one_beat_is_a_point_and_long_recordings_are_cut_with_a_word() -> None:
    source, result = simulated(Kind.SINUS)
    short = _with_peaks(result, result.measurements.r_peaks[:1])
    only = ReportOptions(roles=(Role.ANNOTATION,))
    report = parse(objects(source, short, options=only)[Role.ANNOTATION].data)
    kinds = {named(report, "ANNOTATION")[n].ContentSequence[0].TemporalRangeType for n in (0, 1)}
    assert kinds == {"POINT"}
    many = _with_peaks(result, np.linspace(1, 4000, 150))
    report = parse(objects(source, many, options=only)[Role.ANNOTATION].data)
    assert len(positions(report, c.R_WAVE.meaning)) == 100
    assert "Only the first 100 beats are marked." in named(report, "121106")[0].TextValue


def _with_peaks(result: Result, peaks: np.ndarray) -> Result:
    leads = replace(result.leads, beats=())
    measured = replace(result.measurements, r_peaks=peaks, fiducials={}, beat_kinds=())
    return replace(result, measurements=measured, leads=leads)


# Our own checker


def put(dataset: Dataset, keyword: str, value: object) -> None:
    vr = pydicom.datadict.dictionary_VR(keyword)
    dataset[keyword] = pydicom.DataElement(
        keyword, vr, value, validation_mode=pydicom.config.IGNORE
    )


def drop(report: Dataset, code: str) -> None:
    for parent, _ in [(report, report), *walk(report)]:
        kept = parent.get("ContentSequence") or ()
        parent.ContentSequence = [i for i in kept if i.ConceptNameCodeSequence[0].CodeValue != code]


def rename(item: Dataset, sequence: str, value: str) -> None:
    item[sequence].value[0].CodeValue = value


DEFECTS: dict[str, tuple[Role, Callable[[Dataset], object]]] = {
    "picture: Modality SC": (Role.SC, lambda d: put(d, "Modality", "SC")),
    "picture: burned in text denied": (Role.SC, lambda d: put(d, "BurnedInAnnotation", "NO")),
    "picture: a row is missing": (Role.SC, lambda d: put(d, "Rows", d.Rows - 1)),
    "picture: grey": (Role.SC, lambda d: put(d, "PhotometricInterpretation", "MONOCHROME2")),
    "picture: of nothing": (Role.SC, lambda d: d.pop("ReferencedInstanceSequence")),
    "1500: another title": (
        Role.TID1500, lambda d: rename(d, "ConceptNameCodeSequence", "126001"),
    ),
    "1500: another template": (
        Role.TID1500, lambda d: put(d.ContentTemplateSequence[0], "TemplateIdentifier", "3700"),
    ),
    "1500: no groups": (Role.TID1500, lambda d: drop(d, "125007")),
    "1500: a group without tracking": (Role.TID1500, lambda d: drop(d, "112040")),
    "1500: two groups of one tracking UID": (
        Role.TID1500, lambda d: [put(i, "UID", "1.2.3") for i in named(d, "112040")],
    ),
    "1500: an algorithm without version": (Role.TID1500, lambda d: drop(d, "111003")),
    "1500: no waveform": (Role.TID1500, lambda d: drop(d, "121112")),
    "1500: a rate in bpm": (
        Role.TID1500,
        lambda d: put(
            named(d, "2:16016")[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0],
            "CodeValue", "bpm",
        ),
    ),
    "1500: an invented finding": (
        Role.TID1500,
        lambda d: rename(named(d, "271921002")[0], "ConceptCodeSequence", "49436004999"),
    ),
    "1500: verified": (Role.TID1500, lambda d: put(d, "VerificationFlag", "VERIFIED")),
    "1500: no evidence": (
        Role.TID1500, lambda d: d.pop("CurrentRequestedProcedureEvidenceSequence"),
    ),
    "3750: another title": (
        Role.ANNOTATION, lambda d: rename(d, "ConceptNameCodeSequence", "130869"),
    ),
    "3750: no algorithm": (Role.ANNOTATION, lambda d: drop(d, "111001")),
    "3750: a wave of no kind": (
        Role.ANNOTATION,
        lambda d: rename(named(d, "ANNOTATION")[0], "ConceptCodeSequence", "10:99999"),
    ),
    "3750: a wave nowhere": (
        Role.ANNOTATION, lambda d: named(d, "ANNOTATION")[0].pop("ContentSequence"),
    ),
    "3750: coordinates of no waveform": (
        Role.ANNOTATION,
        lambda d: named(d, "ANNOTATION")[0].ContentSequence[0].pop("ContentSequence"),
    ),
    "3750: half a segment": (
        Role.ANNOTATION,
        lambda d: put(
            named(d, "ANNOTATION")[0].ContentSequence[0], "ReferencedSamplePositions", [1, 2, 3]
        ),
    ),
    "3750: backwards": (
        Role.ANNOTATION,
        lambda d: put(
            named(d, "ANNOTATION")[0].ContentSequence[0], "ReferencedSamplePositions", [9, 1, 2, 3]
        ),
    ),
    "3750: sample 0": (
        Role.ANNOTATION,
        lambda d: put(
            named(d, "ANNOTATION")[0].ContentSequence[0], "ReferencedSamplePositions", [0, 1, 2, 3]
        ),
    ),
    "3750: many points as one": (
        Role.ANNOTATION,
        lambda d: put(
            named(d, "ANNOTATION")[-1].ContentSequence[0], "TemporalRangeType", "POINT"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_refused(name: str) -> None:
    role, spoil = DEFECTS[name]
    dataset = made(role)
    assert check(dataset) == ()
    spoil(dataset)
    assert check(dataset)


# Times with an offset


@pytest.mark.parametrize(
    ("acquired", "zone", "written"),
    [
        ("20260329005800+0000", "+0000", "20260329005800"),
        ("20260329005800.25+0000", None, "20260329005800.25"),
        ("20260329005800+0100", "+0100", "20260329005800"),
        ("20260329005800", "+0100", "20260329005800"),
        ("20260329005800", None, "20260329005800"),
        ("20260329005800+0100", None, "20260329005800+0100"),
        ("20260329005800+0100", "-0500", "20260329005800+0100"),
        ("20260328233000.5+0000", "+0100", "20260329003000.5"),
        ("2026032823+0000", "+0100", "2026032900"),
        ("20260101-0000", "+0100", "2026010101"),
    ],
)
def test_a_moment_of_the_report_is_local_time_that_every_reader_takes(
    acquired: str, zone: str | None, written: str, tmp_path: Path
) -> None:
    source = cart_file()
    source.AcquisitionDateTime = acquired
    source.TimezoneOffsetFromUTC = zone
    if zone is None:
        del source.TimezoneOffsetFromUTC
    made = objects(source, options=ReportOptions(roles=(Role.SR,)))
    (item,) = named(parse(made[Role.SR].data), "122146")
    assert item.DateTime == written
    path = save(made, tmp_path)[Role.SR]
    assert run("dsr2html", path).returncode == 0
    assert errors(path) == []


def test_an_earlier_ecg_in_utc_leaves_the_report_readable(tmp_path: Path) -> None:
    earlier = replace(PREVIOUS, acquired_at="20250101120000+0000")
    source, result = simulated()
    made = objects(source, result, previous=earlier, options=ReportOptions(roles=(Role.SR,)))
    assert run("dsr2html", save(made, tmp_path)[Role.SR]).returncode == 0


def test_overall_is_said_in_every_document() -> None:
    source = cart_file()
    for overall in Overall:
        made = objects(source, result_for(source, overall), options=EVERY)
        assert all(item.faults == () for item in made.values())


def test_leads_are_named_in_their_groups() -> None:
    report = made(Role.TID1500, "one lead")
    (lead,) = {i.ConceptCodeSequence[0].CodeMeaning for i in named(report, "122148")}
    assert lead.endswith(Lead.II)
