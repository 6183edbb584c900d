"""Recordings and what was found in them: each reader sees what his roles allow, no more."""

import json
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import BaseModel, Field, StringConstraints

from analysis.codes import VOCABULARY
from dicom_node.ledger import State
from dicom_node.settings import Role
from training.admin import queries, views
from training.admin.access import Office, TheOffice, ThePrincipal, router
from training.admin.accounts import Principal
from training.admin.api.common import (
    LARGEST_NUMBER,
    Body,
    Key,
    Listed,
    Number,
    Pseudonym,
    need,
)
from training.admin.problems import missing
from training.admin.sources import bytes_of, decoded, result_of, row_of

routes = router("/recordings", "recordings")

_DICOM = "application/dicom"


class Line(BaseModel):
    """One recording in a list; what the reader may not know is null."""

    id: int
    state: State
    reason: str | None
    sender: str
    """Calling AE title."""
    device: str
    heart_rate: float | None
    quality: str | None
    overall: str | None
    statements: list[str]
    seconds: float | None
    """From receipt to delivery."""
    received_at: float | None
    """UTC, seconds since the epoch; only for those who read no pseudonyms, or see patients."""
    patient: str | None
    """Pseudonym; not for a viewer."""
    acquired_at: str | None
    """DT, only for those who see patients."""
    quarter: str | None


class Found(BaseModel):
    """What a model or a criterion says of one finding."""

    key: str
    name: str
    probability: float | None
    threshold: float | None
    present: bool | None
    origin: str
    model: str | None
    evidence: list[str]
    reason: str | None


class Detail(Line):
    """One recording with its result."""

    findings: list[Found]
    measurements: dict[str, dict[str, Any]]
    quality_reasons: list[str]
    models: list[dict[str, str]]
    not_assessed: list[str]
    person: list[str]
    """Age, sex and more, as far as the reader may know."""


class Patient(BaseModel):
    """Whose recording it is, verbatim."""

    name: str | None
    identifier: str | None
    birth_date: date | None
    sex: str | None
    lines: list[str]


def line_for(principal: Principal, line: queries.Line) -> Line:
    """Return a recording as somebody may see it (RELIABILITY §5).

    Who sees patients sees all. Reviewers and trainers see pseudonyms, and therefore no time
    finer than the quarter; viewers see times, and therefore no pseudonyms.
    """
    identified = Role.OPERATOR in principal.roles
    pseudonymous = identified or not principal.roles.isdisjoint((Role.REVIEWER, Role.TRAINER))
    timed = identified or not pseudonymous
    return Line(
        id=line.id,
        state=State(line.state),
        reason=line.reason,
        sender=line.sender,
        device=line.device,
        heart_rate=line.heart_rate,
        quality=line.quality,
        overall=line.overall,
        statements=list(line.statements),
        seconds=line.seconds,
        received_at=line.received_at if timed else None,
        patient=line.patient if pseudonymous else None,
        acquired_at=line.acquired_at if identified else None,
        quarter=line.quarter,
    )


class Search(Body):
    """What is looked for; every condition holds."""

    patient: Pseudonym | None = None
    statement: Key | None = None
    """Key of the vocabulary."""
    device: Annotated[str, StringConstraints(max_length=64)] | None = None
    sender: Annotated[str, StringConstraints(max_length=16)] | None = None
    """Calling AE title."""
    state: State | None = None
    first: date | None = None
    """Of acquisition, for operators; so is `last`."""
    last: date | None = None
    before: Annotated[int, Field(ge=1, lt=LARGEST_NUMBER)] | None = None
    """What `next` of the page before said."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    def query(self) -> queries.Search:
        """Return it in the words of the ledger."""
        return queries.Search(
            patient=self.patient,
            statement=self.statement,
            device=_plain(self.device),
            sender=_plain(self.sender),
            state=self.state,
            first=f"{self.first:%Y%m%d}" if self.first else None,
            last=f"{self.last:%Y%m%d}" if self.last else None,
            before=self.before,
        )


def _plain(text: str | None) -> str | None:
    """Return a word without what no database can look for."""
    return None if text is None else text.replace("\0", "")


@routes.get("")
def search(
    office: TheOffice, principal: ThePrincipal, wanted: Annotated[Search, Query()]
) -> Listed[Line]:
    """Search recordings, the newest first."""
    if wanted.patient is not None:
        need(principal, "A search by patient", Role.OPERATOR, Role.REVIEWER, Role.TRAINER)
    if wanted.first is not None or wanted.last is not None:
        need(principal, "A search by day", Role.OPERATOR)
    page = queries.search(office.ledger, wanted.query(), wanted.limit)
    return Listed(items=[line_for(principal, line) for line in page.items], next=page.next)


@routes.get("/{instance}")
def detail(office: TheOffice, principal: ThePrincipal, instance: Number) -> Detail:
    """Return one recording with its findings and measurements."""
    row = row_of(office, instance)
    result = result_of(office, row)
    line = line_for(principal, _line(office, instance))
    document = json.loads(row["result"])
    pseudonym = line.patient or ""
    person = views.pseudonymised(result.recording, pseudonym)
    return Detail(
        **line.model_dump(),
        findings=[_found(item) for item in document["findings"]],
        measurements=document["measurements"]["quantities"],
        quality_reasons=document["quality"]["reasons"],
        models=[{name: str(text) for name, text in item.items()} for item in document["models"]],
        not_assessed=document["not_assessed"],
        person=list(person.lines),
    )


def _line(office: Office, number: int) -> queries.Line:
    found = queries.line(office.ledger, number)
    if found is None:
        raise missing(f"recording {number}")
    return found


def _found(item: dict[str, Any]) -> Found:
    entry = VOCABULARY.get(item["key"])
    values = {name: item.get(name) for name in Found.model_fields}
    return Found(**values | {"name": entry.name if entry else item["key"]})


@routes.get("/{instance}/waveform")
def waveform(office: TheOffice, instance: Number) -> dict[str, Any]:
    """Return the samples with beats and fiducial points, without saying whose they are."""
    return views.tracing(result_of(office, row_of(office, instance)))


@routes.get("/{instance}/patient")
def patient(office: TheOffice, instance: Number) -> Patient:
    """Return whose recording it is."""
    _, recording = decoded(office, row_of(office, instance))
    who = recording.patient
    return Patient(
        name=who.name,
        identifier=who.identifier,
        birth_date=who.birth_date,
        sex=who.sex,
        lines=list(views.identified(recording).lines),
    )


@routes.get(
    "/{instance}/source", response_class=Response, responses={200: {"content": {_DICOM: {}}}}
)
def source(office: TheOffice, instance: Number) -> Response:
    """Return the object as it was received."""
    row = row_of(office, instance)
    return _object(bytes_of(office, row), f"{instance}.dcm")


@routes.get(
    "/{instance}/objects/{role}",
    response_class=Response,
    responses={200: {"content": {_DICOM: {}}}},
)
def made(office: TheOffice, instance: Number, role: Literal["sr", "pdf", "ecg", "sc", "tid1500",
         "annotation"]) -> Response:  # fmt: skip
    """Return one of the objects that were made from a recording."""
    row = row_of(office, instance)
    found = next((item for item in row["objects"] if item["role"] == role), None)
    if found is None:
        raise missing(f"such object of recording {instance}")
    return _object(bytes_of(office, found), f"{instance}.{role}.dcm")


def _object(data: bytes, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, headers=headers, media_type=_DICOM)
