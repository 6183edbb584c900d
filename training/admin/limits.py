"""How often somebody may ask, and what bounds a request before anybody looks at it.

Counts are held in memory: one process serves, and a restart forgives.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from training.admin.problems import Problem

_MINUTE: Final = 60.0
_COUNTED: Final = 10_000
"""Names that are remembered at a time."""

CONTENT_SECURITY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}


class Limiter:
    """Counts events of a name within a minute; who passes the limit is out for a while.

    Parameters
    ----------
    limit
        Events of a minute that are still well.
    locked
        Seconds that one is out for.
    clock
        Monotonic seconds.
    """

    def __init__(self, limit: int, locked: float, clock: Callable[[], float]) -> None:
        self._limit, self._locked, self._clock = limit, locked, clock
        self._events: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, name: str) -> float:
        """Return the seconds that a name is still out for; 0 = it may ask."""
        with self._lock:
            return max(0.0, self._until.get(name, 0.0) - self._clock())

    def count(self, name: str) -> None:
        """Remember one event of a name."""
        now = self._clock()
        with self._lock:
            if len(self._events) > _COUNTED:
                self._forget(now)
            events = self._events.setdefault(name, deque())
            events.append(now)
            while events[0] < now - _MINUTE:
                events.popleft()
            if len(events) >= self._limit:
                self._until[name] = now + self._locked
                events.clear()

    def _forget(self, now: float) -> None:
        old = now - _MINUTE
        self._events = {n: found for n, found in self._events.items() if found and found[-1] > old}
        self._until = {name: until for name, until in self._until.items() if until > now}


class Rate:
    """Lets a name ask so often in a minute, and no more than a minute's worth at once.

    Parameters
    ----------
    limit
        Returns the requests of a minute; it may change.
    clock
        Monotonic seconds.
    """

    def __init__(self, limit: Callable[[], int], clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._left: dict[str, tuple[float, float]] = {}
        """What each name has left, and when that was so."""
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Return 0 where a name may ask now, which counts; else the seconds until it may."""
        limit, now = self._limit(), self._clock()
        with self._lock:
            if len(self._left) > _COUNTED:
                self._left = {n: had for n, had in self._left.items() if had[1] > now - _MINUTE}
            had, at = self._left.get(name, (float(limit), now))
            left = min(float(limit), had + (now - at) * limit / _MINUTE)
            may = left >= 1.0
            self._left[name] = (left - may, now)
            return 0.0 if may else (1.0 - left) * _MINUTE / limit


class Bounds:
    """Gives every answer its security headers, and every body a size and a time.

    Parameters
    ----------
    bytes_of
        Returns the most bytes that a request to a method and path may bring.
    deadline
        Seconds for a whole body.
    secure
        Whether it is served over TLS.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bytes_of: Callable[[str, str], int],
        deadline: float,
        secure: bool,
    ) -> None:
        self._app = app
        self._bytes_of = bytes_of
        self._deadline = deadline
        self._headers = {**_HEADERS, **(_TRANSPORT if secure else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        limit = self._bytes_of(scope["method"], scope["path"])
        try:
            _check_length(Headers(scope=scope).get("content-length", "0"), limit)
        except Problem as refusal:
            await refusal.response()(scope, receive, sending)
            return
        await self._app(scope, _bounded(receive, limit, self._deadline), sending)


def _check_length(stated: str, limit: int) -> None:
    if not stated.isdecimal():
        raise Problem(HTTPStatus.BAD_REQUEST, "Its Content-Length is no number.")
    if len(stated) > len(str(limit)) or int(stated) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The request is larger than {limit} bytes.",
        headers={"Connection": "close"},
    )


def _bounded(receive: Receive, limit: int, deadline: float) -> Receive:
    """Return what receives a body of so many bytes within so many seconds, and no more."""
    end: float | None = None
    seen, whole = 0, False

    async def bounded() -> Message:
        nonlocal end, seen, whole
        if whole:
            return await receive()  # a client that goes away
        now = asyncio.get_running_loop().time()
        end = end or now + deadline
        try:
            message = await asyncio.wait_for(receive(), max(0.0, end - now))
        except TimeoutError:
            raise Problem(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request did not arrive within {deadline:g} seconds.",
                headers={"Connection": "close"},
            ) from None
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        whole = not message.get("more_body", False)
        return message

    return bounded
