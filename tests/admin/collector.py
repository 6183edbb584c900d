"""A syslog server for tests, and the service that sends to it."""

import re
import socket
import ssl
import threading
from typing import Self

from office import Desk


class Collector:
    """A syslog server that keeps what it is sent."""

    def __init__(self, port: int, secure: ssl.SSLContext | None = None) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self._secure = secure
        self.data = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._server.accept()
            except OSError:
                return
            with plain:
                self._take(plain)

    def _take(self, plain: socket.socket) -> None:
        if self._secure is None:
            while chunk := plain.recv(65536):
                self.data += chunk
            return
        try:
            with self._secure.wrap_socket(plain, server_side=True) as line:
                while chunk := line.recv(65536):
                    self.data += chunk
        except OSError:
            return

    @property
    def messages(self) -> list[str]:
        """Every message, by the length before it (RFC 6587)."""
        found, rest = [], self.data
        while rest:
            stated = re.match(rb"(\d+) ", rest)
            assert stated is not None
            end = stated.end() + int(stated[1])
            found.append(rest[stated.end() : end].decode())
            rest = rest[end:]
        return found


def sent_to(desk: Desk, **syslog: object) -> None:
    """Let the trail go to a server from now on, when the test says so."""
    section = type(desk.office.settings.syslog)(host="localhost", **syslog)
    settings = desk.office.settings.model_copy(update={"syslog": section})
    object.__setattr__(desk.office, "settings", settings)
