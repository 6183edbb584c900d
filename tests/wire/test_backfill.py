"""Past ECGs of a real Orthanc, by C-MOVE and by DICOMweb: gently, and exactly once."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cart import encoded, push
from node import Node, free_port, poll
from peers import Orthanc, running, running_orthanc
from pydicom.dataset import Dataset

from analysis.formats import dicom
from analysis.synthetic import Kind, simulate
from dicom_node.backfills import Backfills, RunState
from dicom_node.ledger import State, deliveries
from dicom_node.report.uids import derive

BY_MOVE, BY_WEB = "ORTHANC", "web"
YEAR = {BY_MOVE: 2020, BY_WEB: 2021}
"""In which the ECGs of each source's test are."""


def ecgs(first: date, count: int, per_day: int = 7) -> list[Dataset]:
    """Return small ECGs of as many patients, some on each day from the first."""
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    identity = dicom.Identity(
        study_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
        sop_instance_uid="2.25.3",
        created_at=moment,
        study_at=moment,
    )
    pattern = dicom.encode(simulate(Kind.SINUS).ecg, identity=identity)
    made = []
    for number in range(count):
        item = deepcopy(pattern)
        item.StudyInstanceUID = derive("study", str(first), str(number))
        item.SeriesInstanceUID = derive("series", str(first), str(number))
        item.SOPInstanceUID = derive("instance", str(first), str(number))
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
        item.StudyDate = f"{first + timedelta(number // per_day):%Y%m%d}"
        item.PatientID, item.StationName = f"P{number}", f"CART{number % 2}"
        made.append(item)
    return made


def uids(items: Sequence[Dataset]) -> set[str]:
    return {str(item.SOPInstanceUID) for item in items}


@dataclass(frozen=True)
class House:
    """Orthanc, and a node that knows it as a source twice, and as its destination."""

    orthanc: Orthanc
    node: Node

    def holds(self, items: Sequence[Dataset]) -> None:
        for item in items:
            self.orthanc.upload(encoded(item))

    def backfill(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.node.command("backfill", *arguments)

    def rows(self, items: Sequence[Dataset]) -> list[dict[str, Any]]:
        wanted = uids(items)
        return [row for row in self.node.rows() if row["sop_instance_uid"] in wanted]

    def come_to(self, items: Sequence[Dataset], state: State) -> bool:
        """Return whether each of these has one row, and all of them come to a state."""

        def done() -> bool:
            rows = self.rows(items)
            return len(rows) == len(items) and all(row["state"] == state for row in rows)

        return poll(done, 600, 0.5)

    def deliveries(self, items: Sequence[Dataset]) -> int:
        ids = {row["id"] for row in self.rows(items)}
        with self.node.ledger() as ledger:
            return sum(row[1] in ids for row in ledger.query(deliveries.select()))

    def objects_in(self, items: Sequence[Dataset]) -> int:
        """Return how many objects Orthanc holds in the studies of these."""
        studies = (
            self.orthanc.find("Instance", StudyInstanceUID=i.StudyInstanceUID) for i in items
        )
        return sum(map(len, studies))

    def cut_off(self, when: int, items: Sequence[Dataset], *arguments: str) -> None:
        """Start a back-fill, and end it by SIGKILL once so many have come."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node", "backfill", *arguments],
            env=self.node.environment | {"SINUSNODE_CONFIG": str(self.node.config)},
        )
        try:
            assert poll(lambda: len(self.rows(items)) >= when, 120, 0.02)
            assert process.poll() is None, "it was done before it could be cut off"
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("backfill")
    port = free_port()
    with running_orthanc(folder / "orthanc", node_port=port, dicomweb=True) as orthanc:
        node = Node(folder / "node", {orthanc.address.ae_title: orthanc.address.port}, port=port)
        pace = "ecgs_per_minute = 1200\nreports_per_minute = 1200\nbatch = 2\n"
        node.config.write_text(
            node.config.read_text() + f'[[sources]]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
            f"port = {orthanc.address.port}\n{pace}"
            f'[[sources]]\nname = "web"\nurl = "{orthanc.dicomweb}"\n{pace}'
        )
        with running(node):
            yield House(orthanc, node)


def interrupted_and_resumed(house: House, source: str, count: int) -> None:
    """Fetch so many ECGs, cut off twice; each comes once, and nothing is delivered."""
    first = date(YEAR[source] + (count > 100) * 5, 3, 1)
    items = ecgs(first, count)
    house.holds(items)
    house.cut_off(count // 5, items, source, "--from", str(first), "--to", f"{first.year}-12-31")
    house.cut_off(count // 2, items, source, "--resume")
    done = house.backfill(source, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"found {count}" in done.stdout
    assert house.come_to(items, State.ARCHIVED)
    assert all(row["archive_only"] for row in house.rows(items))
    assert house.deliveries(items) == 0
    assert house.objects_in(items) == count


@pytest.mark.parametrize("source", [BY_MOVE, BY_WEB])
def test_a_killed_backfill_goes_on_and_each_ecg_comes_once(house: House, source: str) -> None:
    interrupted_and_resumed(house, source, 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("source", [BY_MOVE, BY_WEB])
def test_three_hundred_ecgs_come_once_each_across_two_kills(house: House, source: str) -> None:
    interrupted_and_resumed(house, source, 300)


def test_counting_fetches_nothing_and_remembers_nothing(house: House) -> None:
    items = ecgs(date(2010, 1, 1), 3)
    house.holds(items)
    for source in (BY_MOVE, BY_WEB):
        done = house.backfill(source, "--count", "--from", "2010-01-01", "--to", "2010-01-03")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (
            0,
            "3 ECGs, 0 of them here already.",
        )
    assert house.rows(items) == []


@pytest.mark.parametrize("source", [BY_MOVE, BY_WEB])
def test_only_the_ecgs_of_the_named_station_come(house: House, source: str) -> None:
    first = date(YEAR[source] - 10, 6, 1)
    items = ecgs(first, 4)
    house.holds(items)
    done = house.backfill(source, "--from", str(first), "--to", str(first), "--station", "*1")
    assert done.returncode == 0, done.stderr
    assert {row["sop_instance_uid"] for row in house.rows(items)} == uids(items[1::2])


def test_an_archived_ecg_that_its_cart_sends_is_reported_once_and_other_bytes_too(
    house: House,
) -> None:
    same, other = items = ecgs(date(2012, 1, 1), 2)
    house.holds(items)
    assert house.backfill(BY_MOVE, "--from", "2012-01-01", "--to", "2012-01-02").returncode == 0
    assert house.come_to(items, State.ARCHIVED)
    other.InstitutionName = "as the cart wrote it"
    assert push(house.node.address, same, other, same) == [0, 0, 0]
    assert poll(lambda: house.deliveries(items) == 6, 60)
    assert poll(lambda: house.objects_in(items) == 2 + 6, 60)
    states = sorted((row["sop_instance_uid"], row["archive_only"]) for row in house.rows(items))
    assert states == sorted(
        [(same.SOPInstanceUID, False), (other.SOPInstanceUID, False), (other.SOPInstanceUID, True)]
    )


def test_our_own_results_in_the_pacs_never_come_back(house: House) -> None:
    items = ecgs(date(2013, 1, 1), 1)
    house.holds(items)
    push(house.node.address, *items)
    assert poll(lambda: house.objects_in(items) == 4, 60)
    before = len(house.node.rows())
    for source in (BY_MOVE, BY_WEB):
        done = house.backfill(source, "--from", "2013-01-01", "--to", "2013-01-01", "--json")
        assert done.returncode == 0, done.stderr
        assert '"found": 1, "arrived": 0, "known": 1' in done.stdout
    assert len(house.node.rows()) == before


def test_reports_are_delivered_where_they_are_asked_for_even_of_what_is_archived(
    house: House,
) -> None:
    items = ecgs(date(2014, 1, 1), 2)
    days = ("--from", "2014-01-01", "--to", "2014-01-01")
    house.holds(items[:1])
    assert house.backfill(BY_WEB, *days).returncode == 0
    house.holds(items[1:])
    done = house.backfill(BY_MOVE, *days, "--report")
    assert done.returncode == 0, done.stderr
    assert poll(lambda: house.objects_in(items) == 2 + 6, 60)
    trail = [row["detail"] for row in house.node.trail() if row["event"] == "backfill"]
    assert any("reports delivered, started" in detail for detail in trail)
    assert any("archive only, started" in detail for detail in trail)


def test_interrupted_by_hand_it_pauses_and_says_how_to_go_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = ecgs(date(2015, 1, 1), 7)
    house.holds(items)
    slow = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": house.orthanc.address.port}
    sources = json.dumps([slow | {"batch": 1, "ecgs_per_minute": 6}])
    monkeypatch.setattr(house.node, "overrides", {"SOURCES": sources})
    days = ("--from", "2015-01-01", "--to", "2015-01-01")
    with subprocess.Popen(
        [sys.executable, "-m", "dicom_node", "backfill", *days],
        env=house.node.environment | {"SINUSNODE_CONFIG": str(house.node.config)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert poll(lambda: house.rows(items), 120, 0.02)
        second = house.backfill(*days)
        assert (second.returncode, "Another back-fill" in second.stderr) == (1, True)
        process.send_signal(signal.SIGINT)
        assert "--resume" in process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert len(house.rows(items)) < len(items)
    with house.node.ledger() as ledger:
        run = Backfills(ledger).unfinished([BY_MOVE])
        assert run is not None
        assert (run.state, run.message) == (RunState.PAUSED, "interrupted")
        Backfills(ledger).end(run, RunState.DONE, "", 0.0)


@pytest.mark.slow
def test_a_source_that_does_not_know_this_node_is_named_in_a_sentence(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.holds(ecgs(date(2016, 1, 1), 1))
    peer = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": house.orthanc.address.port}
    peer["timeout"] = 3
    values = {"DICOM__AE_TITLE": "STRANGER"}
    for calling, status, words in (
        ("SINUSNODE", 1, "is STRANGER registered there"),
        ("NOBODY", 3, "stopped answering"),
    ):
        values["SOURCES"] = json.dumps([peer | {"calling_ae_title": calling}])
        monkeypatch.setattr(house.node, "overrides", values)
        done = house.backfill("--from", "2016-01-01", "--to", "2016-01-01")
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr


def test_without_a_source_or_a_date_there_is_a_sentence(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    none = node.command("backfill", "--from", "2020-01-01")
    assert (none.returncode, "[[sources]]" in none.stderr) == (1, True)
    assert node.command("backfill", "--resume").returncode == 1
    one = node.config.read_text() + '[[sources]]\nname = "web"\nurl = "http://127.0.0.1:9"\n'
    node.config.write_text(one)
    assert node.command("backfill").returncode == 2
    away = node.command("backfill", "--from", "2020-01-01")
    assert (away.returncode, "start it" in away.stderr) == (3, True)


def test_check_asks_the_sources_too(house: House) -> None:
    lines = house.node.command("check").stdout
    assert "The source ORTHANC answers" in lines
    assert "web answers" in lines
