"""The bounded server: every PDU and every message limited in bytes and in time.

pynetdicom's acceptor reads without limits: three bytes hold a thread for ever, a length field
of 4 GiB is believed, a mute TLS client blocks the accept loop. Here each PDU has a size and a
deadline, each message a size, the TLS handshake its own thread, and only established
associations count against the limit, so that no unauthenticated peer can keep a cart out.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.reasons import Refusal
from dicom_node.tls import names

_CONNECTIONS_PER_ASSOCIATION = 4
_CHUNK = 64 * 1024
_PDU_HEADER = 6

REJECTIONS = {
    Refusal.CALLING_AE_TITLE: (0x01, 0x01, 0x03),
    Refusal.ADDRESS: (0x01, 0x01, 0x03),
    Refusal.CERTIFICATE: (0x01, 0x01, 0x03),
    Refusal.CALLED_AE_TITLE: (0x01, 0x01, 0x07),
    Refusal.TOO_MANY_ASSOCIATIONS: (0x02, 0x03, 0x02),
    Refusal.OUT_OF_RESOURCES: (0x02, 0x03, 0x01),
}
"""Refusal → A-ASSOCIATE-RJ result, source, reason (PS3.8 §9.3.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may cost."""

    pdu: int
    """Bytes of one PDU's variable field."""
    message: int
    """Bytes of P-DATA between two complete DIMSE messages."""
    pdu_deadline: float
    """Seconds for one whole PDU."""
    handshake_deadline: float
    """Seconds for the TLS handshake, and for the A-ASSOCIATE-RQ."""
    idle_deadline: float
    """Seconds of silence before an association is aborted."""
    associations: int
    """Established associations at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for an association."""

    calling_ae: str
    called_ae: str
    address: str
    certificate: frozenset[str] = frozenset()
    """Names that its TLS certificate carries; none on a plain port."""


Admission = Callable[[Caller], Refusal | None]
"""Says why a caller is not let in, or None."""

FreshContext = Callable[[], ssl.SSLContext]
"""Returns the TLS context for the next connection."""

Broken = Callable[[Refusal, str, str], None]
"""Told of each connection that broke a rule: which, its address, and what happened."""


class _GuardedSocket(AssociationSocket):
    """A socket that believes no length and waits for nobody for ever."""

    limits: Limits
    broken: Broken
    message_bytes = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Return `nr_bytes`, or less where the peer closed.

        Raises
        ------
        OSError
            If a limit was passed; the reactor then closes the transport.
        """
        self.message_bytes += nr_bytes
        if nr_bytes > self.limits.pdu:
            self._complain(Refusal.BROKEN_CONNECTION, f"a PDU of {nr_bytes} bytes was announced")
        if self.message_bytes > self.limits.message:
            self._complain(Refusal.TOO_LARGE, f"{self.message_bytes} bytes in one message")
        established = self.assoc.is_established
        limits = self.limits
        seconds = limits.pdu_deadline if established else limits.handshake_deadline
        end, data = time.monotonic() + seconds, bytearray()
        while len(data) < nr_bytes:
            chunk = self._chunk(end, nr_bytes - len(data))
            if not chunk:
                break
            data += chunk
        return data

    def _chunk(self, end: float, wanted: int) -> bytes:
        left = end - time.monotonic()
        if left <= 0:
            self._late()
        self.socket.settimeout(left)
        try:
            chunk: bytes = self.socket.recv(min(_CHUNK, wanted))
        except TimeoutError:
            self._late()
        finally:
            self.socket.settimeout(None)
        return chunk

    def _late(self) -> NoReturn:
        self._complain(Refusal.BROKEN_CONNECTION, "a PDU was not finished within its deadline")

    def _complain(self, why: Refusal, what: str) -> NoReturn:
        self.broken(why, self.assoc.requestor.address_info.address, what)
        raise OSError(what)


class _GuardedHandler(RequestHandler):
    """One connection: handshake in its own thread, then an association with a guarded socket."""

    server: "_GuardedServer"

    def handle(self) -> None:
        if not isinstance(self.request, ssl.SSLSocket) or self._shake_hands():
            super().handle()

    def _shake_hands(self) -> bool:
        try:
            self.request.settimeout(self.server.limits.handshake_deadline)
            self.request.do_handshake()
            self.request.settimeout(None)
        except OSError as error:
            self.server.broken(
                Refusal.BROKEN_CONNECTION, self.client_address[0], f"TLS handshake failed: {error}"
            )
            self.request.close()
            return False
        return True

    def _create_association(self) -> Association:
        """Return the acceptor as pynetdicom makes it, sharing contexts instead of copying them."""
        association = Association(self.ae, "acceptor")
        association._server = self.server  # noqa: SLF001 - pynetdicom's own wiring
        association.name = "AcceptorThread"
        guarded = _GuardedSocket(association, client_socket=self.request)
        guarded.limits, guarded.broken = self.server.limits, self.server.broken
        association.set_socket(guarded)
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = self.server.contexts
        association.requestor.address_info = self.remote
        for event, handlers in self.server._handlers.items():  # noqa: SLF001 - as above
            for handler in [handlers] if event.is_intervention else handlers:
                association.bind(event, *handler)
        return association


class _GuardedServer(ThreadedAssociationServer):
    """Accepts, and does nothing else in the accept loop."""

    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, *args: Any, limits: Limits, broken: Broken, tls: FreshContext | None, **kwargs: Any
    ) -> None:
        self.limits = limits
        self.broken = broken
        self.tls = tls
        super().__init__(*args, request_handler=_GuardedHandler, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            connection = self.tls().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        open_connections = len(self.active_associations)
        return open_connections < _CONNECTIONS_PER_ASSOCIATION * self.limits.associations

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        self.broken(
            Refusal.BROKEN_CONNECTION, client_address[0], "an exception ended the connection"
        )

    def established(self) -> int:
        """Return how many associations are established."""
        return sum(item.is_established for item in self.active_associations)


class Server:
    """A listening DICOM port.

    Parameters
    ----------
    ae_title, address
        Called AE title; host and port to bind.
    contexts
        Presentation contexts that are accepted.
    limits
        What one peer may cost.
    admission
        Judges each A-ASSOCIATE-RQ before negotiation.
    handlers
        pynetdicom (event, handler) pairs.
    broken
        Told of each connection that broke a rule.
    tls
        Returns the context of the next connection; with it, this is a TLS port.
    """

    def __init__(
        self,
        ae_title: str,
        address: tuple[str, int],
        *,
        contexts: Sequence[PresentationContext],
        limits: Limits,
        admission: Admission,
        handlers: Sequence[tuple[Any, Callable[..., Any]]],
        broken: Broken,
        tls: FreshContext | None = None,
    ) -> None:
        ae = AE(ae_title)
        ae.maximum_pdu_size = limits.pdu - _PDU_HEADER
        ae.maximum_associations = 1_000_000  # counted here, by what is established
        ae.acse_timeout = limits.handshake_deadline
        ae.network_timeout = limits.idle_deadline
        ae.dimse_timeout = limits.idle_deadline
        self._admission = admission
        self._limits = limits
        self._server: _GuardedServer = ae.make_server(
            address,
            ae_title=ae_title,
            contexts=list(contexts),
            evt_handlers=[
                (evt.EVT_REQUESTED, self._admit),
                (evt.EVT_DIMSE_RECV, _message_done),
                *handlers,
            ],
            server_class=_GuardedServer,
            limits=limits,
            broken=broken,
            tls=tls,
        )
        ae._servers.append(self._server)  # noqa: SLF001 - shutdown() removes it there
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    def start(self) -> None:
        """Accept connections from now on."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Stop accepting, then wait up to `seconds` for open associations to end."""
        self._server.shutdown()
        end = time.monotonic() + seconds
        while self._server.established() and time.monotonic() < end:
            time.sleep(0.05)

    def _admit(self, event: evt.Event) -> None:
        association = event.assoc
        request = association.requestor.primitive
        caller = Caller(
            calling_ae=request.calling_ae_title.strip(),
            called_ae=request.called_ae_title.strip(),
            address=association.requestor.address_info.address,
            certificate=_certificate(association.dul.socket.socket),
        )
        try:
            refusal = self._admission(caller)
        except Exception:  # noqa: BLE001 - a door that cannot judge stays shut
            refusal = Refusal.OUT_OF_RESOURCES
        if refusal is None and self._server.established() >= self._limits.associations:
            refusal = Refusal.TOO_MANY_ASSOCIATIONS
        if refusal is not None:
            association.acse.send_reject(*REJECTIONS[refusal])
            association.kill()


def _certificate(stream: socket.socket) -> frozenset[str]:
    return names(stream.getpeercert()) if isinstance(stream, ssl.SSLSocket) else frozenset()


def _message_done(event: evt.Event) -> None:
    event.assoc.dul.socket.message_bytes = 0
