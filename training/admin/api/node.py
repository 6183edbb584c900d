"""The node from outside: how it does, whom it talks to."""

import shutil
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Path, Request
from pydantic import BaseModel

from dicom_node import check, mllp, scu, tls
from dicom_node.dicomweb import STUDY, Client
from dicom_node.fhir import Server
from dicom_node.ledger import State, instances
from dicom_node.link import Address, Unreachable
from dicom_node.receive import disk_is_low
from dicom_node.settings import (
    AnyDestination,
    Destination,
    Fhir,
    Hl7,
    Peer,
    Settings,
    WebDestination,
)
from training.admin.access import Office, TheOffice, ThePrincipal, note, router
from training.admin.drift import drift
from training.admin.notices import notices
from training.admin.problems import Problem, missing

routes = router("", "node")

Kind = Literal["DICOM", "DICOMweb", "HL7", "FHIR"]


class Status(BaseModel):
    """How the node does; nobody's data."""

    version: str
    counts: dict[State, int]
    pending: dict[str, int]
    """Results that wait, by destination."""
    disk_free: int
    """Bytes."""
    disk_low: bool
    model: str | None
    """Digest of the model that speaks."""


class Outlet(BaseModel):
    """Where results go."""

    name: str
    kind: Kind
    address: str
    tls: bool
    pending: int
    active: bool
    """Whether anything is sent there now."""


class Cart(BaseModel):
    """Who sends ECGs, or may."""

    ae_title: str
    addresses: list[str]
    listed: bool
    """Whether the settings name it."""
    last_at: float | None
    """When it last sent one."""
    received: int
    port: int | None
    """Where it can be asked; None where the settings do not say."""


class Answer(BaseModel):
    """Whether somebody answers."""

    ok: bool
    message: str
    accepts: list[str] = []


@routes.get("/status")
def status(request: Request, office: TheOffice) -> Status:
    """Say how the node does."""
    storage = office.settings.storage
    slots = office.ledger.slots()
    return Status(
        version=request.app.version,
        counts=office.ledger.counts(),
        pending=office.ledger.pending(),
        disk_free=shutil.disk_usage(storage.folder).free,
        disk_low=disk_is_low(storage),
        model=slots.get("speaking", slots.get("current")),
    )


@routes.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> dict[str, Any]:
    """Return the description of this API."""
    return dict(request.app.openapi())


# Drift, and what waits


class ChangeView(BaseModel):
    """One share, then and now."""

    kind: str
    name: str
    before: float
    now: float
    p: float
    alert: bool
    sentence: str


class DriftView(BaseModel):
    """How the last ECGs differ from those before them."""

    recent: int
    reference: int
    alerts: list[str]
    changes: list[ChangeView]


@routes.get("/drift")
def drift_watch(office: TheOffice) -> DriftView:
    """Say whether findings, quality, devices or rates have changed lately."""
    found = drift(office.ledger, office.live.now().drift)
    return DriftView(
        recent=found.recent,
        reference=found.reference,
        alerts=list(found.alerts),
        changes=[
            ChangeView(**{name: getattr(item, name) for name in ChangeView.model_fields})
            for item in found.changes
        ],
    )


class NoticeView(BaseModel):
    """One thing that waits for a person."""

    kind: str
    sentence: str


@routes.get("/notices")
def waiting(office: TheOffice, principal: ThePrincipal) -> list[NoticeView]:
    """Say what waits for whoever asks: quarantine, runs, a shadow to decide on, drift, keys."""
    found = notices(office, principal.roles)
    return [NoticeView(kind=item.kind, sentence=item.sentence) for item in found]


# Destinations


@routes.get("/destinations")
def destinations(office: TheOffice) -> list[Outlet]:
    """List where results go."""
    pending = office.ledger.pending()
    return [_outlet(item, pending.get(item.name, 0)) for item in office.live.now().outlets]


def _outlet(item: AnyDestination | Hl7 | Fhir, pending: int) -> Outlet:
    kind, address, secure = _where(item)
    return Outlet(
        name=item.name,
        kind=kind,
        address=address,
        tls=secure,
        pending=pending,
        active=item.active,
    )


def _where(item: AnyDestination | Hl7 | Fhir) -> tuple[Kind, str, bool]:
    """Return what kind of destination it is, its address, and whether it speaks TLS."""
    if isinstance(item, Destination):
        return "DICOM", f"{item.ae_title}@{item.host}:{item.port}", item.tls
    if isinstance(item, Hl7):
        return "HL7", f"{item.host}:{item.port}", item.tls
    kind: Kind = "FHIR" if isinstance(item, Fhir) else "DICOMweb"
    return kind, item.url, item.url.startswith("https:")


@routes.post("/destinations/{name}/echo")
def echo(request: Request, office: TheOffice, name: Annotated[str, Path(max_length=64)]) -> Answer:
    """Ask a destination of the settings whether it answers, and what it accepts."""
    item = next((item for item in office.settings.outlets if item.name == name), None)
    if item is None:
        raise missing("such destination")
    answer = _asked(office.settings, item)
    note(request, ok=answer.ok)
    return answer


def _asked(settings: Settings, item: AnyDestination | Hl7 | Fhir) -> Answer:
    """Return whether a destination answers: C-ECHO, a query, a connection, its description."""
    hasty = item.model_copy(update={"timeout": check.PATIENCE})
    try:
        return _answer(settings, hasty)
    except Unreachable as error:
        return Answer(ok=False, message=f"{error}.")
    except OSError as error:
        return Answer(ok=False, message=f"The TLS files cannot be used: {tls.describe(error)}.")


def _answer(settings: Settings, item: AnyDestination | Hl7 | Fhir) -> Answer:
    if isinstance(item, Destination):
        return _dicom_answer(settings, item)
    if isinstance(item, Hl7):
        mllp.connect(item, tls.caller(settings.tls, item)).close()
    elif isinstance(item, Fhir):
        server = Server(item)
        try:
            found = server.describe()
        finally:
            server.close()
        return Answer(ok=found == HTTPStatus.OK, message=f"It answers {int(found)}.")
    elif isinstance(item, WebDestination):
        client = Client(item)
        try:
            next(client.search(STUDY, StudyInstanceUID=""), None)
        finally:
            client.close()
    return Answer(ok=True, message="It answers.")


def _dicom_answer(settings: Settings, item: Destination) -> Answer:
    accepted = scu.echo(
        Address(item.ae_title, item.host, item.port),
        item.calling_ae_title or settings.dicom.ae_title,
        item.timeout,
        secure=tls.caller(settings.tls, item),
    )
    return Answer(ok=True, message="It answers.", accepts=list(accepted))


# Carts


@routes.get("/carts")
def carts(office: TheOffice) -> list[Cart]:
    """List who may send ECGs, and who did lately."""
    return list(_carts(office))


def _carts(office: Office) -> Iterator[Cart]:
    sent = _sent(office)
    peers = {peer.ae_title: peer for peer in office.settings.dicom.peers}
    for title in sorted({*sent, *peers} - {"*"}):
        peer = peers.get(title)
        last_at, received, address = sent.get(title, (None, 0, None))
        yield Cart(
            ae_title=title,
            addresses=list(peer.addresses) if peer else [address] if address else [],
            listed=peer is not None,
            last_at=last_at,
            received=received,
            port=peer.port if peer else None,
        )


def _sent(office: Office) -> dict[str, tuple[float, int, str]]:
    """Return, by AE title, when something last came, how much lately, and from where."""
    column = instances.c
    newest = sa.select(sa.func.coalesce(sa.func.max(column.id), 0))
    query = (
        sa.select(
            column.calling_ae,
            sa.func.max(column.received_at),
            sa.func.count(),
            sa.func.max(column.address),
        )
        .where(column.id > newest.scalar_subquery() - _COUNTED)
        .group_by(column.calling_ae)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in office.ledger.query(query)}


_COUNTED = 5000
"""Newest rows that carts are counted in."""


@routes.post("/carts/{ae_title}/echo")
def echo_cart(
    request: Request, office: TheOffice, ae_title: Annotated[str, Path(max_length=16)]
) -> Answer:
    """Ask a cart whether it answers C-ECHO: one that the settings give a port and one address."""
    peer = next((item for item in office.settings.dicom.peers if item.ae_title == ae_title), None)
    if peer is None or ae_title == "*":
        raise missing("such cart in `dicom.peers`")
    host = _only_host(peer)
    if peer.port is None or host is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "Its entry in `dicom.peers` does not say where: a port and a single address.",
            reason="no-address",
        )
    where = Address(peer.ae_title, host, peer.port)
    try:
        scu.echo(where, office.settings.dicom.ae_title, check.PATIENCE, classes=())
    except Unreachable as error:
        answer = Answer(ok=False, message=f"{error}.")
    else:
        answer = Answer(ok=True, message="It answers.")
    note(request, ok=answer.ok)
    return answer


def _only_host(peer: Peer) -> str | None:
    hosts = [where.split("/")[0] for where in peer.addresses if where.endswith(("/32", "/128"))]
    return hosts[0] if len(hosts) == 1 == len(peer.addresses) else None
