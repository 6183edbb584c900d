"""A model in the shadow of a running node: compared, never sent, and nobody's trouble."""

import json
import time
from collections.abc import Callable

import pytest
import tiny_model
from cart import cart_ecg, push
from node import Node, poll
from test_models_live import registry

from dicom_node.ledger import State
from dicom_node.models import ModelStore
from dicom_node.pacs import Pacs
from dicom_node.shadow import CRASHES, ShadowReport

NAMES = [f"shadowed-{number}" for number in range(CRASHES)]
PATIENCE = 200.0
"""Seconds: the model has the lowest priority, and tests share the machine."""


def shadowing(store: ModelStore) -> str:
    """Return the digest of a model that shadows from now on."""
    package = tiny_model.packed(name="In the shadow")
    digest = store.add_candidate(package, time.time(), {}, "anna")
    store.shadow(digest, time.time(), "anna")
    return digest


@pytest.mark.timeout(400)
def test_shadow_reads_what_was_delivered_and_nothing_of_it_leaves(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(destinations={"PACS": pacs.port}, overrides={"WORK__WORKERS": "1"}).start()
    before = cart_ecg("before")
    assert push(node.address, before) == [0]
    assert node.settled(1)
    with registry(node) as store:
        digest = shadowing(store)
        assert push(node.address, *map(cart_ecg, NAMES[:2])) == [0, 0]
        assert poll(lambda: ShadowReport.of(store.ledger, digest).ecgs == 2, PATIENCE)
        report = ShadowReport.of(store.ledger, digest)
        assert report.against == dict.fromkeys(store.current(), 2)
    assert {"normal"} <= {item.key for item in report.findings}
    assert report.shadow_only == ("lbbb",)
    assert report.unread == {}
    said = json.dumps(report.to_mapping()) + report.text
    for word in (str(before.PatientID), str(before.PatientName), "2.25.", "1.2.840"):
        assert word not in said
    assert len(pacs.files) == 3 * 3
    assert not any(b"In the shadow" in data for kept in pacs.files.values() for data in kept)
    assert json.loads(node.command("models", "compare", "--json").stdout)["ecgs"] == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_shadow_that_dies_at_each_ecg_is_given_up_and_the_node_does_not_notice(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(
        destinations={"PACS": pacs.port},
        overrides={"WORK__WORKERS": "1"},
        failpoint="in_shadow:kill",
    ).start()
    with registry(node) as store:
        digest = shadowing(store)
        assert push(node.address, *map(cart_ecg, NAMES)) == [0] * len(NAMES)
        assert poll(lambda: store.shadowing() is None, PATIENCE)
        assert "3 times" in store.get(digest).refused
        assert ShadowReport.of(store.ledger, digest).unread == {"crashed": CRASHES}
    assert node.get("/readyz")[0] == 200
    assert node.settled(len(NAMES))
    assert {row["state"] for row in node.rows()} == {State.COMMITTED}
    assert {row["attempts"] for row in node.rows()} == {1}
    assert len(pacs.files) == 3 * len(NAMES)
    assert "Traceback" not in node.log
