"""The rows of a back-fill: what comes for the archive only, how gently, and exactly once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset
from test_ledger import postgres, url  # noqa: F401 - fixtures

from dicom_node.backfills import ATTEMPTS, Backfills, Counts, Order, Place, Run, RunState
from dicom_node.ledger import Ledger, Receipt, Received, State
from dicom_node.link import Unanswered, Unreachable
from dicom_node.receive import WAVEFORMS
from dicom_node.report.annotated import DESCRIPTION
from dicom_node.retrieve import FAILURES, Backfill, closed_for
from dicom_node.settings import Pace
from dicom_node.sources import look
from dicom_node.spool import BlobRef

MOVE_DESTINATION_UNKNOWN = 0xA801

ORDER = Order(
    source="PACS", source_ae="PACS", calling_ae="SINUSNODE", first="20200101", last="20200103",
    filters={}, archive_only=True,
)  # fmt: skip


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:  # noqa: F811 - the fixture
    """Open a new ledger, on both databases."""
    opened = Ledger(url)
    opened.create()
    yield opened
    opened.close()


def found(ledger: Ledger, count: int, order: Order = ORDER) -> Run:
    """Return a run that found so many ECGs: 1.0, 1.1, …."""
    runs = Backfills(ledger)
    run = runs.begin(order, 0.0)
    places = [Place("2.1", "3.1", f"1.{number}") for number in range(count)]
    return runs.looked(run, places, 0, "20200104", 0.0)


def receive(
    ledger: Ledger, uid: str, originator: str = "", calling_ae: str = "PACS", content: str = ""
) -> tuple[Receipt, bool]:
    """Return what a received object turned out to be, and whether nothing is to be sent."""
    sha256 = f"{uid}{content}".ljust(64, "-")
    item = Received(
        sop_class_uid=WAVEFORMS[1],
        sop_instance_uid=uid,
        blob=BlobRef("segments", "key", 0, 1, sha256),
        calling_ae=calling_ae,
        called_ae="SINUSNODE",
        address="127.0.0.1",
        received_at=1.0,
        originator=originator,
    )
    (receipt,) = ledger.receive([item], "{}", "plan")
    (row,) = [row for row in ledger.rows() if row["sha256"] == sha256]
    return receipt, row["archive_only"]


def asked(ledger: Ledger, order: Order = ORDER) -> Run:
    run = found(ledger, 3, order)
    runs = Backfills(ledger)
    runs.asking(runs.next(run, 3), 1.0)
    return run


def test_what_was_asked_for_comes_for_the_archive_only(ledger: Ledger) -> None:
    asked(ledger)
    assert receive(ledger, "1.0", "SINUSNODE") == (Receipt.NEW, True)


def test_what_anyone_else_sends_is_reported_even_while_it_is_asked_for(ledger: Ledger) -> None:
    asked(ledger)
    assert receive(ledger, "1.0", calling_ae="CART") == (Receipt.NEW, False)
    assert receive(ledger, "1.1", originator="WORKSTATION") == (Receipt.NEW, False)
    assert receive(ledger, "1.7", originator="SINUSNODE") == (Receipt.NEW, False)
    assert receive(ledger, "1.0", "SINUSNODE") == (Receipt.DUPLICATE, False)


def test_a_source_that_never_says_who_asked_is_believed_while_it_is_awaited(
    ledger: Ledger,
) -> None:
    run, runs = asked(ledger), Backfills(ledger)
    assert receive(ledger, "1.0") == (Receipt.NEW, True)
    assert runs.arrived(run, runs.next(run, 1)) == []
    assert receive(ledger, "1.0") == (Receipt.RELEASED, False)
    assert receive(ledger, "1.1") == (Receipt.NEW, True)


def test_a_source_that_says_who_asked_is_held_to_it(ledger: Ledger) -> None:
    run, runs = asked(ledger), Backfills(ledger)
    assert receive(ledger, "1.0", "SINUSNODE") == (Receipt.NEW, True)
    runs.arrived(run, runs.next(run, 1))
    assert receive(ledger, "1.1") == (Receipt.NEW, False)


def test_reports_that_are_wanted_are_not_withheld(ledger: Ledger) -> None:
    asked(ledger, replace(ORDER, archive_only=False))
    assert receive(ledger, "1.0", "SINUSNODE") == (Receipt.NEW, False)


def test_a_late_answer_after_a_kill_is_still_for_the_archive(ledger: Ledger) -> None:
    run = asked(ledger)
    Backfills(ledger).end(run, RunState.PAUSED, "interrupted", 2.0)
    assert receive(ledger, "1.0", "SINUSNODE") == (Receipt.NEW, True)


def test_the_same_uid_with_other_bytes_from_the_cart_is_no_conflict_and_from_the_source_is(
    ledger: Ledger,
) -> None:
    asked(ledger)
    receive(ledger, "1.0", "SINUSNODE")
    assert receive(ledger, "1.0", calling_ae="CART", content="x") == (Receipt.NEW, False)
    assert receive(ledger, "1.0", calling_ae="CART", content="y") == (Receipt.CONFLICT, False)
    assert receive(ledger, "1.0", "SINUSNODE", content="z") == (Receipt.CONFLICT, True)


def test_live_ecgs_go_before_those_that_were_fetched(ledger: Ledger) -> None:
    asked(ledger)
    receive(ledger, "1.0", "SINUSNODE")
    receive(ledger, "8.8", calling_ae="CART")
    lease = ledger.lease("worker", 2.0, 3.0)
    assert lease is not None
    assert (lease.sop_instance_uid, lease.archive_only) == ("8.8", False)


def test_an_ecg_released_while_it_is_worked_on_is_not_archived(ledger: Ledger) -> None:
    asked(ledger)
    receive(ledger, "1.0", "SINUSNODE")
    lease = ledger.lease("worker", 2.0, 9.0)
    assert lease is not None
    ledger.analysed(lease, "result", 2.0)
    assert receive(ledger, "1.0", calling_ae="CART") == (Receipt.RELEASED, False)
    assert not ledger.archived(lease)
    assert ledger.rows()[0]["state"] == State.ANALYSED


def test_an_archived_ecg_that_is_released_is_worked_on_again(ledger: Ledger) -> None:
    asked(ledger)
    receive(ledger, "1.0", "SINUSNODE")
    lease = ledger.lease("worker", 2.0, 9.0)
    assert lease is not None
    ledger.analysed(lease, "result", 2.0)
    assert ledger.archived(lease)
    assert ledger.lease("worker", 3.0, 9.0) is None
    assert ledger.release(["1.0"]) == 1
    again = ledger.lease("worker", 4.0, 9.0)
    assert again is not None
    assert (again.result, again.archive_only) == ("result", False)
    assert ledger.violations(4.0, 60.0) == []


# What a source answers


@dataclass
class Catalogue:
    """An archive of one study that answers with these series and this SOP class."""

    series: list[dict[str, str]]
    sop_class: str = WAVEFORMS[1]
    modalities: str = "ECG"
    queries: list[dict[str, str]] = field(default_factory=list)

    def search(self, level: str, **keys: str) -> Iterator[Dataset]:
        self.queries.append(keys)
        number = len(self.queries)
        if level == "STUDY":
            yield answer(StudyInstanceUID="1.2", ModalitiesInStudy=self.modalities)
        elif level == "SERIES":
            for place, item in enumerate(self.series):
                yield answer(**({"SeriesInstanceUID": f"1.2.{place}"} | item))
        else:
            yield answer(SOPInstanceUID=f"1.2.3.{number}", SOPClassUID=self.sop_class)

    def fetch(self, places: Sequence[Place]) -> None:
        """Nothing is fetched here."""

    def close(self) -> None:
        """Nothing is open."""


def answer(**values: str) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("catalogue", "filters", "count"),
    [
        (Catalogue([{"Modality": "ECG"}]), {}, 1),
        (Catalogue([{}]), {}, 1),
        (Catalogue([{"Modality": "SR"}]), {}, 0),
        (Catalogue([{"Modality": "ECG"}], modalities="CT"), {}, 0),
        (Catalogue([{"SeriesDescription": DESCRIPTION}, {}]), {}, 1),
        (Catalogue([{"ManufacturerModelName": "SINUSNODE "}]), {}, 0),
        (Catalogue([{"SeriesInstanceUID": "../../patients"}]), {}, 0),
        (Catalogue([{}], sop_class="1.2.840.10008.5.1.4.1.1.104.1"), {}, 0),
        (Catalogue([{"StationName": "CART1"}, {}]), {"StationName": "CART?"}, 1),
        (Catalogue([{"RetrieveAETitle": "PACS"}]), {"RetrieveAETitle": "OTHER"}, 0),
    ],
)
def test_only_ecgs_of_carts_are_wanted_whatever_the_source_answers(
    catalogue: Catalogue, filters: dict[str, str], count: int
) -> None:
    looked = look(catalogue, "20200101", filters)
    assert (len(looked.found), bool(looked.skipped)) == (
        count, count < max(len(catalogue.series), 1),
    )  # fmt: skip


def test_the_patient_is_never_asked_for() -> None:
    catalogue = Catalogue([{}])
    look(catalogue, "20200101", {})
    assert not [key for keys in catalogue.queries for key in keys if "Patient" in key]


# How gently


@dataclass
class Shelf:
    """An archive that sends what it is asked for into a ledger, or fails as it is told to."""

    ledger: Ledger
    failures: list[Unreachable] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    asked: list[list[str]] = field(default_factory=list)
    now: float = 1_600_000_000.0
    times: list[float] = field(default_factory=list)

    def search(self, level: str, **keys: str) -> Iterator[Dataset]:
        self._fail()
        yield from ()

    def fetch(self, places: Sequence[Place]) -> None:
        self.times.append(self.now)
        if self.asked:
            self._fail()
        self.asked.append([place.sop_instance_uid for place in places])
        for uid in self.asked[-1]:
            if uid not in self.lost:
                receive(self.ledger, uid, "SINUSNODE")

    def close(self) -> None:
        """Nothing is open."""

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, run: Run, **pace: Any) -> Counts:
        """Return the counts of a run that came to its end."""
        work = Backfill(
            run, self, Pace(**pace), 5.0, ledger=self.ledger, clock=lambda: self.now,
            sleep=self.sleep,
        )  # fmt: skip
        *_, last = work.steps()
        assert last.run.state is RunState.DONE
        return last.counts


def test_no_more_come_a_minute_than_the_pace_allows(ledger: Ledger) -> None:
    shelf = Shelf(ledger)
    counts = shelf.run(found(ledger, 20), batch=5, ecgs_per_minute=60)
    assert (counts.arrived, counts.failed) == (20, 0)
    steps = [b - a for a, b in zip(shelf.times, shelf.times[1:], strict=False)]
    assert steps == pytest.approx([5.0] * 3)


def test_reports_have_a_pace_of_their_own(ledger: Ledger) -> None:
    shelf = Shelf(ledger)
    shelf.run(found(ledger, 4, replace(ORDER, archive_only=False)), batch=2)
    assert shelf.times[1] - shelf.times[0] == pytest.approx(20.0)


def test_an_archive_that_fails_is_left_alone_for_longer_and_longer(ledger: Ledger) -> None:
    shelf = Shelf(ledger, failures=[Unreachable("away") for _ in range(4)])
    assert shelf.run(found(ledger, 2), batch=1).arrived == 2
    steps = [b - a for a, b in zip(shelf.times, shelf.times[1:], strict=False)]
    assert steps == pytest.approx([1.0, 5.0, 10.0, 20.0, 40.0])


def test_an_archive_that_goes_on_failing_stops_the_run_and_loses_nothing(ledger: Ledger) -> None:
    shelf = Shelf(ledger, failures=[Unreachable("away") for _ in range(FAILURES)])
    run = found(ledger, 2)
    with pytest.raises(Unreachable):
        shelf.run(run, batch=1)
    assert len(shelf.times) == 1 + FAILURES
    assert shelf.run(Backfills(ledger).resume(run, 0.0)).arrived == 2


def test_an_archive_that_does_not_answer_at_first_is_not_waited_for(ledger: Ledger) -> None:
    shelf = Shelf(ledger, failures=[Unreachable("away")])
    shelf.asked.append([])
    with pytest.raises(Unreachable):
        shelf.run(found(ledger, 2))
    assert len(shelf.times) == 1


def test_what_time_does_not_mend_stops_the_run_at_once(ledger: Ledger) -> None:
    shelf = Shelf(ledger, failures=[Unanswered("unknown", MOVE_DESTINATION_UNKNOWN)])
    with pytest.raises(Unanswered):
        shelf.run(found(ledger, 2), batch=1)
    assert len(shelf.times) == 2


def test_one_ecg_that_never_comes_is_given_up_and_takes_no_other_along(ledger: Ledger) -> None:
    shelf = Shelf(ledger, lost={"1.1"})
    run = found(ledger, 6)
    counts = shelf.run(run, batch=3)
    assert (counts.arrived, counts.failed) == (5, 1)
    assert sum("1.1" in batch for batch in shelf.asked) == ATTEMPTS
    shelf.lost = set()
    assert shelf.run(Backfills(ledger).resume(run, 0.0)).arrived == 6


def test_nothing_is_asked_for_twice_that_has_come(ledger: Ledger) -> None:
    shelf = Shelf(ledger)
    run = found(ledger, 4)
    receive(ledger, "1.2", "SINUSNODE")
    shelf.run(run, batch=4)
    assert shelf.asked == [["1.0", "1.1", "1.3"]]


def test_a_run_that_is_paused_from_elsewhere_stops_after_the_step_in_hand(ledger: Ledger) -> None:
    shelf = Shelf(ledger)
    run = found(ledger, 6)
    work = Backfill(
        run, shelf, Pace(batch=2), 5.0, ledger=ledger, clock=lambda: shelf.now, sleep=shelf.sleep
    )
    steps = work.steps()
    next(steps)
    Backfills(ledger).end(run, RunState.PAUSED, "paused by command", 0.0)
    (last,) = steps
    assert (last.run.state, len(shelf.asked)) == (RunState.PAUSED, 1)


@pytest.mark.parametrize(
    ("window", "now", "seconds"),
    [
        (None, "12:00", 0),
        ("20:00-06:00", "12:00", 8 * 3600),
        ("20:00-06:00", "20:00", 0),
        ("20:00-06:00", "05:59", 0),
        ("20:00-06:00", "06:00", 14 * 3600),
        ("08:00-10:00", "10:00", 22 * 3600),
        ("08:00-08:00", "07:00", 0),
    ],
)
def test_outside_its_window_a_source_is_left_alone(
    window: str | None, now: str, seconds: float
) -> None:
    assert closed_for(window, datetime.fromisoformat(f"2020-01-01T{now}")) == seconds
