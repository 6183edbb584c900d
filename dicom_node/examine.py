"""A stranger's model package, examined in a process of its own before anything here opens it.

A parser and a runtime are a large surface. The process has bounds of memory, processor time and
open files, may write no file, and its death is a refusal like any other (RELIABILITY T16).
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from analysis.errors import ModelReason, ModelRejected
from analysis.model import load_model
from analysis.result import ModelIdentity
from analysis.vetting import MAX_BYTES, too_large

_LIMITS: Final = {
    resource.RLIMIT_AS: 3 * 2**30,
    resource.RLIMIT_CPU: 30,  # seconds
    resource.RLIMIT_NOFILE: 64,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
}
_LOWEST_PRIORITY: Final = 19
_PATIENCE: Final = 120.0
"""Seconds by the clock."""


def apart(package: bytes | Path) -> ModelIdentity:
    """Return what a package is, after every check and its self-test in another process.

    Of a file nothing is read here.

    Raises
    ------
    ModelRejected
        If it is none, or examining it took more than a model may take.
    """
    try:
        done = given(package, [sys.executable, "-m", "dicom_node.examine"])
        document = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise ModelRejected(
            ModelReason.UNREADABLE, "Examining it took too much time or memory, or ended badly."
        ) from None
    if "reason" in document:
        raise ModelRejected(ModelReason(document["reason"]), document["message"])
    return ModelIdentity(**document)


def given(
    package: bytes | Path, command: Sequence[str], stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Return what a command said that was given a package on its standard input.

    Raises
    ------
    ModelRejected
        TOO_LARGE, before anything is begun.
    OSError
        If there is no such file.
    subprocess.TimeoutExpired
        If it does not end.
    """
    size = package.stat().st_size if isinstance(package, Path) else len(package)
    if size > MAX_BYTES:
        raise too_large(size)
    with ExitStack() as stack:
        source: dict[str, Any] = (
            {"stdin": stack.enter_context(package.open("rb"))}
            if isinstance(package, Path)
            else {"input": package}
        )
        return subprocess.run(  # noqa: S603 - our own commands
            command,
            **source,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
        )


def bound() -> None:
    """Bound what this process may take, once and for all; an ECG goes first."""
    os.nice(_LOWEST_PRIORITY)
    for what, limit in _LIMITS.items():
        resource.setrlimit(what, (limit, limit))


def main() -> None:
    """Print what the package on standard input is, or why it is none, as JSON."""
    bound()
    try:
        document = asdict(load_model(sys.stdin.buffer.read()).identity)
    except ModelRejected as error:
        document = {"reason": error.reason, "message": error.message}
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main()
