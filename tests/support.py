"""What tests need from outside the project, and what happens where it is absent."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SINUSNODE_SHARED", ROOT.parent / "shared"))
REQUIRED = os.environ.get("SINUSNODE_REQUIRE") == "all"


def absent(what: str) -> None:
    """Skip the test for want of something, or fail it where everything is required."""
    if REQUIRED:
        pytest.fail(f"{what} is absent, and SINUSNODE_REQUIRE=all")
    pytest.skip(f"{what} is absent")


def shared(*parts: str) -> Path:
    """Return a path below the shared folder of real ECGs; skip the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        absent(f"shared/{'/'.join(parts)}")
    return path


def need_program(name: str) -> str:
    """Return the path of a program; skip the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        absent(f"the program {name}")
    return str(path)


def need_file(path: str) -> Path:
    """Return a path outside the project; skip the test where nothing is there."""
    if not Path(path).exists():
        absent(f"the file {path}")
    return Path(path)
