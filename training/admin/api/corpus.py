"""The corpus: files into it, what it holds, and the labels that people give."""

import csv
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import structlog
from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import StreamingResponse

import analysis
from analysis.codes import VOCABULARY
from analysis.formats.common import MILLIVOLTS
from analysis.formats.content import Stated
from analysis.model import Model
from analysis.result import Result
from dicom_node import archive
from dicom_node.models import ModelStore
from dicom_node.settings import Role
from dicom_node.work import without_data
from training.admin import views
from training.admin.access import Office, TheOffice, ThePrincipal, note, router
from training.admin.accounts import Principal
from training.admin.api.common import Body, Key, Limit, Number
from training.admin.events import follow
from training.admin.problems import Problem, missing
from training.admin.sources import decoded, row_of
from training.admin.staging import need_room, staged
from training.admin.uploads import MOST_FILES, Refused, Upload, Uploads, UploadState, recording_of
from training.corpus import Corpus, Record
from training.corpus_report import report
from training.importing import counts, import_archive
from training.label_maps import standard_map
from training.labels import Label, Origin, Reading, Rows, Value, read_csv, write_csv

log = structlog.get_logger()

routes = router("", "corpus")

RECORD: Final = 32
"""Digits of a recording's id: the beginning of the digest of its content."""
_SHOWN: Final = 100
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "sampling_frequency": {"type": "string"},
                        "unit": {"type": "string"},
                        "leads": {"type": "string"},
                    },
                }
            }
        },
    }
}

RecordId = Annotated[str, Path(pattern=f"^[0-9a-f]{{{RECORD}}}$")]
UploadId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]


class Given(Body):
    """What a reader says of one finding."""

    key: Key
    value: Value


class Review(Body):
    """What a reader says of one recording."""

    labels: Annotated[list[Given], Field(min_length=1, max_length=100)]
    ai_visible: bool = True
    """Whether the reader could see what the models had found."""


class LabelView(BaseModel):
    """One statement about one recording."""

    key: str
    value: Value
    origin: Origin
    author: str
    time: str
    ai_visible: bool


class Reviewed(BaseModel):
    """What became of a review."""

    record: str
    new: int
    """Labels that were not there before."""
    in_corpus: bool
    """Whether the recording is in the corpus; if not, the labels wait for it."""


class RecordView(BaseModel):
    """One recording of the corpus."""

    id: str
    patient: str
    age: int | None
    sex: str | None
    site: str
    device: str
    quarter: str | None
    sampling_frequency: float
    leads: list[str]
    seconds: float


class Records(BaseModel):
    """One page of the corpus."""

    items: list[RecordView]
    next: str | None
    """What to ask for as `after`; None at the end."""


class Taken(BaseModel):
    """What a table of labels held."""

    rows: int
    labels: int
    new: int
    problems: dict[str, int]
    sentences: list[str]


class UploadView(BaseModel):
    """One upload, and how far it is."""

    id: str
    at: float
    state: UploadState
    message: str
    total: int
    counts: dict[str, int]
    outcomes: list[dict[str, Any]]


def corpus_folder(office: Office) -> FilePath:
    """Return the folder of the corpus."""
    return office.corpus


def corpus_of(office: Office) -> Corpus:
    """Return the corpus, made where it is absent."""
    return Corpus.create(corpus_folder(office))


# Uploads


def uploads_of(office: Office) -> Uploads:
    """Return the uploads of an installation."""
    return Uploads(folder=office.settings.storage.folder / "uploads", corpus=corpus_folder(office))


@routes.post("/uploads", status_code=HTTPStatus.ACCEPTED, openapi_extra=_FORM)
async def upload(request: Request, office: TheOffice, principal: ThePrincipal) -> UploadView:
    """Take ECG files of any encoding, archives of them and tables of labels; they are read next."""
    need_room(office.settings.storage)
    async with request.form(max_files=MOST_FILES, max_fields=10) as form:
        stated = _stated(form)
        made = await run_in_threadpool(_take, request, office, principal, form)
    reader = threading.Thread(
        target=_read, args=(office, principal, made, stated), name="upload", daemon=True
    )
    reader.start()
    return _view(uploads_of(office).get(made))


def _take(request: Request, office: Office, principal: Principal, form: FormData) -> str:
    files = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
    if not files:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "There is no file in the field `files`.")
    uploads = uploads_of(office)
    made = uploads.begin(principal.name, office.clock())
    note(request, upload=made, files=len(files))
    try:
        for item in files:
            uploads.add(made, item.filename or "", item.file)
    except (Refused, *_NO_PLACE) as error:
        shutil.rmtree(uploads.folder / made, ignore_errors=True)
        sentence = str(error) if isinstance(error, Refused) else "Two files have the same place."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, sentence, reason="refused") from None
    return made


_NO_PLACE: Final = (IsADirectoryError, NotADirectoryError, FileExistsError)
"""A file is called as another one's folder is."""


def _stated(form: FormData) -> Stated:
    """Return rate, unit and leads that somebody states of bare tables."""
    rate, unit, leads = (str(form.get(name) or "").strip() for name in _TABLE)
    try:
        frequency = float(rate) if rate else None
    except ValueError:
        frequency = -1.0
    if frequency is not None and not 0 < frequency <= 1e5:  # noqa: PLR2004 - Hz, as readers take
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The sampling frequency is no number of Hz.")
    if unit and unit not in MILLIVOLTS:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The unit is one of nV, uV, mV and V.")
    names = tuple(leads.replace(",", " ").split())
    return Stated(sampling_frequency=frequency, unit=unit or None, leads=names or None)


_TABLE: Final = ("sampling_frequency", "unit", "leads")


def _read(office: Office, principal: Principal, made: str, stated: Stated) -> None:
    """Read the files of an upload; what becomes of each is noted as it is known."""
    steps = uploads_of(office).read(
        made,
        analyse=analyser(office),
        reviewer=Role.REVIEWER in principal.roles,
        stated=stated,
    )
    try:
        for _ in steps:
            pass
    except Exception as error:  # noqa: BLE001 - noted in the upload; this thread has no caller
        log.error("upload_failed", error=without_data(error))  # noqa: TRY400 - no patient data


def analyser(office: Office) -> "_Analyser":
    """Return what analyses a recording as the node would now."""
    store = ModelStore(office.settings.storage.folder / "models", office.ledger)
    return _Analyser(store.speaking(), store.folder)


class _Analyser:
    """Analyses with the models of these digests."""

    def __init__(self, digests: Sequence[str], folder: FilePath) -> None:
        self._models = [_loaded(str(folder / f"{digest}.onnx")) for digest in digests]

    def __call__(self, recording: analysis.Recording) -> Result:
        return analysis.analyse(recording, self._models or None)


@lru_cache(maxsize=4)
def _loaded(path: str) -> Model:
    return analysis.load_model(path)


@routes.get("/uploads")
def uploads(office: TheOffice, principal: ThePrincipal) -> list[UploadView]:
    """List one's own uploads, the newest first; file names are for nobody else."""
    mine = [item for item in uploads_of(office).list() if item.by == principal.name]
    return [_view(item) for item in mine[:_SHOWN]]


@routes.get("/uploads/{upload}")
def one_upload(office: TheOffice, principal: ThePrincipal, upload: UploadId) -> UploadView:
    """Return what became of the files of an upload."""
    return _view(_mine(office, principal, upload))


@routes.get(
    "/uploads/{upload}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def upload_events(office: TheOffice, principal: ThePrincipal, upload: UploadId) -> Response:
    """Follow an upload until it is read: server-sent events, each the upload as it stands."""
    _mine(office, principal, upload)

    def read() -> tuple[str, bool]:
        found = uploads_of(office).get(upload)
        ended = found.state in (UploadState.DONE, UploadState.FAILED)
        return _view(found).model_dump_json(), ended

    return follow(read)


def _mine(office: Office, principal: Principal, upload: str) -> Upload:
    try:
        found = uploads_of(office).get(upload)
    except (KeyError, FileNotFoundError):
        raise missing("upload of this id") from None
    if found.by != principal.name:
        raise missing("upload of this id")
    return found


def _view(item: Upload) -> UploadView:
    return UploadView(
        id=item.id,
        at=item.at,
        state=item.state,
        message=item.message,
        total=item.total,
        counts=item.counts,
        outcomes=[asdict(outcome) for outcome in item.outcomes],
    )


# The corpus


@routes.get("/corpus")
def summary(
    office: TheOffice, origin: Annotated[list[Origin] | None, Query()] = None
) -> dict[str, Any]:
    """Say what the corpus holds, and what a model could learn from it by mistake."""
    corpus = corpus_of(office)
    table = corpus.labels.select(origins=origin) if origin else None
    return report(corpus, table).to_mapping()


@routes.get("/corpus/recordings")
def records(
    office: TheOffice,
    label: Annotated[Key | None, Query(description="Only where it is present.")] = None,
    after: Annotated[str | None, Query(pattern=f"^[0-9a-f]{{{RECORD}}}$")] = None,
    limit: Limit = 50,
) -> Records:
    """List the recordings of the corpus, by their ids."""
    corpus = corpus_of(office)
    found: Sequence[Record] = [item for item in corpus.records if item.id > (after or "")]
    if label is not None:
        table = corpus.labels
        found = [item for item in found if table.value(item.id, label) is Value.PRESENT]
    kept = found[:limit]
    return Records(
        items=[_record(item) for item in kept],
        next=kept[-1].id if len(found) > limit else None,
    )


def _record(item: Record) -> RecordView:
    values = {name: getattr(item, name) for name in RecordView.model_fields if hasattr(item, name)}
    return RecordView(**values | {"leads": list(item.leads), "seconds": item.duration})


@routes.post("/corpus/archive")
def take_archive(request: Request, office: TheOffice) -> dict[str, Any]:
    """Take what the node's archive kept into the corpus."""
    folder = office.settings.storage.folder / archive.FOLDER
    if not folder.is_dir():
        raise Problem(
            HTTPStatus.CONFLICT,
            "The node keeps no archive; see `archive.keep` in the settings.",
            reason="no-archive",
        )
    found = counts(list(import_archive(corpus_of(office), folder, processes=1)))
    note(request, stored=found["stored"])
    return found


@routes.get("/corpus/recordings/{record}/waveform")
def waveform(office: TheOffice, record: RecordId) -> dict[str, Any]:
    """Return the samples of a recording with beats and fiducial points."""
    try:
        recording = recording_of(corpus_of(office), record)
    except KeyError:
        raise missing("recording of this id") from None
    return views.tracing(analyser(office)(recording))


# Labels


@routes.get("/corpus/recordings/{record}/labels")
def labels_of(office: TheOffice, record: RecordId) -> list[LabelView]:
    """Return what is said of one recording."""
    return _labels(office, record)


@routes.post("/corpus/recordings/{record}/labels", status_code=HTTPStatus.CREATED)
def review(office: TheOffice, principal: ThePrincipal, record: RecordId, body: Review) -> Reviewed:
    """Say what a recording of the corpus shows."""
    if not corpus_of(office).path(record).is_file():
        raise missing("recording of this id")
    return _reviewed(office, principal, record, body)


@routes.get("/recordings/{instance}/labels")
def labels_of_received(office: TheOffice, instance: Number) -> list[LabelView]:
    """Return what is said of a recording that the node received."""
    return _labels(office, record_of(office, instance))


@routes.post("/recordings/{instance}/labels", status_code=HTTPStatus.CREATED)
def review_received(
    office: TheOffice, principal: ThePrincipal, instance: Number, body: Review
) -> Reviewed:
    """Say what a recording that the node received shows; agree, disagree or correct."""
    return _reviewed(office, principal, record_of(office, instance), body)


def record_of(office: Office, instance: int) -> str:
    """Return the id that a received recording has, or will have, in the corpus."""
    _, recording = decoded(office, row_of(office, instance))
    return archive.digest(recording.ecg)[:RECORD]


def _labels(office: Office, record: str) -> list[LabelView]:
    found = corpus_of(office).labels_of(record)
    return [
        LabelView(**{name: getattr(item, name) for name in LabelView.model_fields})
        for item in found
    ]


def _reviewed(office: Office, principal: Principal, record: str, body: Review) -> Reviewed:
    time = datetime.fromtimestamp(office.clock(), UTC).isoformat(timespec="milliseconds")
    corpus = corpus_of(office)
    new = corpus.add_labels(
        Label(
            record=record,
            key=item.key,
            value=item.value,
            origin=Origin.REVIEWER,
            author=principal.name,
            time=time,
            ai_visible=body.ai_visible,
        )
        for item in body.labels
    )
    return Reviewed(record=record, new=new, in_corpus=corpus.path(record).is_file())


@routes.get("/labels")
def label_counts(
    office: TheOffice, origin: Annotated[list[Origin] | None, Query()] = None
) -> list[dict[str, Any]]:
    """Count each label: present, absent, unknown, contradictory, and who says so."""
    return list(summary(office, origin)["labels"])


@routes.post(
    "/labels",
    openapi_extra={"requestBody": {"required": True, "content": {"text/csv": {}}}},
)
async def import_labels(
    request: Request,
    office: TheOffice,
    principal: ThePrincipal,
    site: Annotated[str | None, Query(max_length=16)] = None,
    ai_visible: bool = False,  # noqa: FBT001, FBT002 - a parameter of the address
) -> Taken:
    """Import a table of labels: `file_name,label,ICD-10`, or the richer form."""

    def entered(path: FilePath) -> Taken:
        resolve = corpus_of(office).resolver(site)
        reading = Reading(resolve=resolve, author=principal.name, ai_visible=ai_visible)
        return _enter(office, _rows(path, reading))

    settings = office.settings
    async with staged(request, settings.storage, settings.admin.maximum_upload, "table") as path:
        taken = await run_in_threadpool(entered, path)
    note(request, labels=taken.labels, new=taken.new)
    return taken


def _rows(path: FilePath, reading: Reading) -> Rows:
    try:
        return read_csv(path, reading)
    except (ValueError, csv.Error) as error:
        sentence = str(error).replace(str(path), "the table").replace(path.name, "the table")
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"It cannot be read: {sentence}.", reason="table"
        ) from None


def _enter(office: Office, rows: Rows) -> Taken:
    corpus = corpus_of(office)
    new = corpus.add_labels(rows.labels)
    corpus.regroup(rows.patients)
    return Taken(
        rows=rows.rows,
        labels=len(rows.labels),
        new=new,
        problems={str(fault): count for fault, count in rows.counts.items()},
        sentences=[problem.sentence for problem in rows.problems[:_SHOWN]],
    )


@routes.get("/labels/map")
def label_map(word: Annotated[str, Query(min_length=1, max_length=64)]) -> dict[str, Any]:
    """Say what a word or code of other lists means here."""
    keys = standard_map().keys_of_word(word)
    return {"word": word, "keys": {key: VOCABULARY[key].name for key in keys if key in VOCABULARY}}


@routes.get(
    "/labels/export",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}}},
)
def export_labels(
    office: TheOffice, origin: Annotated[list[Origin] | None, Query()] = None
) -> Response:
    """Return the labels as a table, with record ids and pseudonyms alone."""
    corpus = corpus_of(office)
    table = corpus.labels.select(origins=origin) if origin else corpus.labels
    patients = {record.id: record.patient for record in corpus.records}
    with TemporaryDirectory() as folder:
        path = FilePath(folder) / "labels.csv"
        write_csv(path, table.labels, patients)
        data = path.read_bytes()
    headers = {"Content-Disposition": 'attachment; filename="labels.csv"'}
    return Response(data, headers=headers, media_type="text/csv")
