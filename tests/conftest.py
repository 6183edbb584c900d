"""Fixtures that every room's tests share."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from commands import Done, Run
from node import Node, free_port

from dicom_node import cli
from dicom_node.pacs import Pacs
from dicom_node.settings import CONFIG_VARIABLE

MEMORY = Path("/dev/shm")
ROOM = 4_000_000_000
"""Bytes that the tests' files may come to."""


def pytest_configure() -> None:
    """Keep the tests' files in memory where there is room: to wait for a disk proves nothing."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: while a test waits for a peer, another works."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo what a command that ran in this process did to the logs."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    """A small PACS that takes everything."""
    with Pacs(free_port()) as running:
        yield running


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Make nodes that are stopped afterwards, each checked against its own ledger."""
    made: list[Node] = []

    def make(**options: object) -> Node:
        node = Node(tmp_path / f"node-{len(made)}", **options)  # type: ignore[arg-type]
        made.append(node)
        return node

    yield make
    for node in made:
        if node.process is not None:
            node.stop()
            node.assert_promises()


@pytest.fixture
def node(make_node: Callable[..., Node], pacs: Pacs) -> Node:
    """A running node that delivers to the PACS."""
    return make_node(destinations={"PACS": pacs.port}).start()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `sinusnode ARGUMENTS` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_VARIABLE, "sinusnode.toml")

    def command(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["sinusnode", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "unexpectedly" not in err
        return Done(int(ended.value.code or 0), out, err)

    return command
