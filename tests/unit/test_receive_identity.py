"""The receiver's peek at an object's identity, and the file meta it puts before the bytes."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from cart import CART_FILE
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.ledger import Ledger
from dicom_node.reasons import Refusal
from dicom_node.receive import (
    MISMATCH,
    OUT_OF_RESOURCES,
    SUCCESS,
    Committer,
    PinnedPlan,
    Receiver,
    identity,
)
from dicom_node.report import part10
from dicom_node.settings import Dicom, Storage
from dicom_node.spool import Spool
from dicom_node.wire import Caller

TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"
uids = st.lists(st.integers(0, 10**8), min_size=2, max_size=6).map(
    lambda parts: ".".join(map(str, parts))
)
texts = st.text("ABCDEFGH ", min_size=1, max_size=12).map(str.strip).filter(bool)


def body(dataset: Dataset, *, implicit: bool) -> bytes:
    """Return the data set's bytes as a peer would send them."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """Draw data sets whose first elements are those of real objects, in every combination."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = draw(uids), draw(uids)
    for keyword, values in (
        ("SpecificCharacterSet", st.sampled_from(["ISO_IR 100", "ISO_IR 192"])),
        ("ImageType", st.lists(texts, min_size=1, max_size=3)),
        ("InstanceCreationDate", st.just("20240102")),
        ("InstanceCreationTime", st.just("030405.123456")),
        ("InstanceCreatorUID", uids),
        ("StudyDate", st.just("20240102")),
        ("PatientName", texts),
    ):
        if draw(st.booleans()):
            setattr(made, keyword, draw(values))
    return made


@settings(deadline=None)
@given(dataset=datasets(), implicit=st.booleans())
def test_peek_agrees_with_the_data_set(dataset: Dataset, *, implicit: bool) -> None:
    found = identity(body(dataset, implicit=implicit), implicit=implicit)
    assert found == (dataset.SOPClassUID, dataset.SOPInstanceUID)


@pytest.mark.parametrize("implicit", [True, False])
def test_peek_agrees_with_a_real_cart_file(*, implicit: bool) -> None:
    dataset = dcmread(CART_FILE)
    found = identity(body(dataset, implicit=implicit), implicit=implicit)
    assert found == (dataset.SOPClassUID, dataset.SOPInstanceUID)


@settings(deadline=None)
@given(data=st.binary(max_size=300), implicit=st.booleans())
def test_peek_answers_on_any_bytes(data: bytes, *, implicit: bool) -> None:
    found = identity(data, implicit=implicit)
    assert found is None or all(isinstance(uid, str) for uid in found)


@settings(deadline=None)
@given(dataset=datasets(), implicit=st.booleans(), data=st.data())
def test_peek_answers_on_damaged_data_sets(
    dataset: Dataset, data: st.DataObject, *, implicit: bool
) -> None:
    whole = bytearray(body(dataset, implicit=implicit))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    identity(bytes(whole[:cut]), implicit=implicit)


@settings(deadline=None)
@given(dataset=datasets(), implicit=st.booleans())
def test_peek_under_the_wrong_syntax_names_no_object_it_is_not(
    dataset: Dataset, *, implicit: bool
) -> None:
    found = identity(body(dataset, implicit=not implicit), implicit=implicit)
    assert found in (None, (dataset.SOPClassUID, dataset.SOPInstanceUID))


@settings(deadline=None)
@given(
    sop_class=uids,
    instance=uids,
    syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
)
def test_header_is_file_meta_that_pydicom_reads_and_always_the_same(
    sop_class: str, instance: str, syntax: str
) -> None:
    header = part10.header(sop_class, instance, syntax)
    assert header == part10.header(sop_class, instance, syntax)
    assert header[:132] == bytes(128) + b"DICM"
    meta = dcmread(BytesIO(header)).file_meta
    assert meta.MediaStorageSOPClassUID == sop_class
    assert meta.MediaStorageSOPInstanceUID == instance
    assert meta.TransferSyntaxUID == syntax
    assert meta.FileMetaInformationVersion == b"\0\1"
    length = len(header) - 132 - 12
    assert meta.FileMetaInformationGroupLength == length


# The C-STORE handler, with a request as pynetdicom hands it over


class Port:
    """A receiver that was never bound; its C-STORE handler and what it recorded."""

    def __init__(self, folder: Path, **storage: Any) -> None:
        self.folder = folder
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.ledger.create()
        self.spool = Spool(folder / "spool")
        self.spool.prepare(())
        self.receiver = Receiver(
            Dicom(port=1),
            Storage(folder=folder, **{"free_bytes": 0, "free_fraction": 0.0} | storage),
            ledger=self.ledger,
            spool=self.spool,
            committer=Committer(
                self.ledger, self.spool, lambda: PinnedPlan("{}", "plan"), lambda _count: None
            ),
        )

    def store(self, instance: str, data: bytes, sop_class: str = TWELVE_LEAD) -> int:
        """Return the status of a C-STORE-RQ with an explicit VR data set."""
        requestor = SimpleNamespace(
            primitive=SimpleNamespace(calling_ae_title="../CART", called_ae_title="SINUSNODE"),
            address_info=SimpleNamespace(address="127.0.0.1"),
        )
        event: Any = SimpleNamespace(
            request=SimpleNamespace(
                AffectedSOPClassUID=sop_class,
                AffectedSOPInstanceUID=instance,
                DataSet=BytesIO(data),
                MoveOriginatorApplicationEntityTitle=None,
            ),
            context=SimpleNamespace(
                abstract_syntax=TWELVE_LEAD, transfer_syntax=ExplicitVRLittleEndian
            ),
            assoc=SimpleNamespace(requestor=requestor),
        )
        return self.receiver._store(event)

    def names(self) -> set[str]:
        """Return the path of every file below the folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    """Return a receiver on a folder of its own, bound to nothing."""
    monkeypatch.setattr("dicom_node.receive.Server", lambda *_, **__: None)
    folder = tmp_path / "data"
    folder.mkdir()
    made = Port(folder)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("uid", ["../../etc/passwd", "/etc/passwd", "..", "1.2/../../3", "1.2\n3"])
def test_uid_that_looks_like_a_path_reaches_no_path(port: Port, uid: str) -> None:
    before = {name for name in port.names() if not name.startswith("spool")}
    assert port.store(uid, b"anything") in (SUCCESS, MISMATCH)
    kept = [name for name in port.names() if name.startswith("spool") and len(name) > 10]
    assert all(set(name.split("/")[-1]) <= set("0123456789abcdef") for name in kept)
    after = {name for name in port.names() if not name.startswith("spool")}
    assert after - before <= {"ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert list(port.folder.parent.iterdir()) == [port.folder]


@pytest.mark.parametrize("uid", ["1.2.é", "1.2.\N{SNOWMAN}", "", "1." + "2" * 63])
def test_uid_that_is_none_is_a_mismatch_and_no_failure(port: Port, uid: str) -> None:
    assert port.store(uid, b"anything") == MISMATCH
    assert [row["reason"] for row in port.ledger.trail()] == ["command-dataset-mismatch"]


def test_request_without_a_data_set_is_a_mismatch(port: Port) -> None:
    assert port.store("1.2.3", b"") == MISMATCH
    assert port.ledger.rows() == []


def test_full_disk_answers_a700_even_where_the_audit_row_finds_no_room(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(port.ledger, "record", full)
    monkeypatch.setattr(port.ledger, "receive", full)
    assert port.store("1.2.3", b"anything") == OUT_OF_RESOURCES


def test_stranger_is_refused_even_where_the_audit_row_finds_no_room(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(port.ledger, "record", full)
    stranger = Caller(calling_ae="X", called_ae="OTHER", address="10.0.0.1")
    assert port.receiver._admission(stranger) is not None
    port.receiver._broken(
        Refusal.BROKEN_CONNECTION, "10.0.0.1", "a PDU was not finished within its deadline"
    )


def test_object_above_the_watermark_is_kept_and_below_it_refused(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert port.store("1.2.3", b"anything") == SUCCESS
    assert port.store("1.2.3", b"anything") == SUCCESS
    assert len(port.ledger.rows()) == 1
    monkeypatch.setattr("dicom_node.receive.disk_is_low", lambda _storage: True)
    assert port.store("1.2.4", b"anything") == OUT_OF_RESOURCES
    assert len(port.ledger.rows()) == 1


def test_failing_disk_is_answered_a700_and_nothing_is_acknowledged(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(port.spool, "sync", broken)
    assert port.store("1.2.3", b"anything") == OUT_OF_RESOURCES
    assert port.ledger.rows() == []
