"""Fixtures that every room's tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from node import Node, free_port

from dicom_node.pacs import Pacs


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
