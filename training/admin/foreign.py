"""A foreign model turned into a package, in a process of its own that may come to nothing.

As :mod:`dicom_node.examine` does for packages: a parser and a runtime are a large surface.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from analysis.errors import ModelReason, ModelRejected
from analysis.recipe import Unit
from analysis.vetting import MAX_BYTES
from dicom_node.examine import given

_MEMORY: Final = 3 * 2**30
_SECONDS: Final = 30
"""Of processor time."""


def adopt_apart(
    model: Path, package: Path, *, name: str, created: str, unit: Unit | None = None
) -> None:
    """Write the package that an ExChanGeAI model becomes; see :func:`training.registry.adopt`.

    Raises
    ------
    ModelRejected
        If it is none, or may not be run as it is.
    """
    words = [name, created, str(unit) if unit else ""]
    command = [sys.executable, "-m", "training.admin.foreign", *words]
    try:
        with package.open("wb") as file:
            done = given(model, command, file)
        document = json.loads(done.stderr.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        raise ModelRejected(
            ModelReason.UNREADABLE, "Reading it took too much time or memory, or ended badly."
        ) from None
    if "reason" in document:
        raise ModelRejected(ModelReason(document["reason"]), document["message"])


def main(name: str, created: str, unit: str) -> None:
    """Print the package that standard input becomes, and at last on standard error how it went."""
    from training.registry import adopt  # noqa: PLC0415 - under the limits

    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, MAX_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    content = sys.stdin.buffer.read()
    try:
        made = adopt(content, name=name, created=created, unit=Unit(unit) if unit else None)
    except ModelRejected as error:
        document = {"reason": error.reason, "message": error.message}
    except ValueError as error:
        sentence = f"{error} It can be trained on, and not be run as it is."
        document = {"reason": ModelReason.INVALID_CARD, "message": sentence}
    else:
        document = {}
        sys.stdout.buffer.write(made.content)
        sys.stdout.buffer.flush()
    sys.stderr.write(f"\n{json.dumps(document)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
