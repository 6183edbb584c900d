"""The node's archive: only what is declared is kept, under names that nobody can guess."""

import json
import multiprocessing
import stat
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cart import push
from corpora import dicom_ecg, ecg
from hypothesis import given
from hypothesis import strategies as st
from node import poll
from pydicom.dataset import Dataset

import analysis
from analysis.ecg import ECG, Acquisition, Code, Lead, Patient, Recording, Sex, VendorStatement
from analysis.formats import dicom
from dicom_node import archive
from dicom_node.archive import Archive, Facts, Pseudonyms, decode, digest, encode
from dicom_node.pipeline import patient_key
from dicom_node.report.objects import PRODUCT
from dicom_node.settings import Archive as Section
from dicom_node.settings import Settings, Storage

CANARY = "KANARIENVOGEL"


def facts() -> Facts:
    recording = Recording(ecg=ecg(0), format="simulated")
    return Facts.of(recording, patient="p", site="A", ai_visible=False)


def make(folder: Path) -> Archive:
    kept = Archive.of(Settings(storage=Storage(folder=folder), archive=Section(keep=True)))
    assert kept is not None
    return kept


def keep(kept: Archive, source: Dataset) -> Path | None:
    recording = dicom.decode(source)
    return kept.keep(source, recording, patient=patient_key(source), ai_visible=True)


def of_samples(samples: Any, rate: float = 500.0) -> ECG:
    leads = tuple(Lead)[: len(samples)]
    return ECG(signal=np.asarray(samples, np.float32), leads=leads, sampling_frequency=rate)


def stored(made: ECG) -> Any:
    with np.load(BytesIO(encode(made, facts()))) as arrays:
        return arrays["samples"].dtype


@given(
    step=st.sampled_from([0.0025, 0.001, 0.00488, 1 / 1716, 0.005, 0.00122, 1e-6 / 3]),
    counts=st.lists(st.integers(-30_000, 30_000), min_size=2, max_size=200),
    offset=st.integers(-2_000, 2_000),
)
def test_every_signal_comes_back_bit_by_bit(step: float, counts: list[int], offset: int) -> None:
    made = of_samples([(np.array(counts) + offset) * step, np.array(counts) * step])
    back, _ = decode(encode(made, facts()))
    np.testing.assert_array_equal(back.signal, made.signal)
    assert digest(back) == digest(made)


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=False), min_size=1))
def test_signal_that_was_never_quantised_comes_back_too(values: list[float]) -> None:
    made = of_samples([values])
    back, _ = decode(encode(made, facts()))
    np.testing.assert_array_equal(back.signal, made.signal)


@pytest.mark.parametrize("step", [0.0025, 0.001, 0.00488, 1 / 1716])
def test_samples_of_a_cart_are_kept_as_whole_numbers(step: float) -> None:
    random = np.random.default_rng(0)
    assert stored(of_samples((random.integers(-1500, 1500, (12, 5000)) + 3000) * step)) == np.int16
    assert stored(of_samples(random.integers(-90_000, 90_000, (2, 50_000)) * step)) == np.int32
    assert stored(of_samples(random.normal(size=(2, 5000)))) == np.float32


def test_gap_stays_a_gap() -> None:
    samples = np.arange(100.0)[None] * 0.005
    samples[0, 10:20] = np.nan
    made = of_samples(samples)
    assert stored(made) == np.int16
    np.testing.assert_array_equal(decode(encode(made, facts()))[0].signal, made.signal)


def test_digest_is_of_the_signal_and_not_of_its_encoding() -> None:
    one = ecg(1)
    turned = one.select(reversed(one.leads))
    assert digest(one) == digest(turned)
    slower = ECG(signal=one.signal, leads=one.leads, sampling_frequency=200.0)
    assert len({digest(one), digest(ecg(2)), digest(slower)}) == 3


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 torn", b"no archive at all"])
def test_damaged_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the kind is the promise
        decode(data)


# What is declared


def test_facts_are_coarse() -> None:
    recording = Recording(
        ecg=ecg(0),
        format="DICOM 12-lead ECG",
        patient=Patient(age=97.4, sex=Sex.FEMALE, identifier="4711"),
        acquisition=Acquisition(manufacturer="Mortara Instrument, Inc.", model=CANARY),
        vendor_statements=(
            VendorStatement(text="Atrial fibrillation"),
            VendorStatement(text="x", code=Code("SCT", "164909002", "")),
            VendorStatement(text=f"Patient is {CANARY}"),
        ),
    )
    found = Facts.of(recording, patient="p", site="A", ai_visible=True)
    assert (found.age, found.sex, found.device) == (90, Sex.FEMALE, "mortara")
    assert found.statements == ("atrial_fibrillation", "lbbb")
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("said", "maker"),
    [
        ("GE Healthcare", "ge"),
        ("NIHON KOHDEN", "nihon"),
        ("Gerda", "other"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_maker_is_one_of_a_list(said: str | None, maker: str) -> None:
    assert archive.maker(said) == maker


def test_nothing_of_the_object_but_the_facts_is_in_the_archive(tmp_path: Path) -> None:
    source = dicom_ecg(
        1,
        f"{CANARY}-ID",
        PatientName=CANARY,
        InstitutionName=CANARY,
        StationName=CANARY,
        Manufacturer=CANARY,
        AccessionNumber=CANARY,
        StudyDescription=CANARY,
        ImageComments=CANARY,
    )
    path = keep(make(tmp_path), source)
    assert path is not None
    everything = path.read_bytes() + str(path).encode()
    for trace in (CANARY, str(source.SOPInstanceUID), str(source.StudyInstanceUID), "2024051"):
        assert trace.encode() not in everything
    found, declared = decode(path)
    assert declared.quarter == "2024Q2"
    assert declared.ai_visible
    np.testing.assert_array_equal(found.signal, dicom.decode(source).ecg.signal)
    assert path.stat().st_mtime == path.parent.stat().st_mtime == 1711929600  # 1 April 2024


def test_recordings_of_one_patient_lie_together_and_each_is_written_once(tmp_path: Path) -> None:
    kept = make(tmp_path)
    paths = {keep(kept, dicom_ecg(seed, "4711")) for seed in (1, 2, 1)}
    other = keep(kept, dicom_ecg(3, "4712"))
    assert None not in paths
    assert len(paths) == 2
    assert other is not None
    assert {path.parent for path in paths if path} != {other.parent}
    assert len(list(archive.recordings(kept.folder))) == 3


def test_own_object_never_enters(tmp_path: Path) -> None:
    item = Dataset()
    item.ManufacturerModelName = PRODUCT
    annotated = dicom_ecg(1, "4711", ContributingEquipmentSequence=[item])
    assert keep(make(tmp_path), annotated) is None


def test_ecg_without_a_patient_id_is_not_kept(tmp_path: Path) -> None:
    kept = make(tmp_path)
    assert keep(kept, dicom_ecg(1, None)) is None
    assert not list(archive.recordings(kept.folder))


def test_who_withdrew_is_gone_and_does_not_come_back(tmp_path: Path) -> None:
    kept = make(tmp_path)
    for seed in (1, 2):
        keep(kept, dicom_ecg(seed, "4711"))
    keep(kept, dicom_ecg(3, "4712"))
    pseudonym = kept.pseudonyms("patient", patient_key(dicom_ecg(1, "4711")) or "")
    assert kept.withdraw(pseudonym) == 2
    assert keep(kept, dicom_ecg(4, "4711")) is None
    assert kept.withdrawn == {pseudonym}
    assert len(list(archive.recordings(kept.folder))) == 1


@pytest.mark.parametrize("name", ["..", "", "../../etc", "4711", "withdrawn"])
def test_what_is_no_pseudonym_removes_nothing(tmp_path: Path, name: str) -> None:
    kept = make(tmp_path)
    path = keep(kept, dicom_ecg(1, "4711"))
    with pytest.raises(ValueError, match="pseudonym"):
        kept.withdraw(name)
    assert path is not None
    assert path.exists()


def test_who_withdraws_while_an_ecg_is_written_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make(tmp_path)
    pseudonym = kept.pseudonyms("patient", patient_key(dicom_ecg(1, "4711")) or "")

    def meanwhile(path: Path, data: bytes, *, durable: bool = False) -> None:
        kept.withdraw(pseudonym)
        path.parent.mkdir(exist_ok=True)
        original(path, data, durable=durable)

    original = archive.write
    monkeypatch.setattr(archive, "write", meanwhile)
    assert keep(kept, dicom_ecg(1, "4711")) is None
    assert not list(archive.recordings(kept.folder))


def test_full_disk_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(archive, "write", full)
    assert keep(make(tmp_path), dicom_ecg(1, "4711")) is None


# The key


def test_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    key = tmp_path / archive.KEY
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert first.pseudonyms("patient", "1") == second.pseudonyms("patient", "1")
    assert first.pseudonyms("patient", "1") != first.pseudonyms("instance", "1")
    assert archive.FOLDER not in key.parts
    assert str(key.read_bytes()) not in repr(first)


def _name(path: Path) -> str:
    return Pseudonyms.of(path)("patient", "1")


def test_workers_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(_name, [tmp_path / "key"] * 16))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / archive.KEY).chmod(0o640)
    settings = Settings(storage=Storage(folder=tmp_path), archive=Section(keep=True))
    assert Archive.of(settings) is None
    with pytest.raises(PermissionError, match="600"):
        Pseudonyms.of(tmp_path / archive.KEY)


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert Archive.of(Settings(storage=Storage(folder=tmp_path))) is None
    assert not list(tmp_path.iterdir())


# In the node


def test_node_keeps_what_it_reported(make_node: Any, pacs: Any) -> None:
    node = make_node(destinations={"PACS": pacs.port}, overrides={"ARCHIVE__KEEP": "true"}).start()
    source = dicom_ecg(1, "4711", PatientSex="F", PatientAge="064Y")
    assert push(node.address, source) == [0]
    folder = node.folder / "data" / archive.FOLDER
    assert poll(lambda: list(archive.recordings(folder)))
    (path,) = archive.recordings(folder)
    found, declared = decode(path)
    np.testing.assert_array_equal(found.signal, dicom.decode(source).ecg.signal)
    assert (declared.age, declared.sex, declared.quarter) == (64, Sex.FEMALE, "2024Q2")
    assert json.dumps("4711") not in path.read_bytes().decode("latin-1")
    assert stat.S_IMODE((node.folder / "data" / archive.KEY).stat().st_mode) == 0o600
    assert analysis.measure(found).heart_rate.value is not None
