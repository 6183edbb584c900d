"""Named places where a test may make the node die, fail or wait; free when off.

``SINUSNODE_FAILPOINT=after_write:kill`` kills the process the first time it passes there;
``:fail`` raises OSError each time; ``:wait`` sleeps an hour. Several are separated by commas.
Without the variable, :func:`reach` is a function that does nothing.
"""

import errno
import os
import signal
import time
from collections.abc import Callable

VARIABLE = "SINUSNODE_FAILPOINT"

NAMES = frozenset(
    {
        "after_write",
        "after_sync",
        "before_ledger",
        "after_ledger",
        "before_analysis",
        "after_analysed",
        "after_report",
        "mid_delivery",
        "before_commit",
    }
)
"""On the way of an ECG."""
BESIDE = frozenset({"in_shadow", "after_purge"})
"""Where no ECG waits."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail() -> None:
    raise OSError(errno.ENOSPC, "failpoint")


def _wait() -> None:
    time.sleep(3600)


_ACTIONS: dict[str, Callable[[], None]] = {"kill": _kill, "fail": _fail, "wait": _wait}


def _off(name: str) -> None:
    """Do nothing: no failpoint is set."""


def _armed(points: dict[str, str]) -> Callable[[str], None]:
    def reach(name: str) -> None:
        if name in points:
            _ACTIONS[points[name]]()

    return reach


def _parse(text: str) -> dict[str, str]:
    points = dict(item.split(":", 1) for item in text.split(","))
    unknown = points.keys() - NAMES - BESIDE
    if unknown:
        raise ValueError(f"unknown failpoints: {', '.join(sorted(unknown))}")
    return points


reach = _armed(_parse(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else _off
