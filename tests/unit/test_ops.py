"""The management port: ready or not with a sentence, and counts that name nobody."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_ledger import end, leased, receive, received, reported

from dicom_node import ops
from dicom_node.ledger import DeliveryState, Event, Ledger
from dicom_node.reasons import Quarantine, Refusal
from dicom_node.settings import Settings, Storage


class Port:
    """The pages of a management port that was never bound."""

    def __init__(self, folder: Path) -> None:
        self.silent: list[str] = []
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.ledger.create()
        self.settings = Settings(storage=Storage(folder=folder, free_bytes=0, free_fraction=0.0))

    def get(self, path: str) -> tuple[int, str]:
        health = ops.Health(self.settings, self.ledger, lambda: self.silent)
        pages: dict[str, Any] = {
            route.path: route.endpoint
            for route in ops.application(health).routes  # type: ignore[attr-defined]
        }
        answer = pages[path](None)
        return answer.status_code, answer.body.decode()

    def problems(self) -> list[str]:
        status, body = self.get("/readyz")
        document = json.loads(body)
        assert document["ready"] is (status == 200) is (not document["problems"])
        return list(document["problems"])

    def metrics(self) -> dict[str, float]:
        lines = [line for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    """Return a management port with an installed model."""
    made = Port(tmp_path)
    made.ledger.add_model("a" * 64, "Tiny", "1", 0.0)
    made.ledger.promote("a" * 64, 0.0)
    yield made
    made.ledger.close()


def test_node_that_can_work_is_ready_and_alive(port: Port) -> None:
    assert port.problems() == []
    assert port.get("/healthz")[0] == 200


def test_each_reason_for_not_being_ready_is_a_sentence(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    port.silent = ["worker-1"]
    assert port.problems() == ["The worker-1 process does not answer."]
    monkeypatch.setattr(ops, "disk_is_low", lambda _storage: True)
    assert len(port.problems()) == 2
    assert all(line.endswith(".") for line in port.problems())
    assert port.get("/healthz")[0] == 200


def test_node_without_a_model_or_a_ledger_is_not_ready(tmp_path: Path) -> None:
    port = Port(tmp_path)
    assert port.problems() == ["No model is installed."]
    port.ledger.close()
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert port.problems() == ["The ledger cannot be read."]
    port.ledger.close()


def test_metrics_count_what_the_ledger_holds(port: Port) -> None:
    reported(port.ledger, "1.1", "PACS", "ARCHIVE")
    end(port.ledger, "PACS", DeliveryState.DELIVERED, status=0)
    receive(port.ledger, received("1.2"), received("1.2", "other"), received("1.3"))
    port.ledger.quarantine(leased(port.ledger), "damaged", "A sentence.")
    port.ledger.record(Event(event="refused", reason=Refusal.ADDRESS), 1.0)
    port.ledger.record(Event(event="started"), 2.0)
    found = port.metrics()
    assert found['ecg_received_total{calling_ae="CART",outcome="accepted"}'] == 2
    assert found['ecg_received_total{calling_ae="CART",outcome="quarantined"}'] == 2
    assert found[f'ecg_refused_total{{reason="{Refusal.ADDRESS}"}}'] == 1
    assert found['ecg_queue{state="REPORTED"}'] == 1
    assert found['ecg_queue{state="FAILED"}'] == 0
    assert found['ecg_delivery_total{destination="PACS",state="DELIVERED"}'] == 3
    assert found['ecg_delivery_total{destination="ARCHIVE",state="PENDING"}'] == 3
    assert found['ecg_quarantined_total{reason="damaged"}'] == 1
    assert found[f'ecg_quarantined_total{{reason="{Quarantine.CONFLICT}"}}'] == 1
    assert found['ecg_stage_seconds_count{stage="analyse"}'] == 1
    assert found['ecg_stage_seconds_sum{stage="analyse"}'] == 2.0
    assert found["ecg_disk_free_bytes"] > 0
    assert found['ecg_oldest_seconds{state="RECEIVED"}'] > 0


def test_metrics_of_an_empty_node_are_there_too(port: Port) -> None:
    found = port.metrics()
    assert found['ecg_queue{state="RECEIVED"}'] == 0
    assert found[f'ecg_model_info{{digest="{"a" * 64}",slot="current"}}'] == 1


def test_no_metric_names_an_object(port: Port) -> None:
    reported(port.ledger, "1.2.840.4711", "PACS")
    text = port.get("/metrics")[1]
    assert "4711" not in text
    assert set(re.findall(r"(\w+)=\"", text)) <= {
        "calling_ae", "outcome", "reason", "state", "destination", "stage", "slot", "digest",
    }  # fmt: skip
