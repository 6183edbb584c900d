"""Durable bytes: what is put here and synced survives a power cut, or was never acknowledged.

Blobs are appended to segments, so that one sync serves whatever is waiting: making a file for
each costs more than writing it. Each process appends to segments of its own; their names never
hold anything a peer sent. What a crash left behind a segment's last acknowledged blob is never
referred to, and a segment that nothing refers to is removed at the next start, or by retention.
A segment is locked as long as its process may append to it.
"""

import fcntl
import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Final

from dicom_node.failpoints import reach

STORE: Final = "segments"
SEGMENT: Final = 64 * 2**20
"""Bytes after which a new segment is begun."""


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
    """Blobs in the segments of one folder; safe for threads, opened anew in each process.

    Parameters
    ----------
    folder
        Created by :meth:`prepare`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._writing: Counter[str] = Counter()
        self._current = ""
        self._end = 0

    def prepare(self, referred: Collection[str]) -> int:
        """Create the folder, remove segments that nothing refers to; return how many.

        Call it once, at start, before any process writes.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        orphans = {path.name for path in self._folder.iterdir()} - set(referred)
        self.remove(orphans)
        return len(orphans)

    def idle(self) -> set[str]:
        """Return the segments to which no process appends any more."""
        return {path.name for path in self._folder.iterdir() if _is_idle(path)}

    def remove(self, keys: Collection[str]) -> None:
        """Remove segments that nothing refers to."""
        for key in keys:
            (self._folder / key).unlink(missing_ok=True)
        _sync_folder(self._folder)

    def write(self, *parts: bytes) -> BlobRef:
        """Return a reference to the parts, joined; durable only after :meth:`sync`."""
        data = b"".join(parts)
        key, descriptor, offset = self._reserve(len(data))
        try:
            _write_all(descriptor, data, offset)
        finally:
            with self._lock:
                self._writing[key] -= 1
        reach("after_write")
        return BlobRef(STORE, key, offset, len(data), hashlib.sha256(data).hexdigest())

    def write_together(self, items: Sequence[bytes]) -> list[BlobRef]:
        """Return a reference to each item; they lie side by side."""
        whole = self.write(*items)
        ends = list(accumulate(map(len, items)))
        return [
            replace(
                whole,
                offset=whole.offset + end - len(item),
                length=len(item),
                sha256=hashlib.sha256(item).hexdigest(),
            )
            for item, end in zip(items, ends, strict=True)
        ]

    def _reserve(self, length: int) -> tuple[str, int, int]:
        """Return segment, descriptor and offset of room for so many bytes."""
        with self._lock:
            if not self._current or self._end + length > SEGMENT:
                self._begin()
            offset, self._end = self._end, self._end + length
            self._writing[self._current] += 1
            return self._current, self._open[self._current], offset

    def _begin(self) -> None:
        key = secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._folder / key, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _sync_folder(self._folder)
        self._close_full()
        self._open[key] = descriptor
        self._current, self._end = key, 0

    def sync(self, refs: Iterable[BlobRef]) -> None:
        """Make blobs that this process wrote durable."""
        for key in {ref.key for ref in refs}:
            with (self._folder / key).open("rb") as segment:
                os.fdatasync(segment.fileno())
        reach("after_sync")

    def _close_full(self) -> None:
        """Let go of the segments that were left behind, once nobody writes there any more."""
        for key in [key for key in self._open if not self._writing[key]]:
            os.close(self._open.pop(key))
            del self._writing[key]

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
            raise Damaged(f"segment {ref.key} at {ref.offset} does not match its digest")
        return data


def _is_idle(segment: Path) -> bool:
    """Return whether nobody holds the lock of a segment; an empty one is just being begun."""
    with segment.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.fstat(file.fileno()).st_size > 0


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
