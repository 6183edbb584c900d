"""DICOMweb: ECGs in by STOW-RS, results out by STOW-RS, and servers and callers that misbehave."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cart import cart_ecg, encoded, push
from hypothesis import given
from hypothesis import strategies as st
from keys import Authority
from node import Node, free_port, poll
from outbox import Outbox
from peers import running, running_orthanc
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.dicomweb import Client, NoFile, WebSender, opened
from dicom_node.ledger import QUERY, RESPONSES, State
from dicom_node.link import Insecure, Rejected, Unreachable
from dicom_node.multipart import Malformed, Splitter, TooLarge, boundary, joined
from dicom_node.reasons import Delivery, Quarantine, Refusal
from dicom_node.settings import Settings, WebDestination, WebServer

TOKEN = "a token of more than sixteen characters"
PATH = "/dicom-web/studies"
RELATED = 'multipart/related; type="application/dicom"; boundary=B'
ALLOWED = {"Authorization": f"Bearer {TOKEN}", "Content-Type": RELATED}


def body(*files: bytes) -> bytes:
    """Return a multipart body of these files with the boundary B."""
    parts = (b"--B\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files)
    return b"".join(parts) + b"--B--\r\n"


@dataclass
class Answer:
    """What a node answered."""

    status: int
    headers: Message
    text: str

    def listed(self, keyword: str) -> list[Dataset]:
        return list(Dataset.from_json(self.text).get(keyword) or ())

    def stored(self) -> list[str]:
        items = self.listed("ReferencedSOPSequence")
        return [str(item.ReferencedSOPInstanceUID) for item in items]

    def reasons(self, keyword: str = "FailedSOPSequence") -> list[int]:
        return [int(item.FailureReason) for item in self.listed(keyword)]


# In


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("stow")
    made = Node(
        folder / "node",
        overrides={
            "STOW__TOKEN": TOKEN,
            "STOW__MAXIMUM_BODY": "4000000",
            "STOW__MAXIMUM_PARTS": "3",
            "STOW__DEADLINE": "5",
            "DICOM__MAXIMUM_OBJECT": "2000000",
        },
    )
    with running(made):
        yield made


def post(
    node: Node, content: Any, headers: dict[str, str] | None = None, path: str = PATH
) -> Answer:
    link = http.client.HTTPConnection("127.0.0.1", node.ops_port, timeout=60)
    try:
        link.request("POST", path, content, ALLOWED if headers is None else headers)
        answer = link.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())
    finally:
        link.close()


def of(node: Node, item: Dataset) -> list[dict[str, Any]]:
    return [row for row in node.rows() if row["sop_instance_uid"] == item.SOPInstanceUID]


def test_an_ecg_that_is_posted_is_stored_and_reported_as_one_that_a_cart_sends(
    node: Node,
) -> None:
    one, two = cart_ecg("one"), cart_ecg("two")
    answer = post(node, body(encoded(one), encoded(two)))
    assert (answer.status, answer.stored()) == (200, [one.SOPInstanceUID, two.SOPInstanceUID])
    assert answer.headers["Content-Type"] == "application/dicom+json"
    assert poll(lambda: of(node, two)[0]["state"] == State.REPORTED, 60)
    assert of(node, one)[0]["calling_ae"] == "STOW-RS"


def test_the_same_ecg_by_both_doors_is_one_row(node: Node) -> None:
    item = cart_ecg("both")
    assert push(node.address, item) == [0]
    assert post(node, body(encoded(item))).status == 200
    assert push(node.address, item) == [0]
    assert len(of(node, item)) == 1


def test_an_ecg_of_the_named_study_is_stored_and_one_of_another_is_not(node: Node) -> None:
    mine, other = cart_ecg("mine"), cart_ecg("other")
    answer = post(node, body(encoded(mine), encoded(other)), path=f"{PATH}/{mine.StudyInstanceUID}")
    assert (answer.status, answer.stored()) == (202, [mine.SOPInstanceUID])
    assert answer.reasons() == [0xA900]
    assert of(node, other) == []


def implicit(item: Dataset) -> bytes:
    item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return encoded(item)


def test_implicit_little_endian_is_taken_too(node: Node) -> None:
    assert post(node, body(implicit(cart_ecg("implicit")))).status == 200


def deflated(item: Dataset) -> bytes:
    item.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return encoded(item)


def of_class(item: Dataset, sop_class: str) -> bytes:
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = sop_class
    return encoded(item)


def mislabelled(item: Dataset) -> bytes:
    """Return a file whose meta information names another object of a UID as long."""
    uid = str(item.SOPInstanceUID).encode()
    return encoded(item).replace(uid, b"1" * len(uid), 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (deflated, 0xC122),
        (lambda item: of_class(item, "1.2.840.10008.5.1.4.1.1.7"), 0x0122),
        (lambda item: of_class(item, "1.2.840.10008.5.1.4.1.1.88.33"), 0x0122),
        (mislabelled, 0xA900),
    ],
)
def test_what_is_not_wanted_is_named_with_its_reason(
    node: Node, make: Callable[[Dataset], bytes], reason: int
) -> None:
    answer = post(node, body(make(cart_ecg(f"reason {reason:x}"))))
    assert (answer.status, answer.stored(), answer.reasons()) == (409, [], [reason])


def test_our_own_object_is_set_aside_as_by_the_other_door(node: Node) -> None:
    own = cart_ecg("own", ManufacturerModelName="Sinusnode")
    assert post(node, body(encoded(own))).status == 200
    assert poll(lambda: of(node, own)[0]["reason"] == Quarantine.OWN_OBJECT, 60)


def test_bytes_that_are_no_dicom_are_refused_and_their_neighbours_are_not(node: Node) -> None:
    item = cart_ecg("neighbour")
    answer = post(node, body(b"GIF89a" + bytes(500), encoded(item), bytes(128) + b"DICM\xff\xff"))
    assert (answer.status, answer.stored()) == (202, [item.SOPInstanceUID])
    assert answer.reasons("OtherFailuresSequence") == [0xC000, 0xC000]


def sent(**changes: str) -> dict[str, str]:
    return {key: value for key, value in (ALLOWED | changes).items() if value}


WHOLE = body(b"x")
HOSTILE = [
    ("no token", sent(Authorization=""), WHOLE, 401, Refusal.CREDENTIALS),
    ("another token", sent(Authorization="Bearer no"), WHOLE, 401, Refusal.CREDENTIALS),
    ("no bearer", sent(Authorization=f"Basic {TOKEN}"), WHOLE, 401, Refusal.CREDENTIALS),
    ("no type", sent(**{"Content-Type": ""}), WHOLE, 415, Refusal.BROKEN_REQUEST),
    ("JSON", sent(**{"Content-Type": "application/json"}), b"{}", 415, Refusal.BROKEN_REQUEST),
    (
        "metadata",
        sent(**{"Content-Type": RELATED.replace("/dicom", "/dicom+json")}),
        WHOLE, 415, Refusal.BROKEN_REQUEST,
    ),
    ("no boundary", sent(**{"Content-Type": "multipart/related"}), WHOLE, 400,
     Refusal.BROKEN_REQUEST),
    ("other boundary", sent(**{"Content-Type": RELATED[:-1] + "C"}), WHOLE, 400,
     Refusal.BROKEN_REQUEST),
    ("empty", ALLOWED, b"", 400, Refusal.BROKEN_REQUEST),
    ("no part", ALLOWED, b"--B--\r\n", 400, Refusal.BROKEN_REQUEST),
    ("no header", ALLOWED, b"--B\r\nnothing\r\n--B--\r\n", 400, Refusal.BROKEN_REQUEST),
    ("not closed", ALLOWED, WHOLE[:-5], 400, Refusal.BROKEN_REQUEST),
    ("a page", ALLOWED, WHOLE.replace(b"application/dicom", b"text/html"), 415,
     Refusal.BROKEN_REQUEST),
    ("too many", ALLOWED, body(*[b"x"] * 4), 413, Refusal.TOO_LARGE),
    ("a large part", ALLOWED, body(bytes(2_100_000)), 413, Refusal.TOO_LARGE),
    ("chunks for ever", ALLOWED, (bytes(100_000) for _ in range(100)), 413, Refusal.TOO_LARGE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "content", "status", "reason"),
    [case[1:] for case in HOSTILE],
    ids=[case[0] for case in HOSTILE],
)
def test_a_hostile_request_gets_its_answer_and_a_row_in_the_audit_trail(
    node: Node, headers: dict[str, str], content: Any, status: int, reason: Refusal
) -> None:
    before = len(node.trail())
    answer = _post_anyway(node, content, headers)
    assert answer in (status, None)
    assert poll(lambda: [row["reason"] for row in node.trail()[before:]] == [reason])
    assert node.get("/healthz")[0] == 200


def _post_anyway(node: Node, content: Any, headers: dict[str, str]) -> int | None:
    """Return the status, or None where the node closed before all was sent."""
    try:
        return post(node, content, headers).status
    except (BrokenPipeError, ConnectionResetError):
        return None


def raw(node: Node, length: int, content: bytes) -> socket.socket:
    """Return a connection on which a body of some length was announced, and this much sent."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in ALLOWED.items())
    link = socket.create_connection(("127.0.0.1", node.ops_port), 60)
    link.sendall(head.encode() + b"\r\n" + content)
    return link


def test_a_gigabyte_that_is_only_announced_is_refused_at_once(node: Node) -> None:
    with raw(node, 2**30, b"--B\r\n") as link:
        assert b" 413 " in link.recv(100)


def test_a_body_that_is_cut_keeps_what_came_whole_and_nothing_else(node: Node) -> None:
    whole, cut = cart_ecg("whole"), cart_ecg("cut")
    content = body(encoded(whole), encoded(cut))
    before = len(node.trail())
    with raw(node, len(content), content[:-1000]):
        assert poll(lambda: of(node, whole))
    assert poll(lambda: len(node.trail()) > before)
    assert node.trail()[-1]["reason"] == Refusal.BROKEN_REQUEST
    assert of(node, cut) == []


def test_a_body_that_drips_is_ended_by_the_deadline_and_others_are_served(node: Node) -> None:
    with raw(node, 1000, b"--B\r\n") as link:
        assert post(node, body(encoded(cart_ecg("beside")))).status == 200
        assert b" 408 " in link.recv(100)


def test_more_requests_at_a_time_than_allowed_are_told_to_come_again(node: Node) -> None:
    links = [raw(node, 1000, b"--B\r\n") for _ in range(4)]
    try:
        answers: list[Answer] = []

        def refused() -> bool:
            answers.append(post(node, body(encoded(cart_ecg("late")))))
            return answers[-1].status == 503

        assert poll(refused, 4)
        assert answers[-1].headers["Retry-After"]
    finally:
        for link in links:
            link.close()
    assert poll(lambda: post(node, body(encoded(cart_ecg("late")))).status == 200)


def test_each_call_is_in_the_audit_trail(node: Node) -> None:
    post(node, body(encoded(cart_ecg("audited"))))
    row = node.trail()[-1]
    assert (row["event"], row["address"], row["detail"]) == (
        "stow", "127.0.0.1", "1 stored, 0 refused",
    )  # fmt: skip
    assert TOKEN not in node.log + json.dumps(node.trail())


def test_a_full_disk_answers_503_and_keeps_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    full = {"STOW__TOKEN_FILE": str(secret), "STORAGE__FREE_BYTES": str(10**18)}
    node = Node(tmp_path / "node", overrides=full)
    node.launch()
    try:
        assert poll(lambda: _post_when_up(node) == 503, 60, 0.5)
        assert node.rows() == []
        secret.write_text("renewed, and long enough")
        assert _post_when_up(node) == 401
    finally:
        node.stop()


def _post_when_up(node: Node) -> int | None:
    try:
        return post(node, body(encoded(cart_ecg("full")))).status
    except OSError:
        return None


def test_without_a_token_there_is_no_door(make_node: Callable[..., Node]) -> None:
    assert post(make_node().start(), WHOLE).status == 404


# Multipart


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.binary(max_size=30),
)
def test_a_body_splits_into_its_parts_however_it_is_cut(
    files: list[bytes], cuts: list[int], preamble: bytes
) -> None:
    whole = body(*(file.replace(b"--B", b"..B") for file in files))
    whole = preamble.replace(b"--B", b"..B") + b"\r\n" + whole + b"epilogue"
    splitter, parts, place = Splitter("B", 200), [], 0
    while place < len(whole):
        size = cuts[place % len(cuts)]
        parts += splitter.feed(whole[place : place + size])
        place += size
    assert [part.body for part in parts] == [file.replace(b"--B", b"..B") for file in files]
    assert {part.content_type for part in parts} == {"application/dicom"}
    assert splitter.ended


@given(st.binary(max_size=300))
def test_any_bytes_are_a_body_or_are_refused(content: bytes) -> None:
    splitter = Splitter("B", 50)
    try:
        list(splitter.feed(b"--B\r\n" + content))
    except (Malformed, TooLarge):
        return


def test_a_line_that_only_begins_like_the_boundary_is_content() -> None:
    content = b"first\r\n--Bx\r\nsecond"
    (part,) = Splitter("B", 100).feed(joined("B", "application/dicom", content))
    assert part.body == content


def test_a_part_that_never_ends_is_bounded_before_it_is_whole() -> None:
    splitter = Splitter("B", 1000)
    assert list(splitter.feed(b"--B\r\n" + bytes(9000))) == []
    with pytest.raises(TooLarge):
        list(splitter.feed(bytes(1000)))


@pytest.mark.parametrize("stated", ["multipart/related", "", "multipart/related; boundary=", "a;b"])
def test_a_header_without_a_boundary_is_malformed(stated: str) -> None:
    with pytest.raises(Malformed):
        boundary(stated)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_dicom_file_or_are_refused(content: bytes) -> None:
    for data in (content, bytes(128) + b"DICM" + content):
        with pytest.raises(NoFile):
            opened(data)


# Out


@dataclass
class WebPacs:
    """A DICOMweb server that answers as it is told to."""

    port: int = field(default_factory=free_port)
    status: int = 200
    answer: Callable[[str], bytes] = lambda uid: listing(uid)  # noqa: PLW0108 - defined below
    found: list[str] = field(default_factory=list)
    query_status: int = 200
    tls: dict[str, Path] | None = None
    asked: list[str] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Path and Authorization of each request."""

    @contextmanager
    def running(self) -> Iterator["WebPacs"]:
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        if self.tls is not None:
            context = ssl.create_default_context(
                ssl.Purpose.CLIENT_AUTH, cafile=self.tls["trusted_certificates"]
            )
            context.load_cert_chain(self.tls["certificate"], self.tls["private_key"])
            context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                (part,) = Splitter(boundary(self.headers["Content-Type"]), 10**8).feed(content)
                uid = opened(part.body).sop_instance_uid
                pacs.asked.append(uid)
                self._answer(pacs.status, pacs.answer(uid))

            def do_GET(self) -> None:
                found = [uid for uid in pacs.found if f"SOPInstanceUID={uid}" in self.path]
                items = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in found]
                self._answer(pacs.query_status, json.dumps(items).encode())

            def _answer(self, status: int, content: bytes) -> None:
                pacs.seen.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def listing(uid: str, keyword: str = "ReferencedSOPSequence", reason: int | None = None) -> bytes:
    """Return a response that names one object."""
    item, response = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2", uid
    if reason is not None:
        item.FailureReason = reason
    setattr(response, keyword, [item])
    return response.to_json().encode()


def refusal(reason: int) -> Callable[[str], bytes]:
    return lambda uid: listing(uid, "FailedSOPSequence", reason)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "data")
    made.put("1.1", "web")
    yield made
    made.close()


@pytest.fixture
def send(outbox: Outbox) -> Iterator[Callable[..., WebSender]]:
    """Return what makes senders to a port, closed afterwards."""
    made: list[WebSender] = []

    def sender(port: int, **changes: Any) -> WebSender:
        values = {"name": "web", "url": f"http://127.0.0.1:{port}/dicom-web", "timeout": 5.0}
        made.append(
            WebSender(
                WebDestination(**values | changes),
                ledger=outbox.ledger,
                spool=outbox.spool,
                clock=lambda: outbox.now,
            )
        )
        return made[-1]

    yield sender
    for item in made:
        item.close()


def test_what_the_answer_lists_is_delivered(outbox: Outbox, send: Callable[..., WebSender]) -> None:
    with WebPacs().running() as pacs:
        assert send(pacs.port).step()
    assert {end[0] for end in outbox.ends().values()} == {"DELIVERED"}
    assert outbox.queue()["state"] == State.COMMITTED
    assert pacs.seen[0][0] == "/dicom-web/studies/1.9"


@pytest.mark.parametrize(
    ("status", "answer", "state", "reason"),
    [
        (200, lambda _uid: b"{}", "PENDING", Delivery.NOT_LISTED),
        (200, lambda _uid: listing("9.9"), "PENDING", Delivery.NOT_LISTED),
        (200, lambda _uid: b"<html>", "PENDING", Delivery.NO_ANSWER),
        (200, lambda _uid: b"[1]", "PENDING", Delivery.NO_ANSWER),
        (202, refusal(0xA700), "PENDING", Delivery.OUT_OF_RESOURCES),
        (409, refusal(0x0110), "PENDING", Delivery.OUT_OF_RESOURCES),
        (409, refusal(0x0122), "FAILED", Delivery.REFUSED),
        (200, refusal(0xC000), "FAILED", Delivery.REFUSED),
        (409, refusal(0x0111), "DELIVERED", None),
        (503, listing, "PENDING", Delivery.OUT_OF_RESOURCES),
        (500, listing, "PENDING", Delivery.OUT_OF_RESOURCES),
        (429, listing, "PENDING", Delivery.OUT_OF_RESOURCES),
        (400, listing, "FAILED", Delivery.REFUSED),
        (404, listing, "FAILED", Delivery.REFUSED),
        (413, listing, "FAILED", Delivery.REFUSED),
        (401, listing, "FAILED", Delivery.CREDENTIALS),
        (403, listing, "FAILED", Delivery.CREDENTIALS),
        (302, listing, "FAILED", Delivery.REFUSED),
    ],
)
def test_each_answer_has_its_state_and_its_sentence(
    outbox: Outbox,
    send: Callable[..., WebSender],
    status: int,
    answer: Callable[[str], bytes],
    state: str,
    reason: Delivery | None,
) -> None:
    with WebPacs(status=status, answer=answer).running() as pacs:
        send(pacs.port).step()
    assert {end[:2] for end in outbox.ends().values()} == {(state, reason)}


def test_a_server_that_is_away_costs_one_connection_and_gets_everything_when_it_is_back(
    outbox: Outbox, send: Callable[..., WebSender]
) -> None:
    port = free_port()
    sender = send(port)
    assert sender.step()
    assert {end[1] for end in outbox.ends().values()} == {Delivery.UNREACHABLE}
    assert not sender.step()
    outbox.now += 3600
    with WebPacs(port).running() as pacs:
        assert sender.step()
    assert pacs.asked == ["1.1.0", "1.1.1", "1.1.2"]
    assert outbox.queue()["state"] == State.COMMITTED


def test_what_a_query_finds_is_committed_and_what_it_does_not_is_sent_again(
    outbox: Outbox, send: Callable[..., WebSender]
) -> None:
    with WebPacs(found=["1.1.0", "1.1.1"]).running() as pacs:
        sender = send(pacs.port, commitment=True)
        assert sender.step()
        assert outbox.queue()["state"] == State.DELIVERED
        assert not sender.step()
        outbox.now += 61
        assert sender.step()
        assert outbox.queue()["state"] == State.REPORTED
        pacs.found.append("1.1.2")
        assert sender.step()
    assert pacs.asked == ["1.1.0", "1.1.1", "1.1.2", "1.1.2"]
    assert outbox.queue()["committed_by"] == QUERY


def test_a_server_without_queries_is_believed(
    outbox: Outbox, send: Callable[..., WebSender]
) -> None:
    with WebPacs(query_status=404).running() as pacs:
        send(pacs.port, commitment=True).step()
    assert outbox.queue()["committed_by"] == RESPONSES


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ({"token_file": "secret"}, "Bearer s3cret"),
        ({"username": "node", "password_file": "secret"}, "Basic bm9kZTpzM2NyZXQ="),
        ({}, ""),
    ],
)
def test_credentials_come_from_their_files_and_a_renewed_one_counts(
    tmp_path: Path, names: dict[str, str], shown: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    files = {key: secret if key.endswith("file") else value for key, value in names.items()}
    with WebPacs().running() as pacs:
        client = Client(WebServer(url=f"http://127.0.0.1:{pacs.port}", **files))  # type: ignore[arg-type]
        assert list(client.search("STUDY", StudyDate="20200101")) == []
        secret.write_text("renewed")
        list(client.search("STUDY", StudyDate="20200101"))
        client.close()
    assert pacs.seen[0][1] == shown
    assert (pacs.seen[1][1] == shown) is not names.keys()


def test_a_secret_that_cannot_be_read_is_a_refusal_in_a_sentence(tmp_path: Path) -> None:
    client = Client(WebServer(url="http://127.0.0.1:9", token_file=tmp_path / "absent"))
    with pytest.raises(Rejected, match="secret"):
        list(client.search("STUDY"))
    client.close()


def test_a_client_certificate_is_shown_and_a_stranger_to_us_gets_nothing(tmp_path: Path) -> None:
    ours, other = Authority.new(tmp_path, "ours"), Authority.new(tmp_path, "other")
    pacs = WebPacs(tls=ours.vouch("pacs"))
    with pacs.running():
        url = f"https://127.0.0.1:{pacs.port}"
        client = Client(WebServer(url=url, **ours.vouch("node")))
        assert list(client.search("STUDY")) == []
        client.close()
        for files in (other.vouch("stranger"), {"trusted_certificates": ours.certificate}):
            client = Client(WebServer(url=url, **files))
            with pytest.raises(Unreachable):
                list(client.search("STUDY"))
            client.close()


def test_a_server_that_speaks_no_tls_is_told_apart_from_one_that_is_away() -> None:
    with WebPacs().running() as pacs:
        client = Client(WebServer(url=f"https://127.0.0.1:{pacs.port}"))
        with pytest.raises(Insecure):
            list(client.search("STUDY"))
        client.close()
    with pytest.raises(Unreachable):
        list(Client(WebServer(url=f"http://127.0.0.1:{free_port()}")).search("STUDY"))


def test_a_server_that_ignores_the_page_is_not_asked_for_ever() -> None:
    with WebPacs(found=["1.1"]).running() as pacs:
        client = Client(WebServer(url=f"http://127.0.0.1:{pacs.port}"))
        keys = {"StudyInstanceUID": "1.9", "SeriesInstanceUID": "1.9.1", "SOPInstanceUID": "1.1"}
        assert len(list(client.search("IMAGE", **keys))) == 1
        client.close()


def test_results_go_to_orthanc_by_stow_and_a_query_confirms_them(tmp_path: Path) -> None:
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", node_port=port, dicomweb=True) as orthanc:
        node = Node(tmp_path / "node", port=port)
        node.config.write_text(
            node.config.read_text()
            + f'[[destinations]]\nname = "web"\nurl = "{orthanc.dicomweb}"\ncommitment = true\n'
        )
        with running(node):
            item = cart_ecg("one")
            push(node.address, item)
            assert poll(lambda: node.rows()[0]["state"] == State.COMMITTED, 60)
            assert node.rows()[0]["committed_by"] == QUERY
            study = item.StudyInstanceUID
            assert len(orthanc.find("Instance", StudyInstanceUID=study)) == 3
            done = node.command("check")
            assert f"web answers at {orthanc.dicomweb}." in done.stdout


# Settings


def wrong(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    return str(caught.value)


def test_a_destination_is_a_web_server_or_a_dicom_server_and_not_both() -> None:
    both = {"url": "http://pacs/dicom-web", "ae_title": "PACS", "host": "h", "port": 104}
    for entry in (both, {"name": "neither"}):
        for section in ("destinations", "sources"):
            assert "either a url (DICOMweb), or ae_title, host and port" in wrong(
                **{section: [entry]}
            )


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"url": "ftp://pacs"}, "url"),
        ({"url": "http://pacs?x=1"}, "url"),
        ({"url": "http://pacs", "username": "node"}, "password_file"),
        ({"url": "http://pacs", "certificate": "a.pem"}, "private_key"),
        (
            {"url": "http://p", "username": "n", "password_file": "f", "token_file": "t"},
            "not both",
        ),
    ],
)
def test_a_web_server_that_is_not_whole_is_named(entry: dict[str, str], named: str) -> None:
    assert named in wrong(destinations=[entry])


def test_a_short_token_is_refused_and_a_long_one_is_never_shown() -> None:
    assert "16 characters" in wrong(stow={"token": "short"})
    assert TOKEN not in Settings.model_validate({"stow": {"token": TOKEN}}).model_dump_json()


def test_names_come_from_the_host_unless_they_are_given() -> None:
    settings = Settings.model_validate({"destinations": [{"url": "https://pacs.hospital:8443/dw"}]})
    assert settings.destinations[0].name == "pacs.hospital"
