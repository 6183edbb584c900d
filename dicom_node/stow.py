"""STOW-RS in (PS3.18 §10.5): ECGs by HTTP, as durable and as idempotent as by C-STORE.

Bounded in bytes, parts and time; one part is in memory at a time, and each is bytes and row
before it is listed as stored. A caller shows a bearer token; without one there is no door.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from dicom_node.dicomweb import DICOM, JSON, File, NoFile, opened
from dicom_node.ledger import Event
from dicom_node.multipart import Malformed, Part, Splitter, TooLarge, boundary, media_types
from dicom_node.reasons import Refusal, sentence
from dicom_node.receive import TRANSFER_SYNTAXES, WAVEFORMS, Arrival, Intake
from dicom_node.report.objects import UNREADABLE
from dicom_node.settings import Settings, Stow
from dicom_node.wire import Caller

log = structlog.get_logger()

CALLING_AE: Final = "STOW-RS"
"""What queue and metrics call those who come by this door."""

FAILURE_REASONS: Final = {
    Refusal.OUT_OF_RESOURCES: 0xA700,
    Refusal.MISMATCH: 0xA900,
    Refusal.OTHER_STUDY: 0xA900,
    Refusal.NOT_DICOM: 0xC000,
    Refusal.SOP_CLASS: 0x0122,
    Refusal.TRANSFER_SYNTAX: 0xC122,
}
"""Refusal → Failure Reason (0008,1197) (PS3.18 §10.5.3)."""

_RETRY_AFTER: Final = "60"  # seconds
_PATH: Final = "/dicom-web/studies"


class Refused(Exception):
    """The request as a whole is refused; what came before it stays stored."""

    def __init__(self, status: HTTPStatus, reason: Refusal) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Taken:
    """What became of the parts of one request."""

    stored: list[File] = field(default_factory=list)
    refused: list[tuple[File | None, Refusal]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many parts there were."""
        return len(self.stored) + len(self.refused)

    @property
    def status(self) -> HTTPStatus:
        """What the answer is: all, some, or nothing stored."""
        if not self.refused:
            return HTTPStatus.OK
        if self.stored:
            return HTTPStatus.ACCEPTED
        full = all(reason is Refusal.OUT_OF_RESOURCES for _, reason in self.refused)
        return HTTPStatus.SERVICE_UNAVAILABLE if full else HTTPStatus.CONFLICT

    def response(self) -> Dataset:
        """Return the Store Instances Response (PS3.18 §10.5.3, Table I.1)."""
        made = Dataset()
        made.RetrieveURL = ""
        if self.stored:
            made.ReferencedSOPSequence = [_reference(file) for file in self.stored]
        named = [(file, reason) for file, reason in self.refused if file is not None]
        if named:
            made.FailedSOPSequence = [_reference(file, reason) for file, reason in named]
        others = [reason for file, reason in self.refused if file is None]
        if others:
            made.OtherFailuresSequence = [_reference(None, reason) for reason in others]
        return made


def _reference(file: File | None, reason: Refusal | None = None) -> Dataset:
    item = Dataset()
    if file is not None:
        item.ReferencedSOPClassUID = file.sop_class_uid
        item.ReferencedSOPInstanceUID = file.sop_instance_uid
    if reason is not None:
        item.FailureReason = FAILURE_REASONS[reason]
    return item


def routes(settings: Settings, intake: Intake) -> list[Route]:
    """Return the routes of the door: `POST /dicom-web/studies[/{study}]`."""
    door = Door(settings, intake)
    return [Route(path, door.store, methods=["POST"]) for path in (_PATH, f"{_PATH}/{{study}}")]


class Door:
    """Takes what is posted.

    Parameters
    ----------
    settings
        Sections `stow` and `dicom`.
    intake
        Makes objects durable.
    """

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._stow = settings.stow
        self._ae_title = settings.dicom.ae_title
        self._largest = settings.dicom.maximum_object
        self._intake = intake
        self._open = 0

    async def store(self, request: Request) -> Response:
        """Return the answer to one request, recorded in the audit trail."""
        caller = Caller(
            calling_ae=CALLING_AE,
            called_ae=self._ae_title,
            address=request.client.host if request.client else "",
        )
        taken = Taken()
        self._open += 1
        try:
            await self._take(request, caller, taken)
        except Refused as refused:
            await run_in_threadpool(self._intake.record, refused.reason, caller)
            return _problem(refused, taken)
        finally:
            self._open -= 1
        await run_in_threadpool(self._record, caller, taken)
        return Response(taken.response().to_json(), taken.status, _headers(taken.status), JSON)

    async def _take(self, request: Request, caller: Caller, taken: Taken) -> None:
        """Make the parts of a request durable, one by one.

        Raises
        ------
        Refused
            If it is not let in, or is no whole request within its bounds.
        """
        if not await run_in_threadpool(_is_known, self._stow, request):
            raise Refused(HTTPStatus.UNAUTHORIZED, Refusal.CREDENTIALS)
        if self._open > self._stow.maximum_requests:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, Refusal.TOO_MANY_REQUESTS)
        splitter = Splitter(_boundary(request, self._stow.maximum_body), self._largest)
        study = request.path_params.get("study")
        try:
            async with asyncio.timeout(self._stow.deadline):
                async for chunk in _bounded(request, self._stow.maximum_body):
                    for part in splitter.feed(chunk):
                        self._expect(part, taken)
                        await run_in_threadpool(self._keep, part.body, study, caller, taken)
        except TooLarge:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Refusal.TOO_LARGE) from None
        except TimeoutError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, Refusal.BROKEN_REQUEST) from None
        except (Malformed, ClientDisconnect):
            raise Refused(HTTPStatus.BAD_REQUEST, Refusal.BROKEN_REQUEST) from None
        if not splitter.ended or not taken.count:
            raise Refused(HTTPStatus.BAD_REQUEST, Refusal.BROKEN_REQUEST)

    def _expect(self, part: Part, taken: Taken) -> None:
        if part.content_type != DICOM:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Refusal.BROKEN_REQUEST)
        if taken.count >= self._stow.maximum_parts:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Refusal.TOO_LARGE)

    def _keep(self, body: bytes, study: str | None, caller: Caller, taken: Taken) -> None:
        try:
            file = opened(body)
        except NoFile:
            taken.refused.append((None, Refusal.NOT_DICOM))
            return
        refusal = _unwanted(file, body, study) or self._stored(file, caller)
        if refusal is None:
            taken.stored.append(file)
        else:
            taken.refused.append((file, refusal))

    def _stored(self, file: File, caller: Caller) -> Refusal | None:
        """Return why an object could not be stored, or None once it is durable."""
        arrival = Arrival(
            sop_class_uid=file.sop_class_uid,
            sop_instance_uid=file.sop_instance_uid,
            transfer_syntax=file.transfer_syntax,
            data_set=file.data_set,
        )
        refusal = self._intake.unwanted(arrival)
        if refusal is None:
            try:
                self._intake.keep(arrival, caller)
            except (OSError, SQLAlchemyError) as error:
                log.error("store_failed", error=type(error).__name__)  # noqa: TRY400 - no trace
                refusal = Refusal.OUT_OF_RESOURCES
        return refusal

    def _record(self, caller: Caller, taken: Taken) -> None:
        """Add the request to the audit trail, and each reason why an object was refused."""
        for reason in sorted({reason for _, reason in taken.refused}):
            self._intake.record(reason, caller)
        self._intake.audit(
            Event(
                event="stow",
                calling_ae=caller.calling_ae,
                called_ae=caller.called_ae,
                address=caller.address,
                detail=f"{len(taken.stored)} stored, {len(taken.refused)} refused",
            )
        )


def _is_known(stow: Stow, request: Request) -> bool:
    """Return whether the request shows the token; in constant time, whatever it shows."""
    try:
        token = stow.token_file.read_text().strip() if stow.token_file else ""
    except OSError:
        log.error("token_unreadable")  # noqa: TRY400 - no trace
        return False
    if not token and stow.token is not None:
        token = stow.token.get_secret_value()
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    same = hmac.compare_digest(_digest(shown), _digest(token))
    return bool(token) and same


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _boundary(request: Request, largest: int) -> str:
    """Return the boundary of a request's body, if its headers are those of one."""
    stated = request.headers.get("Content-Type", "")
    media_type, root = media_types(stated)
    if media_type != "multipart/related" or root not in ("", DICOM):
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Refusal.BROKEN_REQUEST)
    length = request.headers.get("Content-Length", "0")
    if length.isdecimal() and int(length) > largest:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Refusal.TOO_LARGE)
    try:
        return boundary(stated)
    except Malformed:
        raise Refused(HTTPStatus.BAD_REQUEST, Refusal.BROKEN_REQUEST) from None


async def _bounded(request: Request, largest: int) -> AsyncIterator[bytes]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > largest:
            raise TooLarge("the body is larger than any may be")
        yield chunk


def _unwanted(file: File, body: bytes, study: str | None) -> Refusal | None:
    """Return why an object is refused before it is looked at as a C-STORE's would be."""
    if file.sop_class_uid not in WAVEFORMS:
        return Refusal.SOP_CLASS
    if UID(file.transfer_syntax) not in TRANSFER_SYNTAXES:
        return Refusal.TRANSFER_SYNTAX
    if study is None:
        return None
    try:
        stated = dcmread(DicomBytesIO(body), specific_tags=["StudyInstanceUID"])
    except (*UNREADABLE, OSError, NotImplementedError, RecursionError):
        return Refusal.NOT_DICOM
    return None if str(stated.get("StudyInstanceUID", "")) == study else Refusal.OTHER_STUDY


def _problem(refused: Refused, taken: Taken) -> Response:
    """Return the answer to a request that is refused as a whole."""
    text = f"{sentence(refused.reason)} {len(taken.stored)} objects were stored before.\n"
    return Response(text, refused.status, _headers(refused.status), "text/plain")


def _headers(status: HTTPStatus) -> dict[str, str]:
    if status is HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": _RETRY_AFTER}
    return {}
