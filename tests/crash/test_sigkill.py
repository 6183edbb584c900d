"""SIGKILL at random moments and at each named point: nothing acknowledged is ever lost."""

import random
import threading
import time
from collections.abc import Callable

import pytest
from cart import cart_ecg, push, push_until_stored
from node import Node, poll

from dicom_node.failpoints import NAMES
from dicom_node.ledger import State
from dicom_node.pacs import Pacs


def assert_one_set_each(pacs: Pacs, count: int) -> None:
    """Three objects for every source, and no UID ever with two contents."""
    assert len(pacs.files) == 3 * count
    assert all(len(set(versions)) == 1 for versions in pacs.files.values())


@pytest.mark.parametrize("point", sorted(NAMES))
def test_node_killed_at_a_named_point_loses_nothing(
    make_node: Callable[..., Node], pacs: Pacs, point: str
) -> None:
    node = make_node(
        destinations={"PACS": pacs.port},
        overrides={"WORK__WORKERS": "1"},
        failpoint=f"{point}:kill",
    )
    node.start()
    data = cart_ecg(f"killed-{point}")
    acknowledged = push(node.address, data) == [0]
    poll(lambda: "process_died" in node.log, 20)
    node.kill()
    node.failpoint = ""
    node.start()
    if acknowledged:
        assert len(node.rows()) == 1
    assert push_until_stored(node.address, data)
    assert node.settled(1)
    assert [row["state"] for row in node.rows()] == [State.COMMITTED]
    assert_one_set_each(pacs, 1)


def storm(node: Node, pacs: Pacs, *, kills: int, ecgs: int) -> None:
    """Four carts push while the node is killed; then everything must be there, once."""
    node.start()
    dice = random.Random(20261120)
    stored: list[bool] = []

    def cart(number: int) -> None:
        for index in range(ecgs):
            data = cart_ecg(f"storm-{number}-{index}")
            stored.append(push_until_stored(node.address, data, 600))

    carts = [threading.Thread(target=cart, args=(number,)) for number in range(4)]
    for thread in carts:
        thread.start()
    for _ in range(kills):
        time.sleep(dice.uniform(0.1, 1.5))
        node.kill()
        node.launch()
        poll(node.ready, 30) if dice.random() < 0.7 else None
    assert poll(node.ready, 60)
    for thread in carts:
        thread.join()
    assert stored == [True] * (4 * ecgs)
    assert node.settled(4 * ecgs, 300)
    assert {row["state"] for row in node.rows()} == {State.COMMITTED}
    assert_one_set_each(pacs, 4 * ecgs)


def test_five_kills_while_four_carts_push(make_node: Callable[..., Node], pacs: Pacs) -> None:
    storm(make_node(destinations={"PACS": pacs.port}), pacs, kills=5, ecgs=5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_while_four_carts_push(make_node: Callable[..., Node], pacs: Pacs) -> None:
    node = make_node(destinations={"PACS": pacs.port}, afresh=True)
    storm(node, pacs, kills=50, ecgs=40)


def test_killed_and_unkilled_runs_send_the_same_uids_and_rebuild_the_same_bytes(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    calm = make_node(destinations={"PACS": pacs.port}).start()
    data = cart_ecg("same")
    assert push(calm.address, data) == [0]
    assert pacs.wait(3, 30)
    uids = set(pacs.files)
    killed = make_node(destinations={"PACS": pacs.port}, failpoint="after_analysed:kill").start()
    assert push(killed.address, data) == [0]
    poll(lambda: "process_died" in killed.log, 20)
    killed.kill()
    killed.failpoint = ""
    killed.start()
    assert killed.settled(1)
    assert set(pacs.files) == uids
