"""Services of other packages that `sinusnode run` keeps going beside the node.

Each is a command of its own process, known here by name alone: the node imports none of it. A
companion lives no longer than the node, and its end is no end of the node: it is begun again.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import structlog

from dicom_node.settings import Settings

log = structlog.get_logger()

_PAUSE: Final = 5.0  # seconds before one that ended is begun again
_SHUTDOWN: Final = 20.0  # seconds for what it has in hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """One service."""

    name: str
    arguments: tuple[str, ...]
    """Of the command `sinusnode`, which takes `--attended` with them: see :func:`attend`."""
    needs: str
    """A module of its extra; where that is not installed, the service is left out."""
    wanted: Callable[[Settings], bool]
    """Whether the settings ask for it."""


COMPANIONS: Final = (
    Companion(
        name="admin",
        arguments=("admin",),
        needs="fastapi",
        wanted=lambda settings: settings.admin.companion,
    ),
    Companion(
        name="train-worker",
        arguments=("train", "worker"),
        needs="torch",
        wanted=lambda settings: settings.training.worker,
    ),
)


def chosen(settings: Settings) -> tuple[Companion, ...]:
    """Return the companions that are installed and wanted."""
    return tuple(item for item in COMPANIONS if item.wanted(settings) and find_spec(item.needs))


class Companions:
    """The processes of some companions.

    Parameters
    ----------
    items
        Which.
    lifeline
        The reading end of a pipe whose other end only the node holds.
    """

    def __init__(self, items: Sequence[Companion], lifeline: int) -> None:
        self._items = {item.name: item for item in items}
        self._lifeline = lifeline
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._due = dict.fromkeys(self._items, 0.0)

    def watch(self) -> None:
        """Begin what does not run, some seconds after it last ended."""
        for name, item in self._items.items():
            process = self._processes.get(name)
            if process is not None and process.poll() is not None:
                log.error("companion_ended", companion=name, exitcode=process.returncode)
                self._due[name] = time.monotonic() + _PAUSE
                del self._processes[name]
            elif process is None and time.monotonic() >= self._due[name]:
                self._processes[name] = self._begin(item)

    def _begin(self, item: Companion) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-m", "dicom_node", *item.arguments, "--attended"]
        return subprocess.Popen(words, stdin=self._lifeline)  # noqa: S603 - our own command

    def stop(self) -> None:
        """End them all, those that do not end by themselves too."""
        for process in self._processes.values():
            process.terminate()
        end = time.monotonic() + _SHUTDOWN
        for process in self._processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def attend() -> None:
    """End this process as soon as standard input closes: the node that began it is gone."""
    threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
