"""The corpus: each file is counted once, caches are what is served, who leaves is gone."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import RECIPE, dicom_ecg, imported, small_corpus, write_dicom, write_plain
from pydicom.dataset import Dataset
from support import shared

import analysis
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.formats import dicom
from analysis.recipe import Length, Normalisation
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from dicom_node import archive
from dicom_node.archive import Archive, Pseudonyms
from dicom_node.pipeline import patient_key
from dicom_node.report.objects import PRODUCT
from training import caches
from training.corpus import CACHES, INDEX, Corpus
from training.corpus_report import describe, report
from training.databases import DATABASES, items
from training.importing import Fate, counts, import_archive, import_folder, import_items
from training.labels import Label, LabelTable, Origin, Value
from training.splits import Order, make_split


def label(record: str, key: str, value: Value = Value.PRESENT, **changes: Any) -> Label:
    return Label(record=record, key=key, value=value, **({"origin": Origin.REVIEWER} | changes))


# Import


def test_every_file_ends_in_exactly_one_count(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "a.dcm", 1, "P1")
    write_dicom(source / "copy" / "b.dcm", 1, "P1")
    write_plain(source / "c.npz", 2)
    (source / "README.md").write_text("words")
    (source / "torn.dcm").write_bytes((source / "a.dcm").read_bytes()[:900])
    (source / "letter.txt").write_text("no ECG")
    corpus = Corpus.create(tmp_path / "corpus")
    found = counts(imported(corpus, source))
    assert found["files"] == 6 == sum(found[str(fate)] for fate in Fate)
    assert (found["stored"], found["duplicate"], found["skipped"], found["refused"]) == (2, 1, 1, 2)
    assert sum(found["reasons"].values()) == 2
    again = counts(imported(corpus, source))
    assert (again["known"], again["stored"], again["refused"]) == (3, 0, 2)


def test_recording_is_kept_bit_by_bit_and_its_facts_are_coarse(tmp_path: Path) -> None:
    source = write_dicom(tmp_path / "source" / "a.dcm", 1, "P1", PatientAge="097Y", PatientSex="M")
    corpus = Corpus.create(tmp_path / "corpus")
    (outcome,) = imported(corpus, source.parent)
    (record,) = corpus.records
    assert outcome.record == record.id
    np.testing.assert_array_equal(corpus.ecg(record.id).signal, analysis.read(source).ecg.signal)
    assert (record.age, record.sex, record.quarter, record.site) == (90, "M", "2024Q2", "A")
    assert record.leads == STANDARD_12
    assert record.duration == 3.0
    with pytest.raises(KeyError):
        corpus.ecg("0" * 32)


def test_no_name_is_in_the_corpus(tmp_path: Path) -> None:
    canary = "KANARIENVOGEL"
    source = tmp_path / "source" / canary / f"{canary}-4711.dcm"
    write_dicom(source, 1, canary, PatientName=canary, InstitutionName=canary)
    corpus = Corpus.create(tmp_path / "corpus")
    imported(corpus, tmp_path / "source")
    assert corpus.resolve(f"{canary}-4711")
    for path in corpus.folder.rglob("*"):
        assert canary not in path.name
        if path.is_file():
            assert canary.encode() not in path.read_bytes()


def test_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for seed in range(5):
        write_dicom(source / f"{seed}.dcm", seed, "P1")
    corpus = Corpus.create(tmp_path / "corpus")

    def dying(found: Iterable[Any], total: int) -> Iterable[Any]:
        yield from list(found)[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(import_folder(corpus, source, site="A", processes=1, track=dying))
    assert counts(imported(corpus, source))["stored"] == 5
    assert len(corpus.records) == 5


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for seed in range(6):
        write_plain(source / f"{seed}.npz", seed)
    one, two = Corpus.create(tmp_path / "one"), Corpus.create(tmp_path / "two")
    imported(one, source)
    list(import_folder(two, source, site="A", processes=2))
    assert [record.id for record in one.records] == [record.id for record in two.records]
    np.testing.assert_array_equal(
        one.cache(RECIPE, processes=1).signal, two.cache(RECIPE, processes=2).signal
    )


def test_patients_are_grouped_as_their_files_say(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=3, each=2)
    assert len({record.patient for record in corpus.records}) == 3
    assert all(record.patient_stated for record in corpus.records)
    other = Corpus.create(tmp_path / "other")
    imported(other, tmp_path / "source")
    assert not {r.patient for r in other.records} & {r.patient for r in corpus.records}


def test_same_patient_id_at_two_sites_is_two_patients(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "corpus")
    for site, seed in (("A", 1), ("B", 2)):
        write_dicom(tmp_path / site / "ecg.dcm", seed, "1")
        imported(corpus, tmp_path / site, site)
    assert len({record.patient for record in corpus.records}) == 2
    assert len(corpus.resolve("ecg.dcm")) == 2
    assert len(corpus.resolve("ecg.dcm", site="A")) == 1


def test_same_recording_of_two_patients_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "a.dcm", 1, "P1")
    write_dicom(source / "b.dcm", 1, "P2")
    outcomes = imported(Corpus.create(tmp_path / "corpus"), source)
    assert [item.reason for item in outcomes] == [None, "two-patients"]
    assert "another patient" in str(outcomes[1].message)


def test_later_file_that_names_the_patient_adds_that(tmp_path: Path) -> None:
    corpus = Corpus.create(tmp_path / "corpus")
    write_dicom(tmp_path / "one" / "a.dcm", 1, None)
    imported(corpus, tmp_path / "one")
    assert not corpus.records[0].patient_stated
    write_dicom(tmp_path / "two" / "a.dcm", 1, "P1")
    write_dicom(tmp_path / "two" / "b.dcm", 2, "P1")
    imported(corpus, tmp_path / "two")
    assert len({record.patient for record in corpus.records}) == 1


def test_our_own_objects_never_enter(tmp_path: Path) -> None:
    item = Dataset()
    item.ManufacturerModelName = PRODUCT
    source = tmp_path / "source"
    write_dicom(source / "annotated.dcm", 1, "P1", ContributingEquipmentSequence=[item])
    write_dicom(source / "made.dcm", 2, "P1", ManufacturerModelName=PRODUCT)
    corpus = Corpus.create(tmp_path / "corpus")
    assert {outcome.reason for outcome in imported(corpus, source)} == {"own-object"}
    assert not corpus.records
    assert not list(corpus.folder.rglob(f"*{archive.SUFFIX}"))


def test_folder_without_a_corpus_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no corpus"):
        Corpus(tmp_path)


# The node's archive


def kept_by_a_node(folder: Path) -> Archive:
    kept = Archive(folder=folder, pseudonyms=Pseudonyms.of(folder.parent / archive.KEY), site="H")
    for seed, patient in enumerate(("4711", "4711", "4712")):
        source = dicom_ecg(seed, patient)
        kept.keep(source, dicom.decode(source), patient=patient_key(source), ai_visible=True)
    return kept


def test_archive_is_taken_over_with_its_pseudonyms(tmp_path: Path) -> None:
    kept = kept_by_a_node(tmp_path / "data" / "archive")
    corpus = Corpus.create(tmp_path / "corpus")
    assert counts(import_archive(corpus, kept.folder, processes=1))["stored"] == 3
    assert counts(import_archive(corpus, kept.folder, processes=1))["known"] == 3
    assert {record.site for record in corpus.records} == {"H"}
    assert all(record.ai_visible for record in corpus.records)
    patient = kept.pseudonyms("patient", patient_key(dicom_ecg(0, "4711")) or "")
    assert [record.patient for record in corpus.records].count(patient) == 2


def test_who_withdrew_at_the_node_leaves_the_corpus_too(tmp_path: Path) -> None:
    kept = kept_by_a_node(tmp_path / "data" / "archive")
    corpus = Corpus.create(tmp_path / "corpus")
    list(import_archive(corpus, kept.folder, processes=1))
    kept.withdraw(kept.pseudonyms("patient", patient_key(dicom_ecg(0, "4711")) or ""))
    list(import_archive(corpus, kept.folder, processes=1))
    assert len(corpus.records) == 1


# Caches


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        replace(RECIPE, normalisation=Normalisation.LEAD, high_pass=0.5, low_pass=40.0),
        replace(RECIPE, samples=200, length=Length.CROP_CENTRE, unit="uV"),
        replace(RECIPE, samples=100, stride=100, leads=(Lead.V1, Lead.aVF)),
    ],
)
def test_cache_is_what_serving_computes(tmp_path: Path, recipe: analysis.Recipe) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    cache = corpus.cache(recipe, processes=1)
    for path in (tmp_path / "source").glob("*.dcm"):
        (record,) = corpus.resolve(path.name)
        served = standardise(analysis.read(path).ecg, recipe)
        np.testing.assert_array_equal(cache.signal[cache.rows([record])], served.windows)
        if recipe.length is not Length.WINDOWS:
            np.testing.assert_array_equal(cache.signal[cache.rows([record])[0]], served.signal)
    assert cache.signal.dtype == np.float32
    assert not cache.signal.flags.writeable


def test_recording_that_a_model_cannot_read_has_no_row_and_a_reason(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    cache = corpus.cache(replace(RECIPE, samples=1000, minimum_seconds=5.0), processes=1)
    assert len(cache.unusable) == 2
    assert cache.signal.shape == (0, 12, 1000)
    assert "needs 5 s" in next(iter(cache.unusable.values()))


def test_damaged_recording_is_counted_and_the_others_are_used(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    broken, whole = corpus.records
    corpus.path(broken.id).write_bytes(b"torn")
    cache = corpus.cache(RECIPE, processes=1)
    assert cache.ids == (whole.id,)
    assert "damaged" in cache.unusable[broken.id]


def test_cache_is_made_once_and_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    made: list[str] = []

    def counting(recipe: Any, item: tuple[str, Path]) -> Any:
        made.append(item[0])
        return original(recipe, item)

    original = caches._make
    monkeypatch.setattr(caches, "_make", counting)
    first = corpus.cache(RECIPE, processes=1)
    corpus.cache(RECIPE, processes=1)
    write_dicom(tmp_path / "source" / "late.dcm", 99, "P9")
    imported(corpus, tmp_path / "source")
    grown = corpus.cache(RECIPE, processes=1)
    assert len(made) == 3 == len(grown.ids)
    np.testing.assert_array_equal(grown.signal[grown.rows(first.ids)], first.signal)


def test_cache_of_other_code_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = small_corpus(tmp_path, patients=1, each=1)
    corpus.cache(RECIPE, processes=1)
    monkeypatch.setattr(caches, "_code", lambda: "another version")
    assert caches.open_cache(corpus.folder / CACHES / RECIPE.digest) is None
    assert len(corpus.cache(RECIPE, processes=1).ids) == 1


def test_cache_that_a_crash_left_half_is_made_again(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    whole = np.array(corpus.cache(RECIPE, processes=1).signal)
    values = corpus.folder / CACHES / RECIPE.digest / "values.f32"
    values.write_bytes(values.read_bytes()[:-4])
    np.testing.assert_array_equal(corpus.cache(RECIPE, processes=1).signal, whole)


_DYING = """
import os, sys
from pathlib import Path
from training import caches
from training.corpus import Corpus
sys.path.insert(0, {tests!r})
from corpora import RECIPE
def dying(items, total):
    for number, item in enumerate(items):
        if number == 2:
            os.kill(os.getpid(), 9)
        yield item
Corpus({folder!r}).cache(RECIPE, processes=1, track=dying)
"""


def test_build_that_is_killed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=4, each=1)
    tests = str(Path(__file__).resolve().parents[1])
    code = _DYING.format(tests=tests, folder=str(corpus.folder))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert caches.open_cache(corpus.folder / CACHES / RECIPE.digest) is None
    assert len(corpus.cache(RECIPE, processes=1).ids) == 4


# Withdrawal


def test_withdrawal_reaches_everything(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=5, each=2)
    records = corpus.records
    leaving = records[0].patient
    theirs = [record.id for record in records if record.patient == leaving]
    corpus.add_labels(label(record.id, "pvc", Value.PRESENT) for record in records)
    corpus.cache(RECIPE, processes=1)
    rows = ((record.id, np.zeros((1, 8), np.float32)) for record in records)
    caches.publish(corpus.embeddings("abc"), rows, (8,), {})
    values = [Value.PRESENT, Value.ABSENT]
    table = LabelTable(tuple(label(r.id, "k", values[n % 2]) for n, r in enumerate(records)))
    make_split(records, table, Order()).save(corpus.splits / "main.json")
    corpus.learned("model-1", [record.id for record in records])
    corpus.learned("model-2", [r.id for r in records if r.patient != leaving])

    done = corpus.withdraw(leaving)

    assert (done.recordings, done.labels, done.caches, done.embeddings, done.splits) == (
        2, 2, 1, 1, 1,
    )  # fmt: skip
    assert done.models == ("model-1",)
    assert {item.model: item.withdrawn for item in corpus.learners} == {"model-1": 2, "model-2": 0}
    assert len(corpus.records) == 8
    assert not any(corpus.path(record).exists() for record in theirs)
    assert not set(theirs) & {item.record for item in corpus.labels.labels}
    text = (corpus.splits / "main.json").read_text()
    assert not any(record in text for record in theirs)
    assert not corpus.embeddings("abc").exists()
    assert not set(theirs) & set(corpus.cache(RECIPE, processes=1).ids)
    assert any("withdrew since" in sentence for sentence in report(corpus).warnings)


def test_who_withdrew_does_not_come_back_by_another_import(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    corpus.withdraw(corpus.records[0].patient)
    outcomes = imported(corpus, tmp_path / "source")
    assert sorted(item.fate for item in outcomes) == [Fate.KNOWN, Fate.REFUSED]
    assert {item.reason for item in outcomes} == {None, "withdrawn"}
    assert len(corpus.records) == 1
    assert len(list(corpus.folder.rglob(f"*{archive.SUFFIX}"))) == 1


def test_withdrawal_that_was_interrupted_hides_at_once_and_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = small_corpus(tmp_path, patients=2, each=1)
    leaving = corpus.records[0]

    def crash(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Corpus, "_forget", crash)
    with pytest.raises(KeyboardInterrupt):
        corpus.withdraw(leaving.patient)
    monkeypatch.undo()
    assert leaving.id not in {record.id for record in corpus.records}
    assert corpus.withdraw(leaving.patient).recordings == 1
    with closing(sqlite3.connect(corpus.folder / INDEX)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM record").fetchone() == (1,)


# The report


def of_sites(folder: Path, present: dict[str, list[bool]]) -> Corpus:
    """Return a corpus of two sites, with a label that is present as stated."""
    corpus = Corpus.create(folder / "corpus")
    seed = 0
    for site, values in present.items():
        for value in values:
            write_plain(folder / site / f"{seed}.npz", seed)
            imported(corpus, folder / site, site)
            (record,) = corpus.resolve(f"{seed}.npz")
            corpus.add_labels([label(record, "lvh", Value.PRESENT if value else Value.ABSENT)])
            seed += 1
    return corpus


def test_label_that_is_constant_at_each_site_is_told_loudly(tmp_path: Path) -> None:
    found = report(of_sites(tmp_path, {"A": [True] * 5, "B": [False] * 5}))
    (association,) = [item for item in found.associations if item.constant]
    assert (association.key, association.confounder) == ("lvh", "site")
    assert association.mutual_information == pytest.approx(1.0)
    assert any("would learn the site" in sentence for sentence in found.warnings)


def test_label_that_is_spread_over_the_sites_is_not(tmp_path: Path) -> None:
    found = report(of_sites(tmp_path, {"A": [True, False] * 3, "B": [False, True] * 3}))
    assert found.associations[0].cramers_v == pytest.approx(0.0, abs=1e-9)
    assert not any("lvh" in sentence for sentence in found.warnings)
    assert any("do not say whose" in sentence for sentence in found.warnings)


def test_report_counts_and_can_be_stored(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=3, each=2)
    ids = [record.id for record in corpus.records]
    corpus.add_labels([label(ids[0], "pvc"), label(ids[1], "pvc", Value.ABSENT)])
    corpus.add_labels([label(ids[1], "pvc", author="another"), label(ids[2], "lvh")])
    found = report(corpus)
    pvc = found.labels[0]
    assert (pvc.present, pvc.absent, pvc.unknown, pvc.contradictory) == (1, 0, 5, 1)
    assert (found.recordings, found.patients, found.unlabelled) == (6, 3, 4)
    assert json.loads(json.dumps(found.to_mapping()))["rates"] == {"250": 6}
    assert "pvc" in describe(found)


def test_patient_in_two_parts_of_a_stored_split_is_told(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, patients=1, each=2)
    one, two = (record.id for record in corpus.records)
    document = {"train": [one], "test": [two], "seed": 0, "way": "stratified"}
    corpus.splits.mkdir()
    (corpus.splits / "made-elsewhere.json").write_text(json.dumps(document))
    assert any("several parts" in sentence for sentence in report(corpus).warnings)


def test_empty_corpus_has_a_report(tmp_path: Path) -> None:
    found = report(Corpus.create(tmp_path / "corpus"))
    assert (found.recordings, found.labels, found.warnings) == (0, (), ())


# Real data


@pytest.mark.parametrize("name", sorted(DATABASES))
def test_public_database_enters_with_its_labels(tmp_path: Path, name: str) -> None:
    folder = shared("data", name)
    found = items(folder)
    assert found is not None
    some = list(found)[::25]
    corpus = Corpus.create(tmp_path / "corpus")
    outcomes = list(import_items(corpus, some, folder, processes=1))
    assert {item.fate for item in outcomes} <= {Fate.STORED, Fate.DUPLICATE, Fate.SKIPPED}
    assert bool(corpus.labels.labels) == (name != "mitdb_ds1")
    for record in corpus.records[:3]:
        assert corpus.ecg(record.id).samples == record.samples


def test_real_files_of_every_encoding_come_back_bit_by_bit(tmp_path: Path) -> None:
    folder = shared("ecg")
    corpus = Corpus.create(tmp_path / "corpus")
    chosen = [folder / name for name in ("dicom", "scp", "ge_muse_xml", "hl7_aecg", "edf")]
    for part in chosen:
        for outcome in imported(corpus, part):
            if outcome.fate is Fate.STORED and outcome.record:
                read = analysis.read(outcome.file).ecg
                np.testing.assert_array_equal(corpus.ecg(outcome.record).signal, read.signal)


def test_any_lead_and_rate_can_be_stored(tmp_path: Path) -> None:
    one = simulate(Kind.SINUS, duration=2.0, sampling_frequency=257.3).ecg
    single = ECG(signal=one.signal[1:2], leads=(Lead.MLII,), sampling_frequency=257.3)
    recording = analysis.Recording(ecg=single, format="simulated")
    path = tmp_path / "source" / "a.npz"
    path.parent.mkdir()
    analysis.write(recording, path)
    corpus = Corpus.create(tmp_path / "corpus")
    imported(corpus, path.parent)
    (record,) = corpus.records
    assert (record.leads, record.sampling_frequency) == ((Lead.MLII,), 257.3)
