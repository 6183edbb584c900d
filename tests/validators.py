"""The programs that judge DICOM objects, and which of their words are not so."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from support import need_program


class FalsePositive(NamedTuple):
    """What a program says of a good object."""

    program: str
    words: str
    """Part of its line."""
    why: str


_THEIRS: Final = "(the source's own)"
_PASSED_ON: Final = ("(0010,", "Value invalid for this VR")

FALSE_POSITIVES: Final = (
    FalsePositive(
        "dciodvfy", "MultiplexGroupTimeOffset",
        "its edition forbids what PS3.3 C.10.9 allows: may be present otherwise",
    ),
    FalsePositive(
        "dciodvfy", "Information Object Not found", "it does not know General 32-bit ECG"
    ),
    FalsePositive(
        "dciodvfy", _THEIRS, "identity and a cart's words are copied as they came, valid or not"
    ),
    FalsePositive(
        "dsrdump", "The VR checker does not support this Specific Character Set",
        "DCMTK 3.6.7 checks the letters of few character sets",
    ),
    FalsePositive(
        "dsrdump", "Reading unknown/unsupported SpecificCharacterSet",
        "DCMTK 3.6.7 reads no code extensions",
    ),
    FalsePositive(
        "dcentvfy", "Element=<AccessionNumber> IE",
        "files Accession Number under Study in an SR and under Series in a waveform",
    ),
    FalsePositive("dcentvfy", "Unrecognized SOP Class", "it knows none of STAND_INS"),
    FalsePositive("dcentvfy", "IE <Unknown>", "it compares with a class that it does not know"),
    FalsePositive("dcentvfy", "versus <Unknown>", "it compares with a class that it does not know"),
    FalsePositive(
        "pydicom", "padded differently",
        "it drops the surplus padding of a source's value, which is passed on as it came",
    ),
)  # fmt: skip

STAND_INS: Final = (
    ("1.2.840.10008.5.1.4.1.1.88.77", "1.2.840.10008.5.1.4.1.1.88.34"),
    ("1.2.840.10008.5.1.4.1.1.9.1.4", "1.2.840.10008.5.1.4.1.1.9.1.2"),
)
"""Classes that no validator knows, and like ones that each does: Waveform Annotation SR as
Comprehensive 3D SR; General 32-bit ECG as General ECG, whose samples dciodvfy would refuse."""


def errors(path: Path) -> list[str]:
    """Return what dciodvfy finds wrong in an object."""
    return complaints("dciodvfy", attributes(path))


def run(program: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Return how a program ended, and what it said."""
    command = [need_program(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def complaints(program: str, said: str) -> list[str]:
    """Return the lines of a program that are no false positive."""
    return [line for line in said.splitlines() if line.strip() and not excuse(program, line)]


def excuse(program: str, line: str) -> FalsePositive | None:
    """Return the false positive that a line is, or None."""
    mine = (item for item in FALSE_POSITIVES if item.program == program)
    return next((item for item in mine if item.words in line), None)


def attributes(path: Path, source: Path | None = None) -> str:
    """Return the `Error` lines of dciodvfy; those of what was copied from the source are marked."""
    ours = _errors(path)
    theirs = _errors(source) if ours and source else []
    return "\n".join(
        f"{line} {_THEIRS}" if line in theirs and any(word in line for word in _PASSED_ON) else line
        for line in ours
    )


def _errors(path: Path) -> list[str]:
    done = run("dciodvfy", "-new", path)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


def content_tree(path: Path) -> str:
    """Return what dsrdump says besides the content tree; it says something where it fails."""
    done = run("dsrdump", path)
    return done.stderr or (f"exit status {done.returncode}" if done.returncode else "")


def entities(paths: Iterable[Path]) -> str:
    """Return what dcentvfy says of patients, studies and series across files."""
    done = run("dcentvfy", *paths)
    return done.stdout + done.stderr
