"""A foreign model turned into a package, in a process of its own that may come to nothing.

As :mod:`dicom_node.examine` does for packages: a parser and a runtime are a large surface.
"""

import json
import resource
import subprocess
import sys
from typing import Final

from analysis.errors import ModelReason, ModelRejected
from analysis.recipe import Unit
from analysis.vetting import MAX_BYTES, too_large

_MEMORY: Final = 3 * 2**30
_SECONDS: Final = 30
"""Of processor time."""
_PATIENCE: Final = 120.0
"""Seconds by the clock."""


def adopt_apart(content: bytes, *, name: str, created: str, unit: Unit | None = None) -> bytes:
    """Return an ExChanGeAI model as a package; see :func:`training.registry.adopt`.

    Raises
    ------
    ModelRejected
        If it is none, or may not be run as it is.
    """
    if len(content) > MAX_BYTES:
        raise too_large(len(content))
    words = [name, created, str(unit) if unit else ""]
    command = [sys.executable, "-m", "training.admin.foreign", *words]
    try:
        done = subprocess.run(  # noqa: S603 - our own module; the words are arguments, no shell
            command, input=content, capture_output=True, timeout=_PATIENCE, check=False
        )
        head, _, package = done.stdout.partition(b"\n")
        document = json.loads(head)
    except (subprocess.TimeoutExpired, ValueError):
        raise ModelRejected(
            ModelReason.UNREADABLE, "Reading it took too much time or memory, or ended badly."
        ) from None
    if "reason" in document:
        raise ModelRejected(ModelReason(document["reason"]), document["message"])
    return package


def main(name: str, created: str, unit: str) -> None:
    """Print what became of the model on standard input: a line of JSON, then the package."""
    from training.registry import adopt  # noqa: PLC0415 - under the limits

    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    content = sys.stdin.buffer.read()
    try:
        made = adopt(content, name=name, created=created, unit=Unit(unit) if unit else None)
    except ModelRejected as error:
        document, package = {"reason": error.reason, "message": error.message}, b""
    except ValueError as error:
        sentence = f"{error} It can be trained on, and not be run as it is."
        document, package = {"reason": ModelReason.INVALID_CARD, "message": sentence}, b""
    else:
        document, package = {}, made.content
    sys.stdout.buffer.write(json.dumps(document).encode() + b"\n" + package)


if __name__ == "__main__":
    main(*sys.argv[1:])
