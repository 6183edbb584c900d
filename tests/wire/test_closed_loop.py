"""Cart, Orthanc, plugin, node, Orthanc: each ECG once round, whatever is killed on the way.

All of it over mutual TLS, and each side asks the other for storage commitment.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cart import cart_ecg, encoded
from keys import Authority
from node import Node, free_port, poll
from peers import Orthanc, running_orthanc, started_orthanc, try_storescu
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GeneralECGWaveformStorage,
    TwelveLeadECGWaveformStorage,
)

from dicom_node.ledger import COMMITMENT, QUERY, State, promises

ONE_OF_EACH = sorted([
    TwelveLeadECGWaveformStorage,  # the cart's own
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GeneralECGWaveformStorage,
])  # fmt: skip
"""What Orthanc holds of each study in the end."""


@dataclass
class Loop:
    """The hospital of this test; everything in it can be killed and started again."""

    folder: Path
    keys: Authority
    port: int = field(default_factory=free_port)
    """The TLS port of the node, which has no other."""

    def __post_init__(self) -> None:
        self._running = ExitStack()
        settings = {"LongestPause": 1, "StorageCommitment": True}
        self.orthanc: Orthanc = self._running.enter_context(
            running_orthanc(
                self.folder / "orthanc", node_port=self.port, plugin=settings,
                tls=self.keys.vouch("orthanc"),
            )
        )  # fmt: skip
        self.node = Node(
            self.folder / "node",
            {"ORTHANC": self.orthanc.address.port},
            {"WORK__WORKERS": "1", "TLS__PORT": str(self.port), "DICOM__PLAIN": "false"}
            | {"DICOM__PEERS": '[{"ae_title":"ORTHANC","certificate":"orthanc"}]'}
            | {f"TLS__{key.upper()}": str(path) for key, path in self.keys.vouch("node").items()},
        )
        asks = "timeout = 10.0\ncommitment = true\ncommitment_wait = 5.0\ntls = true"
        text = self.node.config.read_text().replace("timeout = 10.0", asks)
        self.node.config.write_text(text)
        self.node.start()

    def close(self) -> None:
        self.node.stop()
        self._running.close()

    def kill_node(self, down: float = 0.0) -> None:
        self.node.kill()
        time.sleep(down)
        self.node.start()

    def kill_orthanc(self, down: float = 0.0) -> None:
        self.orthanc.signal(signal.SIGKILL)
        self._running.close()
        time.sleep(down)
        self.orthanc = self._running.enter_context(started_orthanc(self.folder / "orthanc"))

    def push(self, name: str) -> None:
        """Have a cart push an ECG until Orthanc has taken it."""
        file = self.folder / f"{name}.dcm"
        file.write_bytes(encoded(cart_ecg(name)))
        tls = self.keys.vouch("cart")
        assert poll(lambda: try_storescu(self.orthanc.address, file, tls=tls).returncode == 0, 60)

    def at_rest(self, count: int) -> bool:
        """Return whether nothing is on its way any more, here or there."""
        rows = self.node.rows()
        queue = self.orthanc.get("/sinusnode/health")["queue"]
        return (
            len(rows) >= count
            and all(row["state"] == State.COMMITTED for row in rows)
            and not any(queue.values())
            and not any(promise["next_at"] for promise in self.promises())
        )

    def promises(self) -> list[dict[str, Any]]:
        with self.node.ledger() as ledger:
            found = ledger.query(promises.select())
            return [dict(zip(promises.c.keys(), row, strict=True)) for row in found]

    def assert_each_once(self, *names: str) -> None:
        """Every ECG has one row and one of each object, and nothing else is anywhere."""
        rows = self.node.rows()
        sent = {str(cart_ecg(name).SOPInstanceUID) for name in names}
        assert sorted(row["sop_instance_uid"] for row in rows) == sorted(sent)
        assert {row["committed_by"] for row in rows} <= {COMMITMENT, QUERY}
        instances = self.orthanc.find("Instance")
        assert len(instances) == len(names) * len(ONE_OF_EACH)
        for name in names:
            held = self.orthanc.find(
                "Instance", StudyInstanceUID=str(cart_ecg(name).StudyInstanceUID)
            )
            assert sorted(self.sop_class(item["ID"]) for item in held) == ONE_OF_EACH
        self.node.assert_promises()

    def sop_class(self, instance: str) -> str:
        return self.orthanc.text(f"/instances/{instance}/metadata/SopClassUid")


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with closing(Loop(tmp_path, Authority.new(tmp_path, "ours"))) as made:
        yield made


def test_ecgs_go_round_once_over_tls_while_orthanc_and_the_node_are_killed(loop: Loop) -> None:
    loop.push("one")
    assert poll(loop.node.rows)
    loop.kill_node()
    loop.push("two")
    loop.kill_orthanc()
    assert poll(lambda: loop.at_rest(2), 90)
    loop.push("undisturbed")
    assert poll(lambda: loop.at_rest(3))
    assert loop.node.rows()[0]["committed_by"] == COMMITMENT
    loop.assert_each_once("one", "two", "undisturbed")


def test_nobody_without_a_certificate_is_heard_by_orthanc_or_by_the_node(loop: Loop) -> None:
    stranger = Authority.new(loop.folder, "theirs").vouch("stranger")
    file = loop.folder / "secret.dcm"
    file.write_bytes(encoded(cart_ecg("secret")))
    node = replace(loop.node.address, port=loop.port)
    for tls in (None, stranger | {"trusted_certificates": loop.keys.certificate}):
        for peer in (loop.orthanc.address, node):
            assert try_storescu(peer, file, calling_ae="ORTHANC", tls=tls).returncode != 0
    assert (loop.orthanc.find("Instance"), loop.node.rows()) == ([], [])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_ecgs_go_round_once_while_orthanc_and_the_node_are_killed_again_and_again(
    loop: Loop,
) -> None:
    kills, pauses = Random(20261120), Random(7)
    names = [f"ecg-{number}" for number in range(60)]

    def cart() -> None:
        for name in names:
            loop.push(name)
            time.sleep(pauses.uniform(0.0, 1.5))

    pushing = threading.Thread(target=cart)
    pushing.start()
    for _ in range(16):
        time.sleep(kills.uniform(0.1, 2.5))
        kill: Callable[[float], None] = kills.choice((loop.kill_node, loop.kill_orthanc))
        kill(kills.choice((0.0, 0.0, kills.uniform(0.1, 3.0))))
    pushing.join()
    assert poll(lambda: loop.at_rest(len(names)), 180)
    loop.assert_each_once(*names)
