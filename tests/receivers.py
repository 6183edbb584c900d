"""Systems outside DICOM for tests: an MLLP receiver and a FHIR server that do as they are told."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from outbox import Outbox

from dicom_node.ledger import Produced, Received

START, END = b"\x0b", b"\x1c\r"

Answer = Callable[[bytes], bytes | None]
"""Returns what is sent back for a message; None closes the connection."""


def waiting(outbox: Outbox, kind: str, message: bytes, uid: str = "1.1") -> None:
    """Add an ECG whose one message of this kind waits for the destination EHR."""
    received = Received(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.9.1.2",
        sop_instance_uid=uid,
        blob=outbox.spool.write(uid.encode()),
        calling_ae="CART",
        called_ae="SINUSNODE",
        address="127.0.0.1",
        received_at=outbox.now,
    )
    outbox.ledger.receive([received], "{}", "plan")
    lease = outbox.ledger.lease("worker", outbox.now, outbox.now + 10)
    assert lease is not None
    outbox.ledger.analysed(lease, "result", outbox.now)
    made = Produced(
        role=kind,
        sop_class_uid="",
        sop_instance_uid=f"{uid}.1",
        blob=outbox.spool.write(message),
        destinations=("EHR",),
    )
    outbox.ledger.reported(lease, [made], (), outbox.now)


def control_of(message: bytes) -> bytes:
    return message.split(b"\r")[0].split(b"|")[9]


def ack(code: str, *segments: str, control: bytes | None = None) -> Answer:
    """Return what acknowledges a message with this code."""

    def answer(message: bytes) -> bytes:
        named = (control or control_of(message)).decode()
        lines = [
            "MSH|^~\\&|EHR||SINUSNODE||20260101||ACK^R01^ACK|77|P|2.5.1",
            f"MSA|{code}|{named}",
        ]
        return START + "\r".join([*lines, *segments, ""]).encode() + END

    return answer


def silent(_message: bytes) -> bytes:
    return b""


def cut(_message: bytes) -> None:
    """Close the connection."""


@dataclass
class Receiver:
    """What an MLLP receiver heard, and how it answers: the last answer is for all that follow."""

    port: int = 0
    answers: list[Answer] = field(default_factory=lambda: [ack("AA")])
    messages: list[bytes] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)

    def serve(self, peer: socket.socket) -> None:
        block = b""
        while chunk := _received(peer):
            block += chunk
            while END in block:
                message, _, block = block.partition(END)
                self.messages.append(message.removeprefix(START))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                said = answer(message)
                if said is None:
                    peer.shutdown(socket.SHUT_RDWR)
                    return
                peer.sendall(said)


def _received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except OSError:
        return b""


@contextmanager
def receiver(
    *answers: Answer, port: int = 0, secure: Callable[[socket.socket], socket.socket] | None = None
) -> Iterator[Receiver]:
    """Run an MLLP receiver on loopback."""
    made = Receiver(answers=list(answers) or [ack("AA")])
    with socket.create_server(("127.0.0.1", port)) as server:
        made.port = server.getsockname()[1]

        def accept() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(peer,), daemon=True).start()

        def talk(peer: socket.socket) -> None:
            try:
                stream = secure(peer) if secure else peer
            except OSError:
                peer.close()
                return
            made.connections.append(stream)
            made.serve(stream)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown(socket.SHUT_RDWR)
    for stream in made.connections:
        stream.close()


# FHIR


@dataclass
class FhirServer:
    """A server that creates each resource once, by its identifier; or answers as it is told."""

    port: int = 0
    answers: list[tuple[int, bytes] | None] = field(default_factory=list)
    """Status and body, one for each transaction; None closes the connection. Then it behaves."""
    after: Callable[[], object] = lambda: None
    """Called when a transaction is done, before it is answered."""
    transactions: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    def transact(self, body: bytes) -> tuple[int, bytes] | None:
        self.transactions.append(body)
        if self.answers:
            return self.answers.pop(0)
        entries = [{"response": {"status": self._create(e)}} for e in json.loads(body)["entry"]]
        self.after()
        answer = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
        return 200, json.dumps(answer).encode()

    def _create(self, entry: dict[str, Any]) -> str:
        condition = entry["request"]["ifNoneExist"]
        if condition in self.resources:
            return "200 OK"
        self.resources[condition] = entry["resource"]
        return "201 Created"


@contextmanager
def fhir_server(*answers: tuple[int, bytes] | None, port: int = 0) -> Iterator[FhirServer]:
    """Run a FHIR server on loopback."""
    made = FhirServer(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            made.headers.append(dict(self.headers))
            answer = made.transact(self.rfile.read(int(self.headers["Content-Length"])))
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._say(*answer)

        def do_GET(self) -> None:
            known = self.path == "/fhir/metadata"
            self._say(200 if known else 404, b'{"resourceType":"CapabilityStatement"}')

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        made.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()
