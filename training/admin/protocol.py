"""HTTP as uvicorn speaks it, with an end to waiting for a request that never comes whole.

uvicorn waits for ever for the rest of a request's head, so that whoever opens connections and
says little (Slowloris) uses them all up. Bodies have their bounds in
:mod:`training.admin.limits`.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD: Final = 10.0  # seconds for the head of a request


class Patient(H11Protocol):
    """Closes a connection that brings no whole head of a request for a while."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self._look_later()

    def _look_later(self) -> None:
        self.loop.call_later(HEAD, self._look, self.cycle)

    def _look(self, before: RequestResponseCycle | None) -> None:
        """Close it where the last request is the one of the last look, and is answered."""
        if self.transport.is_closing():
            return
        idle = getattr(self.cycle, "response_complete", True)  # there is none before the first
        if idle and self.cycle is before:
            self.transport.close()
        else:
            self._look_later()
