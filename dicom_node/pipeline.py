"""The one use case: a received object becomes a stored result and three finished objects.

Everything between the two stores is pure. The result goes through its durable form before
anything is built from it, so that a first run and a rebuild see the same numbers.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from pydicom.dataset import Dataset

from analysis import paper
from analysis.analyse import analyse
from analysis.ecg import Recording
from analysis.errors import Undecodable
from analysis.formats import dicom
from analysis.model import Model
from analysis.result import Result
from analysis.synthetic import Kind, simulate
from dicom_node import report
from dicom_node.archive import Archive
from dicom_node.failpoints import reach
from dicom_node.ledger import Comparable, Comparison, Lease, Ledger, Produced
from dicom_node.plan import Plan
from dicom_node.reasons import Quarantine, sentence
from dicom_node.report import Message, NoComparison, Previous, ResultObject, Unreportable
from dicom_node.report.objects import UNREADABLE
from dicom_node.report.uids import is_uid
from dicom_node.routing import allowed, route_of
from dicom_node.settings import Route
from dicom_node.spool import Spool

_T = TypeVar("_T")

Clock = Callable[[], float]
"""Returns UTC, seconds since the epoch."""


class Quarantined(Exception):
    """The object is to be set aside for good.

    Parameters
    ----------
    reason
        From a closed list.
    message
        One sentence for the operator, without patient data.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What one worker needs to bring an object from RECEIVED to REPORTED."""

    ledger: Ledger
    spool: Spool
    model: Callable[[str], Model]
    """Returns the model with a digest."""
    destinations: tuple[str, ...]
    clock: Clock
    messages: Mapping[Message, tuple[str, ...]] = field(default_factory=dict)
    """Where each kind of message goes; only those are made that go somewhere."""
    archive: Archive | None = None
    """Where de-identified recordings are kept for learning, if they are."""
    routes: tuple[Route, ...] = ()
    """Which results of which ECGs are made, and where they go."""

    def process(self, lease: Lease) -> None:
        """Bring the leased object to REPORTED, or a fetched one to ARCHIVED, from where it is.

        Raises
        ------
        Quarantined
            If it cannot get there, ever.
        """
        plan = Plan.from_json(lease.plan)
        source, recording = read(self.spool.read(lease.blob), lease.sop_instance_uid)
        route = route_of(self.routes, lease.calling_ae, source)
        plan = plan if route.classify else plan.without_models()
        reach("before_analysis")
        text = lease.result or self._analyse(lease, source, recording, plan)
        reach("after_analysed")
        if lease.archive_only and self.ledger.archived(lease):
            self._keep(source, recording, ai_visible=False)
            return
        made = build(
            source,
            Result.from_json(text, recording),
            plan,
            sha256=lease.blob.sha256,
            plan_digest=lease.plan_digest,
            received_at=lease.received_at,
            previous=previous(self.ledger.comparison(lease.id), plan),
            messages=tuple(kind for kind, names in self.messages.items() if allowed(route, names)),
        )
        produced = self._store(made, route)
        self.spool.sync(item.blob for item in produced)
        reach("after_report")
        places = allowed(route, self.destinations)
        self.ledger.reported(lease, produced, places, self.clock())
        self._keep(source, recording, ai_visible=True)

    def _keep(self, source: Dataset, recording: Recording, *, ai_visible: bool) -> None:
        if self.archive is not None:
            self.archive.keep(source, recording, patient=patient_key(source), ai_visible=ai_visible)

    def _analyse(self, lease: Lease, source: Dataset, recording: Recording, plan: Plan) -> str:
        models = [self.model(digest) for digest in plan.models]
        result = analyse(recording, models, options=plan.options)
        ecg = comparable(source, result, plan)
        return self.ledger.analysed(lease, result.to_json(), self.clock(), ecg)

    def _store(self, made: Sequence[ResultObject], route: Route) -> list[Produced]:
        blobs = self.spool.write_together([item.data for item in made])
        own = {str(kind): allowed(route, names) for kind, names in self.messages.items()}
        return [
            Produced(
                role=item.role,
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
                blob=blob,
                destinations=own.get(item.role),
            )
            for item, blob in zip(made, blobs, strict=True)
        ]


def read(data: bytes, sop_instance_uid: str) -> tuple[Dataset, Recording]:
    """Return the object and its ECG, if it is what the sender said and none of our own.

    Raises
    ------
    Quarantined
        If it is not, or cannot be decoded.
    """
    source = _decodable(lambda: dicom.parse(data))
    if report.is_own(source):
        raise Quarantined(Quarantine.OWN_OBJECT, sentence(Quarantine.OWN_OBJECT))
    if str(source.get("SOPInstanceUID", "")) != sop_instance_uid:
        raise Quarantined(Quarantine.IDENTITY_MISMATCH, sentence(Quarantine.IDENTITY_MISMATCH))
    return source, _decodable(lambda: dicom.read(data))


def _decodable(decode: Callable[[], _T]) -> _T:
    try:
        return decode()
    except Undecodable as error:
        raise Quarantined(error.reason, error.message) from error


def comparable(source: Dataset, result: Result, plan: Plan) -> Comparable | None:
    """Return what a later ECG of the same patient may be compared with (DESIGN §4).

    None where no report could refer to the source; one of its own is refused for the same reason.
    """
    try:
        if not all(is_uid(source.get(keyword)) for keyword in _REFERENCED):
            return None
        acquired_at, patient = report.acquired_at(source), patient_key(source)
    except (Unreportable, *UNREADABLE):
        return None
    who = result.recording.patient
    return Comparable(
        patient=patient,
        birth_date=who.birth_date.isoformat() if who.birth_date else "",
        sex=who.sex or "",
        study_instance_uid=str(source.StudyInstanceUID),
        series_instance_uid=str(source.SeriesInstanceUID),
        acquired_at=acquired_at,
        algorithm=plan.algorithm,
        measurements=report.comparable(result),
    )


_REFERENCED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
"""What another report needs to refer to an ECG."""


def patient_key(source: Dataset) -> str | None:
    """Return a key of Patient ID and its issuer, verbatim, or None without a Patient ID."""
    qualifiers = source.get("IssuerOfPatientIDQualifiersSequence") or (Dataset(),)
    words = (
        source.get("PatientID"),
        source.get("IssuerOfPatientID"),
        qualifiers[0].get("UniversalEntityID"),
    )
    fields = [str(word or "").strip(" \0") for word in words]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest() if fields[0] else None


def previous(chosen: Comparison | None, plan: Plan) -> Previous | NoComparison:
    """Return the earlier ECG that the ledger chose, or why there is none."""
    if chosen is None:
        return NoComparison.NOT_ASKED
    if chosen.conflict:
        return NoComparison.CONFLICT
    if chosen.earlier is None:
        return NoComparison.NONE
    values = asdict(chosen.earlier)
    algorithm = values.pop("algorithm")
    return Previous(**values, same_algorithm=algorithm == plan.algorithm)


def build(
    source: Dataset,
    result: Result,
    plan: Plan,
    *,
    sha256: str,
    plan_digest: str,
    received_at: float,
    previous: Previous | NoComparison = NoComparison.NOT_ASKED,
    messages: Sequence[Message] = (),
) -> Sequence[ResultObject]:
    """Return the finished objects: a function of the ledger row and the source bytes alone.

    Raises
    ------
    Quarantined
        If the source lacks what a report must copy, or our own checker refuses an object.
    """
    try:
        made = report.build(
            source=source,
            source_sha256=sha256,
            result=result,
            plan_digest=plan_digest,
            received_at=datetime.fromtimestamp(received_at, UTC),
            device=plan.device,
            options=plan.report_options,
            page=paper.render(result, "pdf", version=plan.software),
            previous=previous,
            messages=messages,
        )
    except Unreportable as error:
        raise Quarantined(Quarantine.NOT_REPORTABLE, error.message) from error
    broken = [fault for item in made for fault in item.faults]
    if broken:
        raise Quarantined(Quarantine.CHECKER, "; ".join(broken[:3]))
    return made


def rehearse(models: Sequence[Model], plan: Plan) -> None:
    """Bring a simulated ECG all the way, so that the first real one finds everything warm."""
    moment = datetime.fromtimestamp(0, UTC)
    source = dicom.encode(
        simulate(Kind.SINUS).ecg,
        identity=dicom.Identity(
            study_instance_uid="2.25.1",
            series_instance_uid="2.25.2",
            sop_instance_uid="2.25.3",
            created_at=moment,
            study_at=moment,
        ),
    )
    result = analyse(dicom.decode(source), models, options=plan.options)
    build(source, result, plan, sha256="", plan_digest="", received_at=0.0)
