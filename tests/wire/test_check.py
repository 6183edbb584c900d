"""`sinusnode check`: each deliberately wrong set-up is named in a sentence that says what to do."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from keys import Authority
from node import Node, free_port
from peers import running
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_node import ledger as tables
from dicom_node.check import check
from dicom_node.deliver import RESULTS
from dicom_node.ledger import Ledger, Received
from dicom_node.settings import CONFIG_VARIABLE, load
from dicom_node.spool import BlobRef

SR, PDF = RESULTS[:2]

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # of the peers that hang up on us
)


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return what `check` complains of under some settings, as one text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_VARIABLE, "sinusnode.toml")

    def complaints(text: str) -> str:
        if "[dicom]" not in text:
            text = f"[dicom]\nport = {free_port()}\n{text}"
        if "[storage]" not in text:
            text += '\n[storage]\nfolder = "data"\nfree_bytes = 0\nfree_fraction = 0.0\n'
        Path("sinusnode.toml").write_text(text)
        lines = check(load())
        assert all(sentence.endswith(".") for _, sentence in lines), lines
        return " ".join(sentence for ok, sentence in lines if not ok)

    return complaints


def destination(port: int, *more: str, ae_title: str = "PACS", host: str = "127.0.0.1") -> str:
    lines = ["[[destinations]]", f'ae_title = "{ae_title}"', f'host = "{host}"', f"port = {port}"]
    return "\n".join([*lines, *more]) + "\n"


@contextmanager
def peer(
    classes: Sequence[str] = RESULTS, ae_title: str = "PACS", callers: Sequence[str] = ()
) -> Iterator[int]:
    """Run a peer that takes these classes, from these callers if any are named."""
    ae = AE(ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = list(callers)
    ae.add_supported_context(Verification)
    for uid in classes:
        ae.add_supported_context(uid)
    port = free_port()
    ae.start_server(("127.0.0.1", port), block=False)
    try:
        yield port
    finally:
        ae.shutdown()


@contextmanager
def ledger(folder: Path) -> Iterator[Ledger]:
    folder.mkdir(exist_ok=True)
    opened = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    opened.create()
    yield opened
    opened.close()


def test_a_healthy_set_up_has_nothing_wrong(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    with peer() as port, running(Node(tmp_path / "node")) as node:
        settings = node.config.read_text() + destination(port)
        assert wrong(settings) == ""


def test_no_destination(wrong: Callable[[str], str]) -> None:
    assert "No destination is set" in wrong("")


def test_the_node_does_not_run(wrong: Callable[[str], str]) -> None:
    assert "Start the node." in wrong("")


def test_the_port_is_taken_by_another_program(wrong: Callable[[str], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = wrong(f"[dicom]\nport = {other.getsockname()[1]}\n")
    assert "Another program uses the port" in said


def test_the_port_is_taken_by_another_dicom_node(wrong: Callable[[str], str]) -> None:
    with peer(ae_title="OTHER") as port:
        assert "Another DICOM program uses the port" in wrong(f"[dicom]\nport = {port}\n")


def test_the_pacs_has_another_ae_title(wrong: Callable[[str], str]) -> None:
    with peer(ae_title="ORTHANC") as port:
        assert "Compare the called AE title PACS" in wrong(destination(port))


def test_the_pacs_does_not_know_us(wrong: Callable[[str], str]) -> None:
    with peer(callers=["SOMEONE"]) as port:
        assert "register SINUSNODE there" in wrong(destination(port))


def test_the_pacs_does_not_accept_reports(wrong: Callable[[str], str]) -> None:
    with peer(classes=RESULTS[1:]) as port:
        assert f"does not accept {UID(SR).name}" in wrong(destination(port))


def test_the_pacs_does_not_accept_pdfs(wrong: Callable[[str], str]) -> None:
    with peer(classes=[uid for uid in RESULTS if uid != PDF]) as port:
        assert f"does not accept {UID(PDF).name}" in wrong(destination(port))


def test_the_pacs_does_not_answer(wrong: Callable[[str], str]) -> None:
    assert "does not answer" in wrong(destination(free_port()))


def test_the_host_name_of_the_pacs_has_no_address(wrong: Callable[[str], str]) -> None:
    assert "has no address" in wrong(destination(104, host="no-such-host.invalid"))


def test_the_destination_is_the_node_itself(wrong: Callable[[str], str]) -> None:
    port = free_port()
    said = wrong(f"[dicom]\nport = {port}\n" + destination(port, ae_title="SINUSNODE"))
    assert "is this node itself" in said


def test_the_disk_is_low(wrong: Callable[[str], str]) -> None:
    assert "watermark" in wrong(f'[storage]\nfolder = "data"\nfree_bytes = {2**60}\n')


def test_the_data_folder_cannot_be_written(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    (tmp_path / "data").write_text("a file")
    assert "cannot be written" in wrong("")


def test_the_model_has_no_card(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert "is refused" in wrong('[models]\ninitial = "model.onnx"\n')


def test_the_database_does_not_answer(wrong: Callable[[str], str]) -> None:
    said = wrong('[storage]\nfolder = "data"\ndatabase = "sqlite:////no/such/folder/l.sqlite"\n')
    assert "The ledger cannot be opened" in said


def test_the_ledger_is_of_another_version(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    with ledger(tmp_path / "data") as opened, opened._engine.begin() as connection:
        connection.execute(sa.update(tables.meta).values(value="99"))
    assert "schema 99" in wrong("")


def test_the_clock_stands_before_the_last_object(
    tmp_path: Path, wrong: Callable[[str], str]
) -> None:
    with ledger(tmp_path / "data") as opened:
        opened.receive([_received(time.time() + 86400)], "{}", "")
    assert "The clock stands before" in wrong("")


def test_objects_are_in_quarantine(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    with ledger(tmp_path / "data") as opened:
        opened.receive([_received(time.time()), _received(time.time(), "1" * 64)], "{}", "")
    assert "1 objects are QUARANTINED" in wrong("")


@pytest.mark.parametrize(
    ("valid", "said"),
    [
        ((-20, -10), "expired on"),
        ((1, 20), "is not valid before"),
        ((-20, 10), "expires on"),
    ],
)
def test_the_certificate_is_not_valid_or_not_for_long(
    tmp_path: Path, wrong: Callable[[str], str], valid: tuple[int, int], said: str
) -> None:
    days = (timedelta(days=valid[0]), timedelta(days=valid[1]))
    files = Authority.new(tmp_path, "ours").vouch("node", valid=days)
    assert said in wrong(_tls(files))


def test_key_and_certificate_do_not_fit(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    ours = Authority.new(tmp_path, "ours")
    files = ours.vouch("node") | {"private_key": ours.vouch("other")["private_key"]}
    assert "The files of section tls cannot be used: key values mismatch" in wrong(_tls(files))


def test_a_certificate_file_is_absent(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    files = Authority.new(tmp_path, "ours").vouch("node")
    files["trusted_certificates"].unlink()
    assert "cannot be used" in wrong(_tls(files))


def test_the_pacs_speaks_no_tls(tmp_path: Path, wrong: Callable[[str], str]) -> None:
    files = Authority.new(tmp_path, "ours").vouch("node")
    with peer() as port:
        said = wrong(_tls(files) + destination(port, "tls = true"))
    assert "does not agree on TLS" in said


def test_the_port_is_open_and_no_cart_is_listed(wrong: Callable[[str], str]) -> None:
    said = wrong(f'[dicom]\nhost = "0.0.0.0"\nport = {free_port()}\n')
    assert "dicom.peers names no cart" in said


def test_anybody_may_call_from_anywhere(wrong: Callable[[str], str]) -> None:
    said = wrong(
        f'[dicom]\nport = {free_port()}\n[[dicom.peers]]\nae_title = "*"\n'
        'addresses = ["0.0.0.0/0"]\n'
    )
    assert "may call from anywhere" in said


def test_the_management_port_is_open(wrong: Callable[[str], str]) -> None:
    assert "The management port is open" in wrong('[ops]\nhost = "0.0.0.0"\n')


def _received(at: float, sha256: str = "0" * 64) -> Received:
    return Received(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.9.1.1",
        sop_instance_uid="1.2.3",
        blob=BlobRef("segment", "absent", 0, 1, sha256),
        calling_ae="CART",
        called_ae="SINUSNODE",
        address="127.0.0.1",
        received_at=at,
    )


def _tls(files: dict[str, Path]) -> str:
    lines = [f'{name} = "{path}"' for name, path in files.items()]
    return "\n".join(["[tls]", f"port = {free_port()}", *lines]) + "\n"
