"""A stranger's package is examined in another process, which may do little and may die."""

import os
import sys
from pathlib import Path

import pytest
import tiny_model

from analysis.errors import ModelReason, ModelRejected
from analysis.model import load_model
from dicom_node import examine
from dicom_node.examine import apart


def test_package_is_told_as_it_is_here() -> None:
    package = tiny_model.packed()
    assert apart(package) == load_model(package).identity


def test_refusal_keeps_its_reason_and_its_sentence() -> None:
    with pytest.raises(ModelRejected, match="no card") as caught:
        apart(tiny_model.graph().SerializeToString())
    assert caught.value.reason is ModelReason.NO_CARD


def test_package_that_kills_its_examiner_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelRejected, match="ended badly"):
        apart(tiny_model.packed())


def test_file_that_is_too_large_is_not_even_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "MAX_BYTES", 100)
    with pytest.raises(ModelRejected) as caught:
        apart(b"x" * 101)
    assert caught.value.reason is ModelReason.TOO_LARGE


def test_examiner_writes_no_file(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        examine.bound()
        try:
            (tmp_path / "dropped").write_bytes(b"payload")
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"payload" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
