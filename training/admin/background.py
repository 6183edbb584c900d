"""What goes on without being asked: the index follows the ledger, and schedules tick.

One process of an installation does it; another admin service beside it only answers.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from training.admin.access import Office
from training.admin.schedule import Schedules, Ticker, only_here

log = structlog.get_logger()

_PAUSE: Final = 0.5  # seconds
_PATIENCE: Final = 10.0  # seconds for the batch in hand


@contextmanager
def at_work(office: Office, schedules: Schedules) -> Iterator[None]:
    """Keep it going as long as the context lasts, if nobody else does."""
    with ExitStack() as stack:
        if stack.enter_context(only_here(office.settings.storage.folder)):
            stack.enter_context(_indexing(office))
            ticker = Ticker(schedules, office.clock)
            ticker.start()
            stack.callback(ticker.stop)
        yield


@contextmanager
def _indexing(office: Office) -> Iterator[None]:
    """Bring the index to where the ledger is, and keep it there."""
    stopping = threading.Event()
    _catch_up(office, stopping, once=True)
    thread = threading.Thread(
        target=_follow, args=(office, stopping), name="admin-index", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_PATIENCE)


def _follow(office: Office, stopping: threading.Event) -> None:
    while not stopping.wait(_PAUSE):
        _catch_up(office, stopping)


def _catch_up(office: Office, stopping: threading.Event, *, once: bool = False) -> None:
    try:
        while office.index.refresh() and not once and not stopping.is_set():
            pass
    except SQLAlchemyError as error:
        log.error("index_not_refreshed", error=type(error).__name__)  # noqa: TRY400 - no trace
