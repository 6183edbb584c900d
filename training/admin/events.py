"""Server-sent events: somebody looks on while something goes on (WHATWG HTML §9.2)."""

from collections.abc import AsyncIterator, Callable
from typing import Final

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

_PAUSE: Final = 0.5  # seconds
_KEEP_ALIVE: Final = 30
"""Pauses without news after which a comment shows that the line is alive."""
LONGEST: Final = 3600.0
"""Seconds after which a stream ends; a browser comes again by itself."""


def follow(read: Callable[[], tuple[str, bool]]) -> StreamingResponse:
    """Return the stream of what `read` says, whenever that changes, until it says the end.

    Parameters
    ----------
    read
        Returns a line of JSON, and whether it is the last.
    """
    return StreamingResponse(
        _stream(read), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(read: Callable[[], tuple[str, bool]]) -> AsyncIterator[str]:
    last, quiet = None, 0
    with anyio.move_on_after(LONGEST):
        while True:
            text, ended = await run_in_threadpool(read)
            if text != last:
                yield f"data: {text}\n\n"
                last, quiet = text, 0
            if ended:
                yield "event: end\ndata: {}\n\n"
                return
            quiet += 1
            if quiet % _KEEP_ALIVE == 0:
                yield ": still here\n\n"
            await anyio.sleep(_PAUSE)
