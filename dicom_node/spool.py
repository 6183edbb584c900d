"""Durable bytes: what is put here survives a power cut, or was never acknowledged.

A blob is written to a temporary file, synced, renamed to a name made of its own SHA-256, and
its folder synced. Names never hold anything a peer sent.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Final

from dicom_node.failpoints import reach

STORE: Final = "files"


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where a blob lies, and what it must hash to."""

    store: str
    key: str
    offset: int
    length: int
    sha256: str


class Damaged(OSError):
    """The bytes on disk are not those that were acknowledged."""


class Spool:
    """Blobs as files below one folder.

    Parameters
    ----------
    folder
        Created if absent, with its sub-folders.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = folder / "tmp"

    def prepare(self) -> int:
        """Create the folders, sweep temporary files; return how many were swept.

        Call it once, at start, before any process puts blobs.
        """
        self._temporary.mkdir(parents=True, exist_ok=True)
        for digit in "0123456789abcdef":
            (self._folder / digit).mkdir(exist_ok=True)
        _sync_folder(self._folder)
        orphans = list(self._temporary.iterdir())
        for orphan in orphans:
            orphan.unlink()
        return len(orphans)

    def write(self, *parts: bytes) -> BlobRef:
        """Return a reference to the parts, joined; durable only after :meth:`sync`."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        sha256 = digest.hexdigest()
        key = f"{sha256[0]}/{sha256}"
        ref = BlobRef(STORE, key, 0, sum(map(len, parts)), sha256)
        self._place(self._folder / key, parts)  # again, if need be: that mends what rotted
        return ref

    def write_together(self, items: Sequence[bytes]) -> list[BlobRef]:
        """Return a reference to each item; all lie in one file, so one sync serves all."""
        whole = self.write(*items)
        ends = list(accumulate(map(len, items)))
        return [
            replace(
                whole,
                offset=end - len(item),
                length=len(item),
                sha256=hashlib.sha256(item).hexdigest(),
            )
            for item, end in zip(items, ends, strict=True)
        ]

    def _place(self, path: Path, parts: Iterable[bytes]) -> None:
        temporary = self._temporary / secrets.token_hex(16)
        try:
            with temporary.open("xb") as file:
                file.writelines(parts)
                file.flush()
                os.fdatasync(file.fileno())
            reach("after_temp")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        reach("after_rename")

    def sync(self, refs: Iterable[BlobRef]) -> None:
        """Make the names of these blobs durable."""
        for name in {ref.key.split("/")[0] for ref in refs}:
            _sync_folder(self._folder / name)

    def read(self, ref: BlobRef) -> bytes:
        """Return the bytes.

        Raises
        ------
        Damaged
            If they are not what the reference says.
        FileNotFoundError
            If they are gone.
        """
        with (self._folder / ref.key).open("rb") as file:
            file.seek(ref.offset)
            data = file.read(ref.length)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise Damaged(f"blob {ref.key} does not match its digest")
        return data

    def orphans(self) -> int:
        """Return how many temporary files lie around."""
        return sum(1 for _ in self._temporary.iterdir())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
