"""What goes on without being asked: the index follows, the audit trail goes out, schedules tick.

One process of an installation does it; another admin service beside it only answers.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from training.admin.access import Office
from training.admin.forward import forward
from training.admin.schedule import Schedules, Ticker, only_here

log = structlog.get_logger()

_INDEX_PAUSE: Final = 0.5  # seconds
_FORWARD_PAUSE: Final = 5.0  # seconds
_DAY: Final = 86400.0  # seconds
_PATIENCE: Final = 10.0  # seconds for the batch in hand


@contextmanager
def at_work(office: Office, schedules: Schedules) -> Iterator[None]:
    """Keep it going as long as the context lasts, if nobody else does."""
    with ExitStack() as stack:
        if stack.enter_context(only_here(office.settings.storage.folder)):
            _once("index", office.index.refresh)
            stack.enter_context(_repeated("index", office.index.refresh, _INDEX_PAUSE))
            if office.settings.syslog.host:
                stack.enter_context(_repeated("forward", lambda: forward(office), _FORWARD_PAUSE))
            stack.enter_context(_repeated("audit", lambda: _tell_end(office), _DAY))
            ticker = Ticker(schedules, office.clock)
            ticker.start()
            stack.callback(ticker.stop)
        yield


def _tell_end(office: Office) -> int:
    """Let the log say where the audit trail ends; it is kept elsewhere than the ledger."""
    log.info("audit_trail", end=str(office.ledger.end()))
    return 0


@contextmanager
def _repeated(name: str, step: Callable[[], int], pause: float) -> Iterator[None]:
    """Take a step again and again in a thread of its own, at once while there is more to do."""
    stopping = threading.Event()

    def repeat() -> None:
        while not stopping.is_set():
            if not _once(name, step):
                stopping.wait(pause)

    thread = threading.Thread(target=repeat, name=f"admin-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_PATIENCE)


def _once(name: str, step: Callable[[], int]) -> int:
    """Return what a step did; 0 where it could not be taken now."""
    try:
        return step()
    except (SQLAlchemyError, OSError) as error:
        log.error("not_done", what=name, error=type(error).__name__)  # noqa: TRY400 - no trace
        return 0
