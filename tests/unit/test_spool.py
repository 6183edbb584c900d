"""The spool's promises: durable names, no partial file, damage noticed."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node import spool as module
from dicom_node.spool import BlobRef, Damaged, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return a prepared, empty spool in the test's folder."""
    made = Spool(tmp_path)
    made.prepare()
    return made


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@given(parts=st.lists(st.binary(max_size=200), max_size=4))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_blob_is_the_parts_joined_under_the_name_of_its_hash(
    spool: Spool, tmp_path: Path, parts: list[bytes]
) -> None:
    data = b"".join(parts)
    sha256 = hashlib.sha256(data).hexdigest()
    ref = spool.write(*parts)
    spool.sync([ref])
    assert ref == BlobRef("files", f"{sha256[0]}/{sha256}", 0, len(data), sha256)
    assert spool.read(ref) == data
    assert spool.orphans() == 0


def test_blobs_written_together_lie_in_one_file_and_are_read_apart(
    spool: Spool, tmp_path: Path
) -> None:
    items = [b"report", b"", b"page"]
    refs = spool.write_together(items)
    assert [spool.read(ref) for ref in refs] == items
    assert len(files(tmp_path)) == 1


def test_same_bytes_lie_there_once(spool: Spool, tmp_path: Path) -> None:
    assert spool.write(b"ab", b"c") == spool.write(b"a", b"bc")
    assert len(files(tmp_path)) == 1


def test_file_of_the_right_name_and_wrong_length_is_written_anew(
    spool: Spool, tmp_path: Path
) -> None:
    ref = spool.write(b"whole")
    (tmp_path / ref.key).write_bytes(b"who")
    assert spool.write(b"whole") == ref
    assert spool.read(ref) == b"whole"


def test_resend_repairs_bytes_that_rotted_at_the_same_length(spool: Spool, tmp_path: Path) -> None:
    ref = spool.write(b"whole")
    (tmp_path / ref.key).write_bytes(b"wh0le")
    spool.write(b"whole")
    assert spool.read(ref) == b"whole"


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


def test_preparing_sweeps_what_a_crash_left_and_keeps_what_was_kept(
    spool: Spool, tmp_path: Path
) -> None:
    ref = spool.write(b"kept")
    for name in ("one", "two"):
        (tmp_path / "tmp" / name).write_bytes(b"half")
    assert spool.orphans() == 2
    assert spool.prepare() == 2
    assert spool.prepare() == 0
    assert spool.read(ref) == b"kept"


@pytest.mark.parametrize("step", ["fdatasync", "replace", "reach", "open"])
def test_full_disk_at_any_step_leaves_no_file(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    places: dict[str, tuple[object, str]] = {
        "fdatasync": (os, "fdatasync"),
        "replace": (Path, "replace"),
        "reach": (module, "reach"),
        "open": (Path, "open"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*places[step], no_space)
        with pytest.raises(OSError, match="No space") as caught:
            spool.write(b"bytes")
    assert caught.value.errno == errno.ENOSPC
    assert files(tmp_path) == []
    assert spool.read(spool.write(b"bytes")) == b"bytes"


def test_real_full_disk_in_the_middle_of_a_write_leaves_no_file(
    spool: Spool, tmp_path: Path
) -> None:
    import resource  # noqa: PLC0415 - only here
    import signal  # noqa: PLC0415 - only here

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.write(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(tmp_path) == []


def test_name_is_synced_before_it_counts(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd)),
    )
    refs = [spool.write(b"one"), spool.write(b"two"), spool.write(b"one")]
    spool.sync(refs)
    assert sorted(synced) == sorted({str(tmp_path / ref.key[:2]) for ref in refs})
