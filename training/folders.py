"""The folder of a run: its files by name, each whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

RUN, PLAN, SPLIT, NOTES = "run.json", "plan.json", "split.json", "notes.json"
EVALUATION, OTHER, DIFFERENCE = "evaluation.json", "current.json", "difference.json"
TESTED, PARITY, VERDICT, OUTCOME = "tested.json", "parity.json", "verdict.json", "outcome.json"
BASE, PACKAGE, NET = "base.onnx", "package.onnx", "net.onnx"
NULL: Final = "null"
"""What a file holds that something might have come into, and did not."""


def once(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a file, which is made if it is not there yet."""
    if not path.is_file():
        put(path, make().encode())
    return path.read_text(encoding="utf-8")


def put(path: Path, content: bytes) -> None:
    """Write a file, and have it on the disk before it has its name."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


_Form = TypeVar("_Form")


def unless_null(path: Path, read: Callable[[str], _Form]) -> _Form | None:
    """Return what a file holds, or None where it holds nothing."""
    text = path.read_text(encoding="utf-8")
    return None if text == NULL else read(text)
