"""Named places where a test may make the node die, fail or wait; free when off.

``SINUSNODE_FAILPOINT=after_write:kill`` kills the process the first time it passes there;
``:fail`` raises OSError each time; ``:wait`` sleeps an hour. Several are separated by commas.
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


_armed: dict[str, Callable[[], None]] = {}


def arm(text: str) -> None:
    """Arm what a value of the variable says.

    Raises
    ------
    ValueError
        If there is no such point.
    """
    points = dict(item.split(":", 1) for item in text.split(",") if item)
    unknown = points.keys() - NAMES - BESIDE
    if unknown:
        raise ValueError(f"unknown failpoints: {', '.join(sorted(unknown))}")
    _armed.update({name: _ACTIONS[action] for name, action in points.items()})


def reach(name: str) -> None:
    """Do what is armed at this point: as a rule, nothing."""
    if name in _armed:
        _armed[name]()


arm(os.environ.get(VARIABLE, ""))
