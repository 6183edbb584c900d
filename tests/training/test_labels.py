"""Labels: who said what, unknown apart from absent, nothing dropped without a sentence, no AI."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cart import encoded
from commands import Run
from corpora import dicom_ecg, imported, small_corpus, write_dicom
from hypothesis import given
from hypothesis import strategies as st
from node import free_port
from peers import running_orthanc
from pydicom.dataset import Dataset

from analysis.codes import VOCABULARY
from dicom_node.report.objects import PRODUCT
from training.corpus import Corpus
from training.databases import items
from training.label_maps import AHA, ICD10, NAME, SCP, SCT, LabelMap, read_map, standard_map
from training.labels import (
    TAKEN,
    TAUGHT_BY_DEFAULT,
    Fault,
    Label,
    LabelTable,
    Origin,
    Reading,
    Rows,
    Value,
    read_csv,
    write_csv,
)
from training.over_reads import read_over_reads

P, A, U = Value.PRESENT, Value.ABSENT, Value.UNKNOWN


def label(value: Value = P, origin: Origin = Origin.REVIEWER, **changes: Any) -> Label:
    return Label(**({"record": "r1", "key": "pvc", "value": value, "origin": origin} | changes))


def settled(*labels: Label) -> Value:
    return LabelTable(labels).value("r1", "pvc")


# What statements come to


def test_what_nobody_said_is_unknown_and_not_absent() -> None:
    table = LabelTable((label(P), label(A, record="r2"), label(P, record="r3", key="lvh")))
    assert table.keys == ("pvc", "lvh")
    values = table.matrix(["r1", "r2", "r3", "r4"])
    assert values.dtype == np.float32
    nan = np.nan
    np.testing.assert_array_equal(values, [[1, nan], [0, nan], [nan, 1], [nan, nan]])


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        ([label(A, Origin.VENDOR), label(P, Origin.OVER_READ)], P),
        ([label(P, Origin.VENDOR), label(P, Origin.CODE), label(A)], A),
        ([label(P, author="a"), label(A, author="b")], U),
        ([label(P, author="a"), label(P, author="b")], P),
        ([label(P, author="a", time="2024-01-01"), label(A, author="a", time="2024-02-01")], A),
        ([label(P, author="a"), label(U, author="b")], P),
        ([label(U, Origin.OVER_READ), label(P, Origin.VENDOR)], U),
    ],
)
def test_the_most_trusted_decides_and_the_last_of_one_author(
    labels: Sequence[Label], value: Value
) -> None:
    assert settled(*labels) is value
    assert settled(*reversed(labels)) is value


def test_contradiction_is_counted() -> None:
    table = LabelTable((label(P, author="a"), label(A, author="b"), label(P, record="r2")))
    assert table.contradictions == (("r1", "pvc"),)


def test_plan_takes_the_origins_it_says() -> None:
    table = LabelTable((label(P, Origin.VENDOR), label(P, Origin.CODE, key="lvh"), label(A)))
    taught = table.select(origins=TAUGHT_BY_DEFAULT, keys=["lvh", "pvc"])
    np.testing.assert_array_equal(taught.matrix(["r1"]), [[np.nan, 0]])
    assert not table.select(unbiased=True, keys=["pvc"]).contradictions
    assert not LabelTable((label(ai_visible=True),)).select(unbiased=True).labels


@given(
    st.lists(
        st.builds(
            label,
            st.sampled_from(Value),
            st.sampled_from(Origin),
            author=st.sampled_from("ab"),
            time=st.sampled_from(["", "2024", "2025"]),
        ),
        max_size=6,
    )
)
def test_order_of_statements_says_nothing(labels: list[Label]) -> None:
    assert settled(*labels) is settled(*reversed(labels))


# Tables


def read(tmp_path: Path, text: str, **options: Any) -> Rows:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    names = {"a.dcm": ("r1",), "b.dcm": ("r2",), "c.dcm": ("r3",), "twin": ("r4", "r5")}
    return read_csv(path, Reading(resolve=lambda name: names.get(name, ()), **options))


def said(rows: Rows) -> set[tuple[str, str, str]]:
    return {(item.record, item.key, item.value.value) for item in rows.labels}


def test_form_of_exchangeai_is_one_class_for_each_file(tmp_path: Path) -> None:
    rows = read(tmp_path, "file_name,label,ICD-10\na.dcm,LBBB,I44.7\nb.dcm,RBBB,I45.1\n")
    assert said(rows) == {
        ("r1", "lbbb", "present"),
        ("r1", "rbbb", "absent"),
        ("r2", "rbbb", "present"),
        ("r2", "lbbb", "absent"),
    }
    assert not rows.problems
    assert {item.origin for item in rows.labels} == {Origin.REVIEWER}


def test_richer_form_has_several_labels_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    text = (
        "file_name,label,value,origin,author,time,patient,ai_visible\n"
        "a.dcm,atrial fibrillation; PVC,,over-read,Dr B,2024-05-01,4711,1\n"
        "b.dcm,pvc,absent,,,,4711,0\n"
        "c.dcm,pvc,unknown,vendor,,,,\n"
    )
    rows = read(tmp_path, text, author="ward")
    assert said(rows) == {
        ("r1", "atrial_fibrillation", "present"),
        ("r1", "pvc", "present"),
        ("r2", "pvc", "absent"),
        ("r3", "pvc", "unknown"),
    }
    assert rows.patients == {"r1": "4711", "r2": "4711"}
    by_record = {item.record: item for item in rows.labels}
    assert (by_record["r1"].origin, by_record["r1"].author) == (Origin.OVER_READ, "Dr B")
    assert by_record["r1"].ai_visible
    assert (by_record["r2"].author, by_record["r2"].ai_visible) == ("ward", False)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("missing.dcm,pvc,", Fault.NO_RECORD),
        (",pvc,", Fault.NO_RECORD),
        ("twin,pvc,", Fault.AMBIGUOUS),
        ("a.dcm,,", Fault.NO_LABEL),
        ("a.dcm,pvc,perhaps", Fault.NOT_A_VALUE),
        ("b.dcm,pvc,1,,gossip", Fault.NOT_AN_ORIGIN),
        ("b.dcm,pvc,1,,AI", Fault.AI),
        ("b.dcm,pvc,1,,ai result", Fault.AI),
        ("b.dcm,pvc,1,Sinusnode 1.2,", Fault.AI),
        ("b.dcm,pvc,1,AI,", Fault.AI),
        ("a.dcm,pvc,present", Fault.DOUBLE),
        ("a.dcm,pvc,absent", Fault.CONTRADICTORY),
        ("b.dcm,Tako-Tsubo,", Fault.FREE_NAME),
        ("b.dcm,pvc,1,,,yesterday", Fault.NO_TIME),
    ],
)
def test_row_that_is_wrong_or_odd_has_a_sentence(tmp_path: Path, row: str, fault: Fault) -> None:
    rows = read(tmp_path, f"file_name,label,value,author,origin,time\na.dcm,pvc,1\n{row}\n")
    (problem,) = rows.problems
    assert problem.fault is fault
    assert problem.sentence.startswith("Row 3: ")
    assert problem.sentence.endswith(".")
    taken = {item for item in rows.labels if item.record == "r2" or item.value is A}
    assert bool(taken) == (fault in TAKEN)
    assert rows.rows == 2


def test_label_that_is_no_word_means_what_its_icd_code_means_alone(tmp_path: Path) -> None:
    head = "file_name,label,ICD-10\n"
    alone = read(tmp_path, f"{head}a.dcm,Vorhofflimmern,I48.91\nb.dcm,normal,Z00\n")
    assert ("r1", "atrial_fibrillation", "present") in said(alone)
    both = read(tmp_path, f"{head}a.dcm,STEMI lateral,I21.2\nb.dcm,NSTEMI,I21.4\n")
    assert {item.key for item in both.labels} == {"STEMI lateral", "NSTEMI"}


def test_two_classes_of_one_file_leave_both_unknown(tmp_path: Path) -> None:
    text = "file_name,label,ICD-10\na.dcm,LBBB,\na.dcm,RBBB,\nb.dcm,LBBB,\n"
    rows = read(tmp_path, text)
    table = LabelTable(rows.labels)
    assert table.value("r1", "lbbb") is U
    assert table.value("r2", "rbbb") is A
    assert rows.counts[Fault.CONTRADICTORY]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "label\npvc\n", "file_name\na.dcm\n"])
def test_table_without_its_columns_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="needs the columns"):
        read(tmp_path, text)


def test_table_of_another_character_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("file_name,label\na.dcm,Überleitung\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_csv(path, Reading(resolve=lambda _: ()))


def test_table_of_a_spreadsheet_with_semicolons_is_read(tmp_path: Path) -> None:
    rows = read(tmp_path, "\ufefffile_name;label\na.dcm;PVC\n")
    assert said(rows) == {("r1", "pvc", "present")}


def test_labels_that_were_written_are_read_back(tmp_path: Path) -> None:
    labels = (label(P, Origin.OVER_READ, time="2024-05-01", ai_visible=True), label(A, key="lvh"))
    write_csv(tmp_path / "out.csv", labels, {"r1": "abc"})
    rows = read_csv(tmp_path / "out.csv", Reading(resolve=lambda name: (name,)))
    assert rows.labels == labels
    assert not rows.problems


# Maps


def test_every_key_of_the_tables_is_of_the_vocabulary() -> None:
    assert {key for _, _, key in standard_map().rows} <= VOCABULARY.keys()


def test_no_word_means_two_things() -> None:
    rows = standard_map().rows
    assert all(len(standard_map().keys(scheme, code)) == 1 for scheme, code, _ in rows)


@pytest.mark.parametrize(
    ("scheme", "code", "key"),
    [
        (SCT, "164889003", "atrial_fibrillation"),
        (SCP, "CLBBB", "lbbb"),
        (SCP, "ASMI", "myocardial_infarction"),
        (ICD10, "I48.91", "atrial_fibrillation"),
        (ICD10, "i2510", None),
        (ICD10, "I21.09", "myocardial_infarction"),
        (ICD10, "I48.9", None),
        (ICD10, "I4", None),
        (AHA, "105", "incomplete_rbbb"),
        (NAME, "Left  Bundle-branch block", "lbbb"),
        (NAME, "gibberish", None),
    ],
)
def test_word_of_a_scheme_means_its_key(scheme: str, code: str, key: str | None) -> None:
    assert standard_map().keys(scheme, code) == ((key,) if key else ())


def test_codes_lead_from_one_scheme_to_another() -> None:
    (key,) = standard_map().keys(AHA, "50")
    assert standard_map().codes(key, SCP) == ("AFIB",)
    assert standard_map().codes(key, SCT)[0] == "164889003"


def test_map_of_a_site_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("scheme,code,key\nname,Vorhofflimmern,atrial_fibrillation\nNAME,SB,tako\n")
    words = standard_map().with_rows(read_map(path))
    assert words.keys_of_word("VORHOFFLIMMERN") == ("atrial_fibrillation",)
    assert words.keys(NAME, "SB") == ("tako",)
    assert isinstance(words, LabelMap)


@pytest.mark.parametrize("text", ["code,key\nx,y\n", "scheme,code,key\nICD9,x,y\n"])
def test_map_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"column|none of"):
        read_map(path)


# Verified reports


def code(value: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "x"
    return item


def over_read(path: Path, waveform: Dataset, **changes: Any) -> Path:
    """Write a report of another product that a physician signed."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = waveform.SOPClassUID
    reference.ReferencedSOPInstanceUID = waveform.SOPInstanceUID
    wave, finding, container = Dataset(), Dataset(), Dataset()
    wave.ValueType, wave.ReferencedSOPSequence = "WAVEFORM", [reference]
    finding.ValueType, finding.ConceptCodeSequence = "CODE", [code("164909002")]
    container.ValueType, container.ContentSequence = "CONTAINER", [finding]
    signer = Dataset()
    signer.VerifyingObserverName, signer.VerificationDateTime = "Canary^Dora", "20240620101500"
    report = Dataset()
    report.file_meta = waveform.file_meta
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SOPInstanceUID = "2.25.99"
    report.Modality, report.VerificationFlag = "SR", "VERIFIED"
    report.VerifyingObserverSequence = [signer]
    report.ContentSequence = [wave, container]
    for keyword, value in changes.items():
        setattr(report, keyword, value)
    path.write_bytes(encoded(report))
    return path


def test_verified_report_labels_the_recording_it_refers_to(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    rows = read_over_reads([over_read(tmp_path / "sr.dcm", dicom_ecg(0, "P0"))], corpus)
    (found,) = rows.labels
    assert corpus.resolve("ecg0.dcm") == (found.record,)
    assert (found.key, found.value, found.origin) == ("lbbb", P, Origin.OVER_READ)
    assert found.time == "2024-04"
    assert found.author
    assert "Canary" not in repr(found)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"VerificationFlag": "UNVERIFIED"}, Fault.NOT_VERIFIED),
        ({"ManufacturerModelName": PRODUCT}, Fault.AI),
        ({"ContentSequence": []}, Fault.NO_RECORD),
    ],
)
def test_report_that_is_no_over_read_has_a_sentence(
    tmp_path: Path, changes: dict[str, Any], fault: Fault
) -> None:
    corpus = small_corpus(tmp_path, patients=1, each=1)
    rows = read_over_reads([over_read(tmp_path / "sr.dcm", dicom_ecg(0), **changes)], corpus)
    assert not rows.labels
    assert [problem.fault for problem in rows.problems] == [fault]


@pytest.mark.slow
def test_over_reads_are_fetched_from_the_pacs(tmp_path: Path, run: Run) -> None:
    """Orthanc holds an ECG of the corpus with two reports, one signed; and a report without ECG."""
    corpus = small_corpus(tmp_path / "of", patients=1, each=1)
    waveform = dicom_ecg(0, "P0")
    waveform.StudyDate = "20240517"
    place = {
        "PatientID": "P0",
        "StudyDate": "20240517",
        "StudyInstanceUID": waveform.StudyInstanceUID,
        "SeriesInstanceUID": "2.25.1",
    }
    elsewhere = place | {"StudyInstanceUID": "2.25.4", "SeriesInstanceUID": "2.25.6"}
    reports = [
        over_read(tmp_path / "a.dcm", waveform, **place),
        over_read(
            tmp_path / "b.dcm", waveform, SOPInstanceUID="2.25.3", VerificationFlag="UNVERIFIED",
            **place,
        ),
        over_read(tmp_path / "c.dcm", waveform, SOPInstanceUID="2.25.5", **elsewhere),
    ]  # fmt: skip
    asked = ("labels", "fetch", "--from", "2024-05-16", "--to", "2024-05-18", "--json")
    with running_orthanc(tmp_path / "orthanc", node_port=free_port(), dicomweb=True) as orthanc:
        for data in (encoded(waveform), *(path.read_bytes() for path in reports)):
            orthanc.upload(data)
        source = f'[[sources]]\nname = "pacs"\nurl = "{orthanc.dicomweb}"\n'
        (tmp_path / "sinusnode.toml").write_text(source)
        done = run(*asked, "--corpus", corpus.folder)
    assert done.status == 0, done.err
    (summary,) = done.documents
    assert (summary["rows"], summary["labels"], summary["problems"]) == (2, 1, {"not-verified": 1})
    assert [(label.key, label.origin) for label in corpus.labels.labels] == [
        ("lbbb", Origin.OVER_READ)
    ]
    gone = run(*asked, "--corpus", corpus.folder)
    assert gone.status == 3
    assert "pacs does not answer" in gone.err


def test_over_reads_cannot_be_fetched_by_move_alone(tmp_path: Path, run: Run) -> None:
    corpus = Corpus.create(tmp_path / "corpus")
    (tmp_path / "sinusnode.toml").write_text(
        '[[sources]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
    )
    done = run("labels", "fetch", "--from", "2024-05-17", "--corpus", corpus.folder)
    assert done.status == 1
    assert "C-MOVE alone" in done.err


def test_file_that_is_no_report_has_a_sentence(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=1, each=1)
    (tmp_path / "x.dcm").write_bytes(b"none")
    rows = read_over_reads([tmp_path / "x.dcm", tmp_path / "absent.dcm"], corpus)
    assert [problem.fault for problem in rows.problems] == 2 * [Fault.NOT_A_REPORT]


# What the file itself says


def test_carts_statement_is_a_vendor_label_and_not_taught_by_default(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=1, each=1)
    assert not corpus.labels.labels
    folder = tmp_path / "wfdb"
    folder.mkdir()
    samples = np.round(np.random.default_rng(0).normal(size=(1000, 1)) * 200).astype("<i2")
    (folder / "a.dat").write_bytes(samples.tobytes())
    (folder / "a.hea").write_text(
        "a 1 500 1000\na.dat 16 200/mV 16 0 0 0 0 II\n#Age: 64\n#Sex: F\n#Dx: 164889003,999\n"
    )
    imported(corpus, folder, "B")
    (found,) = corpus.labels.labels
    assert (found.key, found.origin) == ("atrial_fibrillation", Origin.CODE)
    assert not corpus.labels.select(origins=TAUGHT_BY_DEFAULT).labels


def test_tables_patient_groups_recordings_that_did_not_say(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "corpus")
    for seed in range(2):
        write_dicom(tmp_path / "more" / f"{seed}.dcm", seed)
    imported(corpus, tmp_path / "more")
    assert len({record.patient for record in corpus.records}) == 2
    corpus.regroup({record.id: "4711" for record in corpus.records})
    assert len({record.patient for record in corpus.records}) == 1
    assert all(record.patient_stated for record in corpus.records)


def test_a_normal_axis_of_ludb_is_no_normal_ecg(tmp_path: Path) -> None:
    folder = tmp_path / "ludb"
    folder.mkdir()
    rows = [
        "1,60,M,Sinus rhythm,normal,Left ventricular hypertrophy",
        "2,60,M,Atrial fibrillation,normal,",
        "3,60,M,Sinus bradycardia,normal,",
        "4,60,M,Sinus rhythm,left axis deviation,Left anterior hemiblock",
        "5,60,M,Sinus rhythm,normal,",
        "6,60,M,Sinus rhythm,,",
    ]
    (folder / "labels.csv").write_text("\n".join(["record,age,sex,rhythm,axis,diagnoses", *rows]))
    found = [dict(item.labels) for item in items(folder) or ()]
    assert [one.get("normal", U) for one in found] == [A, A, U, A, P, P]
    assert [one.get("left_axis", U) for one in found] == [A, A, A, P, A, U]


def test_doubtful_diagnosis_of_a_database_is_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "multisource12"
    folder.mkdir()
    head = "dataset,record,age,sex,snomed,aha_code,ptbxl_scp,ptbxl_patient,file"
    rows = [
        "PTB-XL,A,60,Male,,,\"{'LVH': 35.0, 'LAFB': 100.0, 'SR': 0.0}\",7,wfdb/A",
        "CPSC2018,B,60,Male,59118001,,,,wfdb/B",
    ]
    (folder / "labels.csv").write_text("\n".join([head, *rows]))
    found = items(folder)
    assert found is not None
    one, two = (dict(item.labels) for item in found)
    assert one.get("lvh", U) is U
    assert (one["lafb"], one["sinus_rhythm"]) == (P, P)
    assert one["lbbb"] is A
    assert two["rbbb"] is P
    assert "lafb" not in two
