"""The spool's promises: durable names, no partial file, damage noticed."""

import errno
import hashlib
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node import spool as module
from dicom_node.spool import Damaged, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return a prepared, empty spool in the test's folder."""
    made = Spool(tmp_path)
    made.prepare(())
    return made


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@given(blobs=st.lists(st.lists(st.binary(max_size=200), max_size=4), max_size=6))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_blob_is_its_parts_joined_and_read_back(
    spool: Spool, blobs: list[list[bytes]]
) -> None:
    refs = [spool.write(*parts) for parts in blobs]
    spool.sync(refs)
    for ref, parts in zip(refs, blobs, strict=True):
        data = b"".join(parts)
        assert (ref.length, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert spool.read(ref) == data


def test_blobs_written_together_are_read_apart(spool: Spool) -> None:
    spool.write(b"before")
    items = [b"report", b"", b"page"]
    refs = spool.write_together(items)
    assert [spool.read(ref) for ref in refs] == items
    assert len({ref.key for ref in refs}) == 1


def test_threads_never_write_over_each_other(spool: Spool) -> None:
    with ThreadPoolExecutor(8) as threads:
        blobs = [bytes([number]) * (1000 + number) for number in range(200)]
        refs = list(threads.map(spool.write, blobs))
    assert [spool.read(ref) for ref in refs] == blobs


def test_full_segment_is_followed_by_another(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 10)
    refs = [spool.write(b"1234567") for _ in range(3)]
    spool.sync(refs)
    assert len({ref.key for ref in refs}) == 3
    assert {spool.read(ref) for ref in refs} == {b"1234567"}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_segments_that_were_left_behind_hold_no_descriptor_and_are_idle(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT", 10)
    before = descriptors()
    with ThreadPoolExecutor(8) as threads:
        refs = list(threads.map(spool.write, [b"1234567"] * 50))
    last = spool.write(b"last")
    assert descriptors() == before + 1
    assert spool.idle() == {ref.key for ref in refs} - {last.key}
    spool.sync(refs)
    assert {spool.read(ref) for ref in refs} == {b"1234567"}


def test_another_process_appends_to_a_segment_of_its_own(spool: Spool, tmp_path: Path) -> None:
    mine, theirs = spool.write(b"mine"), Spool(tmp_path).write(b"theirs")
    assert mine.key != theirs.key
    assert spool.read(theirs) == b"theirs"


@pytest.mark.parametrize("damaged", [b"", b"whol", b"wh0le"])
def test_damaged_bytes_are_noticed_and_never_returned(
    spool: Spool, tmp_path: Path, damaged: bytes
) -> None:
    ref = spool.write(b"whole")
    (tmp_path / ref.key).write_bytes(damaged)
    with pytest.raises(Damaged):
        spool.read(ref)


def test_bytes_that_are_gone_are_told_apart_from_damaged_ones(spool: Spool, tmp_path: Path) -> None:
    ref = spool.write(b"whole")
    (tmp_path / ref.key).unlink()
    with pytest.raises(FileNotFoundError):
        spool.read(ref)


def test_start_removes_what_nothing_refers_to_and_keeps_the_rest(
    spool: Spool, tmp_path: Path
) -> None:
    kept = spool.write(b"kept")
    Spool(tmp_path).write(b"never acknowledged")
    (tmp_path / "left by an older version").write_bytes(b"")
    assert Spool(tmp_path).prepare({kept.key}) == 2
    assert spool.read(kept) == b"kept"
    assert Spool(tmp_path).prepare({kept.key}) == 0


@pytest.mark.parametrize("step", ["pwrite", "open"])
def test_full_disk_is_told_and_what_follows_is_whole(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, step, no_space)
        with pytest.raises(OSError, match="No space") as caught:
            spool.write(b"lost")
    assert caught.value.errno == errno.ENOSPC
    assert spool.read(spool.write(b"bytes")) == b"bytes"


def test_real_full_disk_in_the_middle_of_a_write_is_told(spool: Spool) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.write(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert spool.read(spool.write(b"bytes")) == b"bytes"


def test_bytes_and_name_are_synced_before_they_count(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    for call in ("fsync", "fdatasync"):
        real = getattr(os, call)
        monkeypatch.setattr(
            os, call, lambda fd, call=call, real=real: (synced.append(call), real(fd))
        )
    first = spool.write(b"first")
    assert synced == ["fsync"]
    spool.sync([first])
    second = spool.write(b"second")
    spool.sync([first, second])
    assert synced == ["fsync", "fdatasync", "fdatasync"]
