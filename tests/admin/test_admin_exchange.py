"""Models between sites over a real WebDAV server, and over servers that lie or go away."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from cheroot import wsgi
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from installed import Installation
from node import free_port
from office import opened
from wsgidav.wsgidav_app import WsgiDAVApp

from dicom_node.link import Rejected, Unanswered, Unreachable
from dicom_node.models import identity_of
from dicom_node.settings import Exchange, Role
from training.admin.api import models
from training.exchange import Description, Refused, Shelf

SECRET = "a password of the exchange"
CONTENT = b"not really ONNX " * 5000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Run a WebDAV server with passwords; its address and its folder."""
    root, port = tmp_path_factory.mktemp("dav"), free_port()
    config = {
        "provider_mapping": {"/models": str(root)},
        "simple_dc": {"user_mapping": {"*": {"site": {"password": SECRET}}}},
        "http_authenticator": {"accept_basic": True, "accept_digest": False},
        "logging": {"enable": False},
        "verbose": 0,
    }
    made = wsgi.Server(("127.0.0.1", port), WsgiDAVApp(config), numthreads=2)
    made.prepare()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/models", root
    finally:
        made.stop()
        thread.join()


@pytest.fixture
def shelf_folder(server: tuple[str, Path], tmp_path: Path) -> Path:
    """Return a folder of the server that is this test's own."""
    folder = server[1] / tmp_path.name
    folder.mkdir()
    return folder


@pytest.fixture
def dav(server: tuple[str, Path], shelf_folder: Path) -> str:
    """Return the address of that folder."""
    return f"{server[0]}/{shelf_folder.name}"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a private and a public key."""
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "site.key", tmp_path / "site.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def settings(dav: str, tmp_path: Path) -> Callable[..., Exchange]:
    secret = tmp_path / "password"
    secret.write_text(SECRET)

    def make(**more: Any) -> Exchange:
        return Exchange(url=dav, username="site", password_file=secret, **more)

    return make


@pytest.fixture
def shelf(settings: Callable[..., Exchange]) -> Iterator[Shelf]:
    made = Shelf(settings())
    yield made
    made.close()


def test_what_is_pushed_is_listed_verified_and_pulled(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.list() == ()
    pushed = shelf.push(CONTENT, "Tiny model", "1.0")
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert pushed.file == f"Tiny-model-1.0-{digest[:12]}.onnx"
    (offer,) = shelf.list()
    assert offer == pushed
    assert shelf.verify(offer.file) == digest
    pulled = shelf.pull(offer.file, tmp_path / "in")
    assert (pulled.content, pulled.digest, pulled.resumed) == (CONTENT, digest, 0)
    assert list((tmp_path / "in").iterdir()) == []


def test_pushed_twice_it_is_sent_once(shelf: Shelf, shelf_folder: Path) -> None:
    file = shelf.push(CONTENT, "Tiny", "1").file
    written = (shelf_folder / file).stat().st_ino, (shelf_folder / file).stat().st_mtime_ns
    assert shelf.push(CONTENT, "Tiny", "1").file == file
    assert written == (
        (shelf_folder / file).stat().st_ino, (shelf_folder / file).stat().st_mtime_ns,
    )  # fmt: skip
    assert len(list(shelf_folder.iterdir())) == 2


def test_pull_goes_on_where_it_was_cut_off(shelf: Shelf, tmp_path: Path) -> None:
    file = shelf.push(CONTENT, "Tiny", "1").file
    part = tmp_path / f"{hashlib.sha256(CONTENT).hexdigest()}.part"
    part.write_bytes(CONTENT[:30_000])
    pulled = shelf.pull(file, tmp_path)
    assert pulled.content == CONTENT
    assert pulled.resumed == 30_000


def test_altered_bytes_are_refused(shelf: Shelf, shelf_folder: Path, tmp_path: Path) -> None:
    file = shelf.push(CONTENT, "Tiny", "1").file
    (shelf_folder / file).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(Refused, match="digest differs"):
        shelf.verify(file)
    with pytest.raises(Refused, match="digest differs"):
        shelf.pull(file, tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


def test_longer_file_than_described_is_cut_off(
    shelf: Shelf, shelf_folder: Path, tmp_path: Path
) -> None:
    file = shelf.push(CONTENT, "Tiny", "1").file
    (shelf_folder / file).write_bytes(CONTENT * 2)
    with pytest.raises(Refused, match="sends more than it said"):
        shelf.pull(file, tmp_path / "in")
    with pytest.raises(Refused, match="sends more than it said"):
        shelf.verify(file)


def test_description_of_a_giant_is_not_followed(
    settings: Callable[..., Exchange], shelf_folder: Path, tmp_path: Path
) -> None:
    shelf = Shelf(settings(maximum_model=1000))
    about = Description(digest="0" * 64, size=2**50, name="a", version="1")
    (shelf_folder / "a.onnx").write_bytes(b"x")
    (shelf_folder / "a.json").write_bytes(about.to_json())
    with pytest.raises(Refused, match="at most 1000 are taken"):
        shelf.pull("a.onnx", tmp_path)
    shelf.close()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"digest": 1}', '{"digest": "x", "size": -1}', "[" * 9999, "\0"]
)
def test_description_that_is_none_is_a_sentence(
    shelf: Shelf, shelf_folder: Path, tmp_path: Path, text: str
) -> None:
    (shelf_folder / "a.onnx").write_bytes(b"x")
    (shelf_folder / "a.json").write_text(text)
    assert shelf.list()[0].description is None
    with pytest.raises(Refused, match="description cannot be read"):
        shelf.pull("a.onnx", tmp_path)


# Signatures


def test_trusted_signature_is_named_and_another_one_refused(
    settings: Callable[..., Exchange], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    other = Ed25519PrivateKey.generate().public_key()
    stranger = tmp_path / "other.pub"
    stranger.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signing = Shelf(settings(signing_key=private, trusted_keys=[public]))
    file = signing.push(CONTENT, "Tiny", "1").file
    assert signing.pull(file, tmp_path / "in").signed_by is not None
    distrusting = Shelf(settings(trusted_keys=[stranger]))
    assert distrusting.list()[0].signed_by is None
    with pytest.raises(Refused, match="No key that the settings trust"):
        distrusting.pull(file, tmp_path / "in")
    signing.close()
    distrusting.close()


def test_signature_does_not_pass_to_other_bytes(
    settings: Callable[..., Exchange], keys: tuple[Path, Path], shelf_folder: Path, tmp_path: Path
) -> None:
    shelf = Shelf(settings(signing_key=keys[0], trusted_keys=[keys[1]]))
    file = shelf.push(CONTENT, "Tiny", "1").file
    about = shelf_folder / file.replace(".onnx", ".json")
    forged = json.loads(about.read_text()) | {"digest": hashlib.sha256(b"x").hexdigest()}
    about.write_text(json.dumps(forged | {"size": 1}))
    (shelf_folder / file).write_bytes(b"x")
    with pytest.raises(Refused, match="No key that the settings trust"):
        shelf.pull(file, tmp_path)
    shelf.close()


def test_unsigned_model_is_refused_where_a_key_is_asked_for(
    settings: Callable[..., Exchange], keys: tuple[Path, Path], shelf_folder: Path, tmp_path: Path
) -> None:
    (shelf_folder / "plain.onnx").write_bytes(b"x")
    shelf = Shelf(settings(trusted_keys=[keys[1]]))
    with pytest.raises(Refused, match="Nobody signed it"):
        shelf.pull("plain.onnx", tmp_path)
    shelf.close()


def test_key_that_is_none_is_named(settings: Callable[..., Exchange], tmp_path: Path) -> None:
    bad = tmp_path / "bad.pub"
    bad.write_text("no key")
    with pytest.raises(Refused, match="holds no public Ed25519 key"):
        Shelf(settings(trusted_keys=[bad]))


# Bad servers


def test_wrong_password_is_a_sentence(dav: str, tmp_path: Path) -> None:
    secret = tmp_path / "wrong"
    secret.write_text("wrong")
    shelf = Shelf(Exchange(url=dav, username="site", password_file=secret))
    with pytest.raises(Rejected, match="refuses our credentials"):
        shelf.list()
    shelf.close()


def test_nobody_there_is_a_sentence() -> None:
    shelf = Shelf(Exchange(url=f"http://127.0.0.1:{free_port()}/models"))
    with pytest.raises(Unreachable, match="does not answer"):
        shelf.list()
    shelf.close()


@pytest.mark.parametrize("name", ["../a.onnx", "a/b.onnx", "a.pt", ".onnx", "a\n.onnx", "%2e.onnx"])
def test_name_that_leads_elsewhere_is_refused(shelf: Shelf, tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="no name of a model"):
        shelf.pull(name, tmp_path)


ABOUT = Description(
    digest=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT), name="a", version="1"
)
LISTING = (
    '<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">'
    "<D:response><D:href>/a.onnx</D:href></D:response>"
    "<D:response><D:href>/a.json</D:href></D:response></D:multistatus>"
)


class Liar(BaseHTTPRequestHandler):
    """Answers as its class says."""

    listing = LISTING
    whole = True

    def do_PROPFIND(self) -> None:
        self._say(207, self.listing.encode())

    def do_GET(self) -> None:
        if self.path.endswith(".json"):
            self._say(200, ABOUT.to_json())
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) if self.whole else 20_000])
        self.close_connection = True

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[Callable[..., Shelf]]:
    """Make servers that answer as told."""
    made: list[tuple[ThreadingHTTPServer, threading.Thread, Shelf]] = []

    def make(**answers: object) -> Shelf:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Made", (Liar,), answers))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/models"
        made.append((server, thread, Shelf(Exchange(url=url, timeout=5.0))))
        return made[-1][2]

    yield make
    for server, thread, shelf in made:
        shelf.close()
        server.shutdown()
        server.server_close()
        thread.join()


def test_server_that_goes_away_leaves_what_came_for_the_next_time(
    liar: Callable[..., Shelf], tmp_path: Path
) -> None:
    with pytest.raises(Unanswered, match="stopped answering"):
        liar(whole=False).pull("a.onnx", tmp_path)
    (part,) = tmp_path.iterdir()
    assert part.stat().st_size == 20_000
    pulled = liar().pull("a.onnx", tmp_path)  # it knows no ranges: all of it again
    assert pulled.content == CONTENT


@pytest.mark.parametrize(
    "listing",
    [
        "", "no XML", "<a/>",
        '<!DOCTYPE a [<!ENTITY b "c">]><D:multistatus xmlns:D="DAV:">&b;</D:multistatus>',
    ],
)  # fmt: skip
def test_listing_that_is_none_is_a_sentence(liar: Callable[..., Shelf], listing: str) -> None:
    with pytest.raises(Unanswered, match="no WebDAV listing"):
        liar(listing=listing).list()


def test_listing_names_models_alone(liar: Callable[..., Shelf]) -> None:
    hrefs = ["/../../etc/passwd", "/x.pt", "/a%00.onnx", "/ok.onnx", "http://elsewhere/b.onnx"]
    listing = "".join(f"<D:response><D:href>{href}</D:href></D:response>" for href in hrefs)
    shelf = liar(listing=f'<D:multistatus xmlns:D="DAV:">{listing}</D:multistatus>')
    assert [offer.file for offer in shelf.list()] == ["b.onnx", "ok.onnx"]


# Through the API


def test_model_goes_from_one_site_to_another(
    dav: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "apart", identity_of)  # as other tests do it, and faster
    secret = tmp_path / "password"
    secret.write_text(SECRET)
    exchange = {"name": "sites", "url": dav, "username": "site", "password_file": secret}
    package = tiny_model.packed()
    with site(tmp_path / "a", exchange) as here:
        added = here.post("/models", Role.TRAINER, content=package)
        assert added.status == 201, added.text
        digest = added.json["digest"]
        pushed = here.post("/exchanges/sites/push", Role.ADMIN, json={"digest": digest})
        assert pushed.status == 200, pushed.text
        assert here.events()[-1] == "exchange-push"
    with site(tmp_path / "b", exchange) as there:
        (offer,) = there.get("/exchanges/sites/models", Role.TRAINER).json
        assert (offer["digest"], offer["installed"]) == (digest, False)
        file = {"file": offer["file"]}
        verified = there.post("/exchanges/sites/verify", Role.TRAINER, json=file)
        assert verified.json["digest"] == digest
        pulled = there.post("/exchanges/sites/pull", Role.TRAINER, json=file)
        assert (pulled.status, pulled.json["state"]) == (201, "candidate")
        assert there.get("/exchanges/sites/models", Role.TRAINER).json[0]["installed"] is True
        assert there.get("/exchanges/elsewhere/models", Role.TRAINER).status == 404


def site(folder: Path, exchange: dict[str, Any]) -> Any:
    Installation(folder).close()
    return opened(folder, exchanges=[exchange])


def test_exchange_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    exchange = {"name": "gone", "url": f"http://127.0.0.1:{free_port()}/models"}
    with site(tmp_path, exchange) as desk:
        answer = desk.get("/exchanges/gone/models", Role.TRAINER)
        assert answer.status == 502
        assert "does not answer" in answer.detail
