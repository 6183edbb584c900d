"""Models: uploaded, vetted, shadowed, promoted, rolled back, exchanged.

What a stranger sends is opened in a process of its own (RELIABILITY T16); what a person decides
needs his name, and against the gate's verdict a reason.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Path as Place
from fastapi import Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from analysis.card import Card
from analysis.errors import ModelReason, ModelRejected
from analysis.model import CARD_KEY
from analysis.package import metadata, without_graph
from analysis.recipe import Unit
from analysis.vetting import MAX_BYTES
from dicom_node.examine import apart
from dicom_node.link import Unreachable
from dicom_node.models import Entry, ModelStore, NotAllowed
from dicom_node.settings import Exchange
from dicom_node.shadow import ShadowReport
from training.admin.access import Office, TheOffice, ThePrincipal, note, router
from training.admin.api.common import Body, Digest, Sentence
from training.admin.foreign import adopt_apart
from training.admin.problems import Problem, missing
from training.admin.staging import folder_of, staged
from training.exchange import Offer, Refused, Shelf
from training.registry import CORPUS, mark_withdrawals

routes = router("", "models")

_Answer = TypeVar("_Answer")

_BINARY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_EXCHANGES = "exchanges"

ExchangeName = Annotated[str, Place(max_length=64)]
FileName = Annotated[str, StringConstraints(min_length=6, max_length=128)]


class ModelView(BaseModel):
    """One model, as the registry knows it."""

    digest: str
    name: str
    version: str
    state: str
    speaks: bool
    installed_at: float
    present: bool
    passed: bool | None
    """Whether it passed the promotion gate; null without a verdict."""
    withdrawn: int
    refused: str
    objections: list[str]
    """Why it may not be promoted without an override."""
    device_uid: str


class ModelDetail(ModelView):
    """One model with its card and what speaks for it."""

    card: dict[str, Any] | None
    evidence: dict[str, Any]


class SelfTest(BaseModel):
    """Whether a model still answers as it did when it was packed."""

    ok: bool
    reason: str | None = None
    message: str


class Override(Body):
    """Why a model is to speak in spite of its objections; not needed without any."""

    reason: Sentence | None = None


class OfferView(BaseModel):
    """One model on an exchange."""

    file: str
    size: int | None
    digest: str | None
    name: str | None
    version: str | None
    signed_by: str | None
    """Fingerprint of the trusted key that signed it."""
    installed: bool


class ExchangeView(BaseModel):
    """A server where sites exchange models."""

    name: str
    url: str
    signs: bool
    asks_for_signatures: bool


class Push(Body):
    """Which model to push."""

    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Pull(Body):
    """Which file to pull, as it is listed."""

    file: FileName
    unit: Literal["mV", "uV"] | None = None
    """Of the input of a model without card that does not say it."""


class Verify(Body):
    """Which file to read and hold against its description."""

    file: FileName


class Verified(BaseModel):
    """A file on an exchange that is what its description says."""

    digest: str


def store_of(office: Office) -> ModelStore:
    """Return the registry; packages are examined apart."""
    return ModelStore(office.settings.storage.folder / "models", office.ledger, apart)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the registry's refusals into answers."""
    try:
        yield
    except ModelRejected as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.message, reason=error.reason) from None
    except NotAllowed as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), reason="not-allowed") from None
    except LookupError as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None


# The registry


@routes.get("/models")
def models(office: TheOffice) -> list[ModelView]:
    """List the models, the newest first."""
    return [_view(entry) for entry in store_of(office).list()]


@routes.post("/models", status_code=HTTPStatus.CREATED, openapi_extra=_BINARY)
async def upload(
    request: Request,
    office: TheOffice,
    principal: ThePrincipal,
    name: Annotated[str, Query(max_length=64, description="Of a model without card.")] = "uploaded",
    unit: Literal["mV", "uV"] | None = None,
) -> ModelView:
    """Take a model package, or a model in ExChanGeAI's form, as a candidate."""
    async with staged(request, office.settings.storage, MAX_BYTES, "model") as file:
        evidence = {"uploaded_by": principal.name}
        made = await run_in_threadpool(_add, office, file, name, unit, evidence)
    note(request, digest=made.digest)
    return made


def _add(
    office: Office,
    file: Path,
    name: str,
    unit: str | None,
    evidence: dict[str, Any],
) -> ModelView:
    """Return the candidate that a stranger's file became."""
    store, now = store_of(office), office.clock()
    by = str(evidence.get("uploaded_by", ""))
    with _one_at_a_time(office), _refusals():
        try:
            digest = store.add_candidate(file, now, evidence, by)
        except ModelRejected as error:
            if error.reason is not ModelReason.NO_CARD:
                raise
            created = datetime.fromtimestamp(now, UTC).date().isoformat()
            package = file.with_suffix(".onnx")
            adopt_apart(file, package, name=name, created=created, unit=_unit(unit))
            digest = store.add_candidate(package, now, evidence, by)
        return _view(store.get(digest))


@contextmanager
def _one_at_a_time(office: Office) -> Iterator[None]:
    if not office.examining.acquire(blocking=False):
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Another model is being examined; try again.",
            reason="busy",
            headers={"Retry-After": "5"},
        )
    try:
        yield
    finally:
        office.examining.release()


def _unit(name: str | None) -> Unit | None:
    return {"mV": Unit.MILLIVOLT, "uV": Unit.MICROVOLT}[name] if name else None


@routes.post("/models/rollback")
def roll_back(request: Request, office: TheOffice, principal: ThePrincipal) -> ModelView:
    """Let the previous model speak again."""
    store = store_of(office)
    with _refusals():
        digest = store.roll_back(office.clock(), principal.name)
        note(request, digest=digest)
        return _view(store.get(digest))


@routes.get("/models/{digest}")
def one(office: TheOffice, digest: Digest) -> ModelDetail:
    """Return one model with its card, and what speaks for it."""
    store = store_of(office)
    with _refusals():
        entry = store.get(digest)
    card = card_of(store.path(digest)) if entry.present else None
    evidence = dict(store.evidence(digest))
    evidence.pop("corpus", None)
    return ModelDetail(**_view(entry).model_dump(), card=card, evidence=evidence)


@lru_cache(maxsize=64)
def card_of(path: Path) -> dict[str, Any] | None:
    """Return the card of an installed package; None where it cannot be read any more."""
    try:
        text = metadata(without_graph(path), CARD_KEY)[CARD_KEY]
        return dict(json.loads(Card.from_json(text).to_json()))
    except (OSError, ValueError, LookupError, ModelRejected):
        return None


@routes.get(
    "/models/{digest}/package",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def package(office: TheOffice, digest: Digest) -> Response:
    """Return the package, an ONNX file that other tools read too."""
    store = store_of(office)
    with _refusals():
        entry = store.get(digest)
    if not entry.present:
        raise Problem(HTTPStatus.GONE, "Its package was deleted.", reason="bytes-gone")
    return FileResponse(
        store.path(digest), filename=f"{digest[:12]}.onnx", media_type="application/octet-stream"
    )


@routes.get("/models/{digest}/comparison")
def comparison(office: TheOffice, digest: Digest) -> dict[str, Any]:
    """Return what a shadow model found, beside what the models that spoke had found."""
    with _refusals():
        store_of(office).get(digest)
    return ShadowReport.of(office.ledger, digest).to_mapping()


@routes.post("/models/{digest}/self-test")
def self_test(request: Request, office: TheOffice, digest: Digest) -> SelfTest:
    """Examine an installed package again: every check, and its self-test."""
    store = store_of(office)
    with _refusals():
        store.get(digest)
    answer = SelfTest(ok=True, message="It answers as it did when it was packed.")
    try:
        with _one_at_a_time(office):
            apart(store.path(digest))
    except ModelRejected as error:
        answer = SelfTest(ok=False, reason=error.reason, message=error.message)
    except OSError:
        answer = SelfTest(ok=False, reason="bytes-gone", message="Its package is gone.")
    note(request, ok=answer.ok)
    return answer


@routes.post("/models/{digest}/shadow")
def shadow(office: TheOffice, principal: ThePrincipal, digest: Digest) -> ModelView:
    """Have a model read every ECG after delivery; what it finds is compared, never sent."""
    store = store_of(office)
    with _refusals():
        store.shadow(digest, office.clock(), principal.name)
        return _view(store.get(digest))


@routes.post("/models/{digest}/promote")
def promote(
    request: Request, office: TheOffice, principal: ThePrincipal, digest: Digest, body: Override
) -> ModelView:
    """Make a model the one that speaks; against its objections only with a reason."""
    note(request, override=body.reason)
    store = store_of(office)
    mark_withdrawals(store, office.clock(), office.settings.storage.folder / CORPUS)
    with _refusals():
        store.promote(digest, office.clock(), principal.name, override=body.reason)
        return _view(store.get(digest))


@routes.post("/models/{digest}/retire")
def retire(office: TheOffice, principal: ThePrincipal, digest: Digest) -> ModelView:
    """Retire a model; its package is deleted once no open row names it."""
    store = store_of(office)
    with _refusals():
        store.retire(digest, office.clock(), principal.name)
        return _view(store.get(digest))


def _view(entry: Entry) -> ModelView:
    return ModelView(**entry.to_mapping())


# The exchange


@routes.get("/exchanges")
def exchanges(office: TheOffice) -> list[ExchangeView]:
    """List the servers that the settings name."""
    return [
        ExchangeView(
            name=item.name,
            url=item.url,
            signs=item.signing_key is not None,
            asks_for_signatures=bool(item.trusted_keys),
        )
        for item in office.settings.exchanges
    ]


@routes.get("/exchanges/{name}/models")
def offers(office: TheOffice, name: ExchangeName) -> list[OfferView]:
    """List the models on a server."""
    known = {entry.digest for entry in store_of(office).list()}
    found = _asked(office, name, lambda shelf: shelf.list())
    return [_offer(item, known) for item in found]


@routes.post("/exchanges/{name}/push")
def push(request: Request, office: TheOffice, name: ExchangeName, body: Push) -> OfferView:
    """Push an installed model; no patient data is in a package."""
    store = store_of(office)
    with _refusals():
        entry = store.get(body.digest)
    if not entry.present:
        raise Problem(HTTPStatus.GONE, "Its package was deleted.", reason="bytes-gone")
    note(request, digest=body.digest)
    content = store.path(body.digest).read_bytes()
    found = _asked(office, name, lambda shelf: shelf.push(content, entry.name, entry.version))
    return _offer(found, {body.digest})


@routes.post("/exchanges/{name}/pull", status_code=HTTPStatus.CREATED)
def pull(
    request: Request, office: TheOffice, principal: ThePrincipal, name: ExchangeName, body: Pull
) -> ModelView:
    """Pull a model and vet it; it becomes a candidate."""
    folder = office.settings.storage.folder / _EXCHANGES
    found = _asked(office, name, lambda shelf: shelf.pull(body.file, folder))
    note(request, digest=found.digest, signed_by=found.signed_by)
    evidence = {
        "uploaded_by": principal.name,
        "exchange": name,
        "file": body.file,
        "signed_by": found.signed_by,
    }
    stem = body.file.removesuffix(".onnx")
    with TemporaryDirectory(dir=folder_of(office.settings.storage)) as place:
        file = Path(place) / "body"
        file.write_bytes(found.content)
        return _add(office, file, stem, body.unit, evidence)


@routes.post("/exchanges/{name}/verify")
def verify(request: Request, office: TheOffice, name: ExchangeName, body: Verify) -> Verified:
    """Read a model on a server and hold it against its digest and signature."""
    digest = _asked(office, name, lambda shelf: shelf.verify(body.file))
    note(request, digest=digest)
    return Verified(digest=digest)


def _asked(office: Office, name: str, ask: Callable[[Shelf], _Answer]) -> _Answer:
    """Return what a server of the settings answers; no other is ever asked."""
    server = next((item for item in office.settings.exchanges if item.name == name), None)
    if server is None:
        raise missing("such exchange in the settings")
    try:
        return _ask(server, ask)
    except Unreachable as error:
        raise Problem(HTTPStatus.BAD_GATEWAY, f"{error}.", reason="unreachable") from None
    except Refused as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), reason="exchange") from None


def _ask(server: Exchange, ask: Callable[[Shelf], _Answer]) -> _Answer:
    shelf = Shelf(server)
    try:
        return ask(shelf)
    finally:
        shelf.close()


def _offer(item: Offer, known: set[str]) -> OfferView:
    about = item.description
    return OfferView(
        file=item.file,
        size=item.size,
        digest=about.digest if about else None,
        name=about.name if about else None,
        version=about.version if about else None,
        signed_by=item.signed_by,
        installed=about is not None and about.digest in known,
    )
