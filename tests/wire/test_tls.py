"""DICOM over TLS (PS3.15 B.12) in both directions, beside the plain port, renewed in place."""

import shutil
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cart import CART_FILE
from commands import Run
from keys import Authority
from node import Node, free_port, poll
from peers import running
from pydicom import dcmread
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node import scu
from dicom_node.check import check
from dicom_node.ledger import State
from dicom_node.link import Address, Insecure, Rejected, Unreachable
from dicom_node.reasons import Delivery, Refusal
from dicom_node.settings import Tls, load
from dicom_node.tls import Certificates, client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Authority:
    return Authority.new(folder, "ours")


def overrides(files: Mapping[str, Path], port: int) -> dict[str, str]:
    return {"WORK__WORKERS": "1", "TLS__PORT": str(port)} | {
        f"TLS__{name.upper()}": str(path) for name, path in files.items()
    }


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> Iterator[Node]:
    """Run a node with a plain and a TLS port; CART2 must show the certificate of that name."""
    made = Node(
        tmp_path_factory.mktemp("tls") / "node",
        overrides=overrides(ours.vouch("node"), free_port())
        | {"DICOM__PEERS": '[{"ae_title":"CART"},{"ae_title":"CART2","certificate":"cart2"}]'},
    )
    with running(made):
        yield made
    assert "Traceback" not in made.log
    assert "process_died" not in made.log


def at(node: Node) -> Address:
    return Address("SINUSNODE", "127.0.0.1", int(node.overrides["TLS__PORT"]))


def echo(node: Node, files: Mapping[str, Path], calling_ae: str = "CART") -> tuple[str, ...]:
    certificates = Certificates(Tls(**files), client)

    def wrap(stream: socket.socket) -> ssl.SSLSocket:
        return certificates.context().wrap_socket(stream, server_hostname="127.0.0.1")

    return scu.echo(at(node), calling_ae, secure=wrap)


def reasons(node: Node) -> set[str]:
    return {row["reason"] for row in node.trail()}


def test_a_trusted_client_is_served_on_the_tls_port_and_a_plain_one_beside_it(
    secure: Node, ours: Authority
) -> None:
    assert echo(secure, ours.vouch("cart"))
    assert scu.echo(secure.address, "CART")


def test_a_client_without_a_trusted_certificate_is_not_served(
    secure: Node, ours: Authority, folder: Path
) -> None:
    strangers = Authority.new(folder, "theirs").vouch("stranger")
    with pytest.raises(Unreachable):
        echo(secure, strangers | {"trusted_certificates": ours.certificate})
    assert poll(lambda: Refusal.BROKEN_CONNECTION in reasons(secure), 10)
    assert any("TLS handshake failed" in row["detail"] for row in secure.trail())


def test_we_do_not_talk_to_a_node_whose_certificate_we_do_not_trust(
    secure: Node, folder: Path
) -> None:
    with pytest.raises(Insecure, match="not trusted"):
        echo(secure, Authority.new(folder, "others").vouch("cart"))


def test_a_client_without_tls_is_not_served_on_the_tls_port(secure: Node) -> None:
    with pytest.raises(Unreachable):
        scu.echo(at(secure), "CART", timeout=5)


def test_an_ae_title_that_names_a_certificate_is_refused_with_another_and_on_the_plain_port(
    secure: Node, ours: Authority
) -> None:
    assert echo(secure, ours.vouch("cart2"), "CART2")
    with pytest.raises(Rejected):
        echo(secure, ours.vouch("cart"), "CART2")
    with pytest.raises(Rejected):
        scu.echo(secure.address, "CART2")
    assert poll(lambda: Refusal.CERTIFICATE in reasons(secure), 10)


def test_mute_tls_clients_do_not_keep_a_cart_out(secure: Node, ours: Authority) -> None:
    where = at(secure)
    mute = [socket.create_connection((where.host, where.port)) for _ in range(30)]
    assert echo(secure, ours.vouch("cart"))
    for peer in mute:
        peer.close()


def test_renewed_certificates_count_without_a_restart(
    tmp_path: Path, ours: Authority, folder: Path
) -> None:
    files = {name: tmp_path / path.name for name, path in ours.vouch("node", file="old").items()}
    for path in files.values():
        shutil.copy(folder / path.name, path)
    node = Node(tmp_path / "node", overrides=overrides(files, free_port()))
    with running(node):
        assert echo(node, ours.vouch("cart"))
        theirs = Authority.new(folder, "next")
        for name, path in theirs.vouch("node").items():
            shutil.copy(path, files[name])
        assert poll(lambda: _serves(node, theirs.vouch("cart")))
        assert not _serves(node, ours.vouch("cart"))
        files["certificate"].write_text("damaged")
        assert _serves(node, theirs.vouch("cart"))
        assert "certificates_unusable" in node.log


def _serves(node: Node, files: Mapping[str, Path]) -> bool:
    try:
        return bool(echo(node, files))
    except Unreachable:
        return False


def test_results_are_delivered_over_tls_and_an_untrusted_pacs_gets_none(
    tmp_path: Path, ours: Authority, folder: Path
) -> None:
    trusted, stranger = free_port(), free_port()
    stored: list[str] = []
    strange = Authority.new(folder, "strange")
    peers = (
        _pacs(trusted, ours.vouch("pacs"), stored),
        _pacs(
            stranger,
            strange.vouch("pacs", file="impostor") | {"trusted_certificates": ours.certificate},
            stored,
        ),
    )
    node = Node(
        tmp_path / "node",
        {"PACS": trusted, "IMPOSTOR": stranger},
        overrides=overrides(ours.vouch("node"), free_port()),
    )
    node.config.write_text(
        node.config.read_text().replace("timeout = 10.0", "timeout = 10.0\ntls = true")
    )
    try:
        with running(node):
            (sent,) = scu.send([CART_FILE], node.address, "CART")
            assert sent.ok
            assert poll(lambda: len(stored) == 3)
            assert poll(lambda: Delivery.INSECURE in _delivery_reasons(node))
        assert node.rows()[0]["state"] == State.REPORTED
        assert len(set(stored)) == 3
    finally:
        for ae in peers:
            ae.shutdown()
    assert dcmread(CART_FILE).SOPInstanceUID not in stored


def test_check_echo_and_send_speak_tls_where_the_settings_do(
    secure: Node, ours: Authority, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    port, stored = free_port(), list[str]()
    pacs = _pacs(port, ours.vouch("pacs"), stored)
    config = Path("with-pacs.toml")
    there = f'ae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\ntls = true\n'
    config.write_text(f"{secure.config.read_text()}[[destinations]]\n{there}")
    for name, value in secure.overrides.items():
        monkeypatch.setenv(f"SINUSNODE__{name}", value)
    try:
        asked = run("echo", "--json", "-c", config).documents
        named = run("echo", f"PACS@127.0.0.1:{port}", "--json", "-c", config).documents
        unlisted = run("echo", f"OTHER@127.0.0.1:{port}", "--tls", "-c", config)
        sent = run(
            "send", CART_FILE, "--to", at(secure), "--calling", "CART", "--tls", "-c", config
        )
        wrong = [line for ok, line in check(load(config)) if not ok]
    finally:
        pacs.shutdown()
    assert [(item["ok"], item["tls"]) for item in asked] == [(True, False)] + [(True, True)] * 2
    assert "takes calls of its peers alone" in asked[0]["message"]
    assert any("SR" in name for name in named[0]["accepts"])
    assert (unlisted.status, sent.status) == (0, 0)
    assert wrong == []


def test_a_node_that_does_not_trust_itself_is_told_so(
    tmp_path: Path, folder: Path, secure: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers = Authority.new(folder, "further").vouch("node", file="further-node")
    for name, value in (secure.overrides | overrides(strangers, at(secure).port)).items():
        monkeypatch.setenv(f"SINUSNODE__{name}", value)
    wrong = " ".join(line for ok, line in check(load(secure.config)) if not ok)
    assert "vouch for the node's own certificate" in wrong


def _delivery_reasons(node: Node) -> set[str]:
    with node.ledger() as ledger:
        return {item["reason"] for item in (ledger.row(1) or {})["deliveries"]}


def _pacs(port: int, files: Mapping[str, Path], stored: list[str]) -> AE:
    """Return a storage SCP that speaks TLS and writes down the UIDs it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files["trusted_certificates"])
    context.load_cert_chain(files["certificate"], files["private_key"])

    def store(event: evt.Event) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    ae = AE("ANY")
    ae.supported_contexts = AllStoragePresentationContexts[:]
    ae.start_server(
        ("127.0.0.1", port), block=False, ssl_context=context,
        evt_handlers=[(evt.EVT_C_STORE, store)],
    )  # fmt: skip
    return ae
