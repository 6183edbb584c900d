"""Which earlier ECG a report compares with: the same patient's last, or none and why."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from test_ledger import leased, postgres, produced, receive, received, url  # noqa: F401 - fixtures

from analysis.analyse import analyse
from analysis.ecg import Patient, Sex
from analysis.formats import dicom
from analysis.synthetic import Kind, simulate
from dicom_node import report, work
from dicom_node.ledger import Comparable, Comparison, Ledger, Received, State
from dicom_node.pipeline import Pipeline, comparable, patient_key
from dicom_node.plan import Plan
from dicom_node.reasons import Quarantine
from dicom_node.report import ResultObject
from dicom_node.settings import Settings, Work
from dicom_node.spool import Spool

ECG = Comparable(
    patient="a" * 64,
    birth_date="1950-02-28",
    sex="F",
    study_instance_uid="2.25.1",
    series_instance_uid="2.25.2",
    acquired_at="20240229120000",
    algorithm="2",
    measurements={"heart_rate": 60.0},
)
MAN = Patient(identifier="4711", birth_date=date(1950, 2, 28), sex=Sex.MALE)
MORNING, NOON, EVENING = (f"20240229{hour}0000" for hour in ("08", "12", "20"))

# The choice, on both databases


@pytest.fixture
def empty(url: str) -> Iterator[Ledger]:  # noqa: F811 - the fixture of both databases
    """Open a new ledger."""
    opened = Ledger(url)
    opened.create()
    yield opened
    opened.close()


def analysed(ledger: Ledger, uid: str, **changes: Any) -> Comparison:
    """Bring one ECG to REPORTED; what was chosen for it."""
    receive(ledger, received(uid))
    lease = leased(ledger)
    ledger.analysed(lease, "result", 2.0, replace(ECG, **changes))
    ledger.reported(lease, produced(uid), (), 3.0)
    chosen = ledger.comparison(lease.id)
    assert chosen is not None
    return chosen


def chosen(comparison: Comparison) -> str | None:
    return comparison.earlier.sop_instance_uid if comparison.earlier else None


@pytest.fixture
def known(empty: Ledger) -> Ledger:
    """Return a ledger that knows one ECG of the patient, at noon."""
    assert analysed(empty, "1.1", acquired_at=NOON) == Comparison(earlier=None, conflict=False)
    return empty


def test_an_ecg_is_compared_with_the_last_one_before_it(known: Ledger) -> None:
    assert chosen(analysed(known, "1.2", acquired_at=EVENING)) == "1.1"
    later = analysed(known, "1.3", acquired_at="20240301000000.5+0100")
    assert chosen(later) == "1.2"
    assert later.earlier is not None
    assert later.earlier.measurements == {"heart_rate": 60.0}
    assert later.earlier.sop_class_uid == received("1.2").sop_class_uid


def test_an_ecg_that_arrives_late_is_not_compared_with_a_later_one(known: Ledger) -> None:
    assert chosen(analysed(known, "1.2", acquired_at=MORNING)) is None
    assert chosen(analysed(known, "1.3", acquired_at=f"{NOON}.1")) == "1.2"  # in the same second


def test_a_time_known_to_the_day_is_before_no_time_of_that_day(known: Ledger) -> None:
    analysed(known, "1.2", acquired_at="20240301")
    assert chosen(analysed(known, "1.3", acquired_at="20240301080000")) == "1.1"
    assert chosen(analysed(known, "1.4", acquired_at="20240302")) == "1.2"


@pytest.mark.parametrize("patient", ["b" * 64, None])
def test_another_patient_or_none_is_not_compared(known: Ledger, patient: str | None) -> None:
    anonymous = [analysed(known, f"1.{n}", acquired_at=EVENING, patient=patient) for n in (2, 3)]
    assert {chosen(item) for item in anonymous} == {None}


@pytest.mark.parametrize("changes", [{"birth_date": "1950-02-27"}, {"sex": "M"}])
def test_another_birth_date_or_sex_is_a_conflict(known: Ledger, changes: dict[str, str]) -> None:
    found = analysed(known, "1.2", acquired_at=EVENING, **changes)
    assert found == Comparison(earlier=None, conflict=True)


@pytest.mark.parametrize("changes", [{"birth_date": ""}, {"sex": ""}])
def test_what_is_not_stated_conflicts_with_nothing(known: Ledger, changes: dict[str, str]) -> None:
    assert chosen(analysed(known, "1.2", acquired_at=EVENING, **changes)) == "1.1"


def test_a_copy_of_the_same_instance_is_no_earlier_ecg(known: Ledger) -> None:
    receive(known, received("1.1", "other bytes"))
    known.retry(2, 1.0)
    lease = leased(known)
    known.analysed(lease, "result", 2.0, replace(ECG, acquired_at=EVENING))
    assert known.comparison(lease.id) == Comparison(earlier=None, conflict=False)


def test_the_same_moment_under_another_uid_is_no_earlier_ecg(known: Ledger) -> None:
    assert chosen(analysed(known, "1.2", acquired_at=NOON)) is None


def test_an_ecg_that_was_not_measured_or_is_in_quarantine_is_passed_over(known: Ledger) -> None:
    analysed(known, "1.2", acquired_at=f"{NOON[:-4]}3000", measurements={})
    receive(known, received("1.3"))
    lease = leased(known)
    known.analysed(lease, "result", 2.0, replace(ECG, acquired_at=f"{NOON[:-4]}4000"))
    known.quarantine(lease, Quarantine.CHECKER, "no")
    assert chosen(analysed(known, "1.4", acquired_at=EVENING)) == "1.1"


def test_the_first_choice_stays_whatever_arrives_later(known: Ledger) -> None:
    receive(known, received("1.9"))
    lease = leased(known, now=1.0)
    late = replace(ECG, acquired_at=EVENING)
    known.analysed(lease, "first", 2.0, late)
    before = known.comparison(lease.id)
    again = leased(known, "worker-2", now=20.0)
    known.analysed(again, "second", 21.0, replace(late, acquired_at=MORNING))
    assert known.comparison(lease.id) == before


def test_a_row_that_was_analysed_without_asking_says_so(empty: Ledger) -> None:
    receive(empty, received("1.1"))
    lease = leased(empty)
    empty.analysed(lease, "result", 2.0)
    assert empty.comparison(lease.id) is None


def test_the_earlier_ecg_is_found_by_its_index(tmp_path: Path) -> None:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    opened.create()
    statements: list[tuple[str, Any]] = []
    sa.event.listen(
        opened._engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, values, *_: statements.append((text, values)),
    )
    analysed(opened, "1.1")
    (text, values) = next(item for item in statements if "acquired_by <" in item[0])
    with opened._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
    opened.close()
    assert "SEARCH ecg USING INDEX ecg_patient (patient=? AND acquired_by<?)" in str(plan)


# Who the patient is


def source(**values: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_the_patient_is_the_identifier_with_its_issuer_and_nothing_else() -> None:
    mine = patient_key(source(PatientID="4711", IssuerOfPatientID="A"))
    assert mine == patient_key(source(PatientID="4711 ", IssuerOfPatientID="A", PatientName="X"))
    others = [
        source(PatientID="4711"),
        source(PatientID="4711", IssuerOfPatientID="B"),
        source(PatientID="471", IssuerOfPatientID="1A"),
    ]
    assert mine not in {patient_key(other) for other in others}


def test_an_issuer_by_its_universal_identifier_counts() -> None:
    keys = set()
    for entity in ("1.2.3", "1.2.4"):
        patient = source(PatientID="4711")
        patient.IssuerOfPatientIDQualifiersSequence = [source(UniversalEntityID=entity)]
        keys.add(patient_key(patient))
    assert len(keys) == 2


@pytest.mark.parametrize("identifier", ["", " ", None])
def test_no_identifier_is_nobody(identifier: str | None) -> None:
    assert patient_key(source(PatientID=identifier, IssuerOfPatientID="A")) is None


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", ["", "1..2", "9" * 70])
def test_an_ecg_that_no_report_can_refer_to_is_compared_with_nothing(
    keyword: str, value: str
) -> None:
    ecg = simulate(Kind.SINUS, duration=3.0).ecg
    moment = datetime(2024, 2, 29, tzinfo=UTC)
    named = {"study_instance_uid": "2.25.1", "series_instance_uid": "2.25.2"}
    identity = dicom.Identity(
        **named, sop_instance_uid="2.25.3", created_at=moment, study_at=moment
    )
    item = dicom.encode(ecg, identity=identity, patient=MAN)
    result, plan = analyse(dicom.decode(item), ()), Plan.of(Settings(), models=())
    assert comparable(item, result, plan) is not None
    item[keyword] = pydicom.DataElement(keyword, "UI", value, validation_mode=pydicom.config.IGNORE)
    assert comparable(item, result, plan) is None


# The whole way, in process


@dataclass
class House:
    """A pipeline on a ledger and a spool of its own; criteria only."""

    pipeline: Pipeline
    plan: Plan = field(default_factory=lambda: Plan.of(Settings(), models=()))
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def arrive(
        self,
        at: str = NOON,
        patient: Patient = MAN,
        kind: Kind = Kind.SINUS,
    ) -> int:
        """Receive an ECG; its row."""
        number = next(self.numbers)
        moment = datetime(2024, 2, 29, tzinfo=UTC)
        item = dicom.encode(
            simulate(kind, duration=6.0).ecg,
            identity=dicom.Identity(
                study_instance_uid=f"2.25.{number}1",
                series_instance_uid=f"2.25.{number}2",
                sop_instance_uid=f"2.25.{number}3",
                created_at=moment,
                study_at=moment,
            ),
            patient=patient,
        )
        item.AcquisitionDateTime = at
        buffer = io.BytesIO()
        item.save_as(buffer, enforce_file_format=True)
        blob = self.pipeline.spool.write(buffer.getvalue())
        self.pipeline.spool.sync([blob])
        came = Received(
            sop_class_uid=item.SOPClassUID, sop_instance_uid=item.SOPInstanceUID, blob=blob,
            calling_ae="CART", called_ae="SINUSNODE", address="127.0.0.1", received_at=1.0,
        )  # fmt: skip
        self.pipeline.ledger.receive([came], self.plan.text, self.plan.digest)
        return number

    def work(self) -> None:
        work.attempt(self.pipeline, leased(self.pipeline.ledger), Work())

    def row(self, number: int) -> dict[str, Any]:
        found = self.pipeline.ledger.row(number)
        assert found is not None
        return found

    def objects(self, number: int) -> dict[str, bytes]:
        where = self.pipeline.ledger.blob_of
        return {
            item["role"]: self.pipeline.spool.read(where(item))
            for item in self.row(number)["objects"]
        }

    def comparison(self, number: int) -> str:
        """Return what the report of this row says about an earlier ECG."""
        read = pydicom.dcmread(io.BytesIO(self.objects(number)["sr"]))
        prior = next(
            i for i in read.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "55114-3"
        )
        return str(prior.ContentSequence[-1].TextValue)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Build the house, with nothing in it."""
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    opened.create()
    spool = Spool(tmp_path / "spool")
    spool.prepare(())
    yield House(
        Pipeline(
            ledger=opened, spool=spool, model=pytest.fail,
            destinations=("PACS",), clock=lambda: 2.0,
        )
    )  # fmt: skip
    opened.close()


def test_the_second_ecg_of_a_patient_is_compared_with_the_first(house: House) -> None:
    first, second = house.arrive(NOON), house.arrive(EVENING, kind=Kind.TACHYCARDIA)
    house.work()
    house.work()
    assert "knows no earlier ECG" in house.comparison(first)
    assert house.comparison(second).startswith("Compared with the ECG of 2024-02-29 12:00")


def test_somebody_else_with_the_same_number_is_not_compared(house: House) -> None:
    twin = replace(MAN, birth_date=date(1950, 3, 1))
    house.arrive(NOON)
    other = house.arrive(EVENING, twin)
    house.work()
    house.work()
    assert "birth date or sex" in house.comparison(other)


def test_building_again_compares_with_the_same_ecg_and_gives_the_same_bytes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.arrive(MORNING)
    house.work()
    last = house.arrive(EVENING)
    lost = leased(house.pipeline.ledger)
    made: list[ResultObject] = []

    def killed(_self: Pipeline, objects: list[ResultObject], _route: object) -> None:
        made.extend(objects)
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "_store", killed)
    with pytest.raises(KeyboardInterrupt):
        house.pipeline.process(lost)
    monkeypatch.undo()
    house.pipeline.ledger.postpone(lost, 1.0)
    house.arrive(NOON)  # would have been the earlier one, had it come in time
    work.attempt(house.pipeline, leased(house.pipeline.ledger, now=1.0), Work())
    assert house.row(last)["state"] == State.REPORTED
    assert house.comparison(last).startswith("Compared with the ECG of 2024-02-29 08:00")
    assert house.objects(last) == {item.role: item.data for item in made}


def test_an_object_that_our_checker_refuses_is_set_aside_and_never_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "check", lambda _draft: ("the report is empty",))
    number = house.arrive()
    house.work()
    row = house.row(number)
    assert (row["state"], row["reason"]) == (State.QUARANTINED, Quarantine.CHECKER)
    assert "the report is empty" in row["message"]
    assert row["objects"] == row["deliveries"] == []
