"""A stranger's model package, examined in a process of its own before anything here opens it.

A parser and a runtime are a large surface. The process has bounds of memory, processor time and
open files, may write no file, and its death is a refusal like any other (RELIABILITY T16).
"""

import json
import resource
import subprocess
import sys
from dataclasses import asdict
from typing import Final

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
_PATIENCE: Final = 120.0
"""Seconds by the clock."""


def apart(data: bytes) -> ModelIdentity:
    """Return what a package is, after every check and its self-test in another process.

    Raises
    ------
    ModelRejected
        If it is none, or examining it took more than a model may take.
    """
    if len(data) > MAX_BYTES:
        raise too_large(len(data))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dicom_node.examine"],
            input=data,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        document = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise ModelRejected(
            ModelReason.UNREADABLE, "Examining it took too much time or memory, or ended badly."
        ) from None
    if "reason" in document:
        raise ModelRejected(ModelReason(document["reason"]), document["message"])
    return ModelIdentity(**document)


def bound() -> None:
    """Bound what this process may take, once and for all."""
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
