"""DICOMweb as its user (PS3.18 §10): search, retrieve, store; and delivery by it.

Answers are bounded, and believed only as far as they name objects: an HTTP status alone never
counts as stored. Failures are told apart by the same exceptions as those of an association.
"""

import json
import secrets
import ssl
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final

import httpx
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicom_node import multipart
from dicom_node.deliver import Clock, Courier, End, Failure, ids_of, judge
from dicom_node.failpoints import reach
from dicom_node.ledger import QUERY, RESPONSES, Due, Ledger
from dicom_node.link import Insecure, Rejected, Unanswered, Unreachable
from dicom_node.reasons import Delivery
from dicom_node.report.objects import UNREADABLE
from dicom_node.settings import WebDestination, WebServer
from dicom_node.spool import Spool

DICOM: Final = "application/dicom"
JSON: Final = "application/dicom+json"

STUDY, SERIES, IMAGE = "STUDY", "SERIES", "IMAGE"
"""Query/Retrieve Level (0008,0052)."""

_UNBROKEN: Final = (*UNREADABLE, OSError, NotImplementedError, RecursionError, json.JSONDecodeError)
_PREAMBLE: Final = 132
_META_GROUP: Final = 0x0002
_ANSWER: Final = 32 * 2**20  # bytes
_PAGE: Final = 200
_UNSUPPORTED: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED,
                       HTTPStatus.NOT_IMPLEMENTED)  # fmt: skip
_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_STORED: Final = (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT)
"""What comes with a list of what was stored and what was not (PS3.18 §10.5.3)."""
_FOR_NOW: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class NoFile(ValueError):
    """The bytes are no DICOM file."""


@dataclass(frozen=True, slots=True)
class File:
    """A DICOM file, as far as its file meta information goes (PS3.10 §7.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data_set: bytes


def opened(data: bytes) -> File:
    """Return the parts of a DICOM file; its data set is not decoded.

    Raises
    ------
    NoFile
        If it is none.
    """
    if data[_PREAMBLE - 4 : _PREAMBLE] != b"DICM":
        raise NoFile("there is no DICM prefix")
    stream = BytesIO(data)
    stream.seek(_PREAMBLE)
    try:
        meta = read_dataset(
            stream, is_implicit_VR=False, is_little_endian=True, stop_when=_beyond_meta
        )
        return File(
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
            data[stream.tell() :],
        )
    except _UNBROKEN:
        raise NoFile("the file meta information cannot be read") from None


def _beyond_meta(tag: Any, _vr: str | None, _length: int) -> bool:
    return int(tag) >> 16 != _META_GROUP


class Client:
    """Calls one DICOMweb server; keeps its connection until closed.

    Parameters
    ----------
    server
        Its address and our credentials.
    """

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._http is not None:
            self._http.close()
        self._http = None

    def search(self, level: str, **keys: str) -> Iterator[Dataset]:
        """Yield what matches a QIDO-RS query (PS3.18 §10.6), page by page.

        Parameters
        ----------
        level
            STUDY, SERIES or IMAGE.
        keys
            Attributes by keyword; the empty ones are only to be returned.

        Raises
        ------
        Unreachable
            If it does not answer, or not with DICOM JSON.
        """
        path, parameters = _query(level, keys)
        seen: set[str] = set()
        while True:
            page = {"limit": str(_PAGE), "offset": str(len(seen))}
            found = [_dataset(item) for item in self._listed(path, parameters, page)]
            fresh = {_identity(item) for item in found} - seen
            yield from (item for item in found if _identity(item) in fresh)
            seen |= fresh
            if len(found) < _PAGE or not fresh:
                return

    def _listed(self, path: str, keys: list[tuple[str, str]], page: dict[str, str]) -> list[Any]:
        parameters = [*keys, *page.items()]
        with self._answer("GET", path, params=parameters, headers={"Accept": JSON}) as answer:
            if answer.status_code == HTTPStatus.NO_CONTENT:
                return []
            self._expect(answer)
            listed = _json(body_of(answer, _ANSWER))
        if not isinstance(listed, list):
            raise Unanswered(f"{self._server.name} answers a query with no list")
        return listed

    def retrieve(self, study: str, series: str, instance: str, largest: int) -> bytes:
        """Return an object as a DICOM file (WADO-RS, PS3.18 §10.4).

        Raises
        ------
        Unreachable
            If it does not come, or is larger than `largest` bytes.
        """
        path = f"/studies/{study}/series/{series}/instances/{instance}"
        accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
        with self._answer("GET", path, headers={"Accept": accept}) as answer:
            self._expect(answer)
            stated = answer.headers.get("Content-Type", "")
            body = body_of(answer, largest + _ANSWER)
        try:
            splitter = multipart.Splitter(multipart.boundary(stated), largest)
            (part,) = splitter.feed(body)
        except ValueError:
            raise Unanswered(f"{self._server.name} does not answer with one object") from None
        return part.body

    def store(self, study: str, file: bytes) -> tuple[int, Dataset]:
        """Return HTTP status and response of storing one object (STOW-RS, PS3.18 §10.5).

        Raises
        ------
        Unreachable
            If no whole answer comes.
        """
        mark = secrets.token_hex(16)
        headers = {
            "Accept": JSON,
            "Content-Type": f'multipart/related; type="{DICOM}"; boundary={mark}',
        }
        content = multipart.joined(mark, DICOM, file)
        path = f"/studies/{study}"
        with self._answer("POST", path, content=content, headers=headers) as answer:
            if answer.status_code not in _STORED:
                return answer.status_code, Dataset()
            return answer.status_code, _dataset(_json(body_of(answer, _ANSWER)))

    def _expect(self, answer: httpx.Response) -> None:
        if answer.status_code in _REFUSED:
            raise Rejected(
                f"{self._server.name} refuses our credentials (HTTP {answer.status_code})",
                permanent=True,
            )
        if answer.status_code != HTTPStatus.OK:
            raise Unanswered(
                f"{self._server.name} answers HTTP {answer.status_code}", answer.status_code
            )

    @contextmanager
    def _answer(self, method: str, path: str, **how: Any) -> Iterator[httpx.Response]:
        """Yield the answer to a request, and tell apart why there is none."""
        name = self._server.name
        try:
            with self._connected().stream(method, self._server.url.rstrip("/") + path, **how) as it:
                yield it
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if _is_tls(error):
                raise Insecure(f"{name} and this node do not agree on TLS") from None
            raise Unreachable(f"{name} does not answer at {self._server.url}") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            self.close()
            raise Unanswered(f"{name} stopped answering") from None

    def _connected(self) -> httpx.Client:
        if self._http is None:
            try:
                self._http = httpx.Client(
                    auth=_Credentials(self._server),
                    verify=_context(self._server),
                    timeout=self._server.timeout,
                    trust_env=False,  # nothing of the environment sends results elsewhere
                )
            except OSError as error:
                what = error.strerror or "unreadable"
                raise Insecure(f"the TLS files of {self._server.name} fail ({what})") from None
        return self._http


class _Credentials(httpx.Auth):
    """What proves to a server who we are, read anew for each request."""

    def __init__(self, server: WebServer) -> None:
        self._server = server

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        server = self._server
        try:
            if server.token_file is not None:
                request.headers["Authorization"] = f"Bearer {server.token_file.read_text().strip()}"
            elif server.username is not None and server.password_file is not None:
                password = server.password_file.read_text().rstrip("\r\n")
                basic = httpx.BasicAuth(server.username, password)
                request = next(basic.auth_flow(request))
        except OSError:
            raise Rejected(
                f"the secret of {server.name} cannot be read: see its files", permanent=True
            ) from None
        yield request


def _context(server: WebServer) -> ssl.SSLContext:
    """Return the TLS context for a server. Raises OSError where a file cannot be used."""
    context = ssl.create_default_context(cafile=server.trusted_certificates)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.certificate is not None:
        context.load_cert_chain(server.certificate, server.private_key)
    return context


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _query(level: str, keys: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """Return path and parameters of a query (PS3.18 §10.6.1)."""
    path, rest = "/studies", dict(keys)
    if level != STUDY:
        path += f"/{rest.pop('StudyInstanceUID')}/series"
    if level == IMAGE:
        path += f"/{rest.pop('SeriesInstanceUID')}/instances"
    matched = [(key, value) for key, value in rest.items() if value]
    return path, [*matched, *(("includefield", key) for key in rest)]


def body_of(answer: httpx.Response, largest: int) -> bytes:
    """Return the body of an answer; Unanswered where it is larger than that."""
    body = bytearray()
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > largest:
            raise Unanswered("the answer is larger than an answer can be")
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise Unanswered("the answer is no JSON") from None


def _dataset(item: Any) -> Dataset:
    try:
        return Dataset.from_json(item)
    except _UNBROKEN:
        raise Unanswered("the answer is no DICOM JSON") from None


def _identity(item: Dataset) -> str:
    keywords = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return next((str(item[word].value) for word in keywords if word in item), "")


# Delivery


class WebSender(Courier):
    """Delivers by STOW-RS.

    Parameters
    ----------
    destination
        Where to.
    ledger, spool, clock
        As for every courier.
    """

    def __init__(
        self, destination: WebDestination, *, ledger: Ledger, spool: Spool, clock: Clock
    ) -> None:
        super().__init__(destination, ledger=ledger, spool=spool, clock=clock)
        self._client = Client(destination)
        self._down = False

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _hear(self) -> None:
        """Hear nothing: a web server never speaks unasked."""

    def _is_down(self) -> bool:
        return self._down

    def _send(self, item: Due) -> End:
        self._down = False
        try:
            file = self._spool.read(item.blob)
        except OSError:
            return Failure(Delivery.BYTES_LOST, permanent=True)
        try:
            status, response = self._client.store(_places(file)[0], file)
        except Unreachable as error:
            self._down = True
            return unreachable(error)
        self._used_at = self._clock()
        reach("mid_delivery")
        end = listed(item, response) if status in _STORED else of_http(status)
        self._down = isinstance(end, Failure) and status not in _STORED and not end.permanent
        if not self._down:
            self._failures = 0
        return end

    def _confirm(self, items: Sequence[Due]) -> None:
        """Look for what was taken by QIDO-RS; what is not there twice is sent again."""
        now = self._clock()
        try:
            missing = [item for item in items if not self._holds(item)]
        except Unanswered as error:
            if error.status in _UNSUPPORTED:
                self._ledger.confirmed(ids_of(items), RESPONSES, now)
            else:
                self._ledger.asked(ids_of(items), "", now)
            return
        except OSError:
            self._ledger.asked(ids_of(items), "", now)
            self._back_off()
            return
        held = [item for item in items if item not in missing]
        self._ledger.confirmed(ids_of(held), QUERY, now)
        self._ledger.asked(ids_of([item for item in missing if not item.asked]), "", now)
        self._ledger.resend(ids_of([item for item in missing if item.asked]), now)

    def _holds(self, item: Due) -> bool:
        study, series = _places(self._spool.read(item.blob))
        found = self._client.search(
            IMAGE,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=item.sop_instance_uid,
        )
        return any(_identity(match) == item.sop_instance_uid for match in found)


def listed(item: Due, response: Dataset) -> End:
    """Return how a delivery ended, by the response's lists alone (PS3.18 §10.5.3)."""
    for failed in response.get("FailedSOPSequence") or ():
        if _references(failed, item):
            reason = int(failed.get("FailureReason") or 0x0110)
            return judge(reason) or reason
    for stored in response.get("ReferencedSOPSequence") or ():
        if _references(stored, item):
            return int(stored.get("WarningReason") or 0)
    return Failure(Delivery.NOT_LISTED, permanent=False)


def _references(entry: Dataset, item: Due) -> bool:
    return str(entry.get("ReferencedSOPInstanceUID", "")) == item.sop_instance_uid


def of_http(status: int) -> Failure:
    """Return what an HTTP status without a list means for delivery."""
    if status in _REFUSED:
        return Failure(Delivery.CREDENTIALS, permanent=True, status=status)
    if status in _FOR_NOW or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Failure(Delivery.OUT_OF_RESOURCES, permanent=False, status=status)
    return Failure(Delivery.REFUSED, permanent=True, status=status)


def unreachable(error: Unreachable) -> Failure:
    """Return what it means for delivery that a server did not answer."""
    if isinstance(error, Rejected):
        return Failure(Delivery.CREDENTIALS, permanent=True)
    if isinstance(error, Insecure):
        return Failure(Delivery.INSECURE, permanent=False)
    if isinstance(error, Unanswered):
        return Failure(Delivery.NO_ANSWER, permanent=False)
    return Failure(Delivery.UNREACHABLE, permanent=False)


def _places(file: bytes) -> tuple[str, str]:
    """Return Study and Series Instance UID of one of our files."""
    ours = dcmread(BytesIO(file), specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
    return str(ours.StudyInstanceUID), str(ours.SeriesInstanceUID)
