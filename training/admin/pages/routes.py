"""The pages, by address; what they show is read here, what they change goes through the API."""

import re
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

import plotly  # type: ignore[import-untyped]
from fastapi import Query, Request, Response
from starlette.responses import FileResponse, JSONResponse

from analysis.codes import VOCABULARY
from dicom_node.ledger import State
from dicom_node.settings import Role
from training.admin.access import TheOffice, ThePrincipal
from training.admin.api import runs as api_runs
from training.admin.api.common import Before, Digest, Number
from training.admin.api.corpus import RecordId, UploadId, corpus_of, uploads_of
from training.admin.pages import datasets, learning, reading
from training.admin.pages.assets import KEPT
from training.admin.pages.holdings import holdings_of
from training.admin.pages.live import Wanted, live
from training.admin.pages.rendering import page_router, render
from training.admin.pages.system import system
from training.admin.problems import missing

router = page_router()

_PLOTLY: Final = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
_SHOWN: Final = 50
Model = Annotated[str, Query(pattern="^[0-9a-f]{64}$")]
Site = Annotated[str, Query(max_length=128)]
Event = Annotated[str, Query(max_length=32, pattern="^[a-z_-]*$")]
_PSEUDONYM: Final = re.compile("[0-9a-f]{32}")


@router.get("/plotly.js")
def plotly_script() -> Response:
    """Return Plotly's script from its installed package; pages name its version in the address."""
    return FileResponse(_PLOTLY, media_type="text/javascript", headers={"Cache-Control": KEPT})


@router.get("/signin")
def sign_in(request: Request, office: TheOffice, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """Show the form that begins a session."""
    oidc = bool(office.settings.oidc.issuer)
    return render(request, "signin.html", next=next, oidc=oidc)


# What came last


@router.get("/")
def first_page(  # noqa: PLR0917 - the filters of the address
    request: Request,
    office: TheOffice,
    principal: ThePrincipal,
    state: str = "",
    statement: str = "",
    device: str = "",
    patient: str = "",
    first: str = "",
    last: str = "",
    before: Before = None,
    part: bool = False,  # noqa: FBT001, FBT002 - a word of the address
) -> Response:
    """Show the last ECGs, filtered; `part` returns the list alone."""
    by_day = Role.OPERATOR in principal.roles
    by_patient = by_day or not principal.roles.isdisjoint({Role.REVIEWER, Role.TRAINER})
    wanted = Wanted(
        state=State(state) if state in set(State) else None,
        statement=statement if statement in VOCABULARY else None,
        device=device[:64].replace("\0", "") or None,
        patient=patient if by_patient and _PSEUDONYM.fullmatch(patient) else None,
        first=_day(first) if by_day else None,
        last=_day(last) if by_day else None,
        before=before,
    )
    shown = live(office, principal, wanted)
    return render(request, "live_list.html" if part else "live.html", **shown)


def _day(text: str) -> date | None:
    """Return a day of the address; what is none filters nothing."""
    with suppress(ValueError):
        return date.fromisoformat(text)
    return None


# One ECG


@router.get("/ecg/{instance}")
def ecg(
    request: Request,
    office: TheOffice,
    principal: ThePrincipal,
    instance: Number,
    blind: bool = False,  # noqa: FBT001, FBT002 - a word of the address
) -> Response:
    """Show an ECG that the node received; `blind` hides what the program found."""
    page = reading.received(office, principal, instance, blind=blind)
    return render(request, "ecg.html", ecg=page, vocabulary=VOCABULARY.values())


@router.get("/ecg/{instance}/tracing")
def ecg_tracing(
    office: TheOffice,
    instance: Number,
    blind: bool = False,  # noqa: FBT001, FBT002 - same
) -> Response:
    """Return the samples of an ECG that the node received."""
    return _tracing(reading.received_tracing(office, instance, blind=blind))


@router.get("/recordings/{record}")
def recording(
    request: Request,
    office: TheOffice,
    principal: ThePrincipal,
    record: RecordId,
    blind: bool = False,  # noqa: FBT001, FBT002 - same
) -> Response:
    """Show a recording of the corpus; `blind` hides what the program found."""
    page = reading.recorded(office, principal, record, blind=blind)
    return render(request, "ecg.html", ecg=page, vocabulary=VOCABULARY.values())


@router.get("/recordings/{record}/tracing")
def recording_tracing(
    office: TheOffice,
    record: RecordId,
    blind: bool = False,  # noqa: FBT001, FBT002 - same
) -> Response:
    """Return the samples of a recording of the corpus."""
    return _tracing(reading.recorded_tracing(office, record, blind=blind))


def _tracing(document: dict[str, Any]) -> Response:
    return JSONResponse(document, headers={"Cache-Control": "private, no-store"})


# The corpus


@router.get("/recordings")
def recordings(
    request: Request,
    office: TheOffice,
    label: str = "",
    after: str = "",
) -> Response:
    """List the recordings of the corpus; `label` is a finding, or `none` for those without any."""
    found = holdings_of(corpus_of(office))
    page, following = found.page(label, after, _SHOWN)
    return render(
        request, "recordings.html",
        total=len(found.records), lines=[found.line(item) for item in page],
        label=label, keys=found.labels.keys, after=following, names=VOCABULARY,
    )  # fmt: skip


# Uploads


@router.get("/upload")
def upload(request: Request, office: TheOffice, principal: ThePrincipal) -> Response:
    """Show where files are dropped, and one's own earlier uploads."""
    mine = [item for item in uploads_of(office).list() if item.by == principal.name]
    return render(request, "upload.html", uploads=mine[:_SHOWN])


@router.get("/upload/{upload}")
def uploaded(
    request: Request, office: TheOffice, principal: ThePrincipal, upload: UploadId
) -> Response:
    """Show what became of the files of one's own upload."""
    try:
        found = uploads_of(office).get(upload)
    except (KeyError, FileNotFoundError):
        raise missing("upload of this id") from None
    if found.by != principal.name:
        raise missing("upload of this id")
    template = "outcomes.html" if "part" in request.query_params else "uploaded.html"
    return render(request, template, upload=found)


# Learning


@router.get("/training")
def runs(request: Request, office: TheOffice) -> Response:
    """List the runs, and show the form that starts one."""
    found = api_runs.runs(office)
    return render(request, "training.html", runs=found, form=learning.form(office))


@router.get("/training/{run}")
def run(request: Request, office: TheOffice, run: Number) -> Response:
    """Show one run; `part` returns what changes while it goes."""
    shown = learning.run(office, run)
    part = "part" in request.query_params
    return render(request, "run_part.html" if part else "run.html", **shown)


@router.get("/models")
def models(request: Request, office: TheOffice, principal: ThePrincipal) -> Response:
    """Show the registry and the exchanges."""
    return render(request, "models.html", **learning.model_list(office, principal))


@router.get("/models/{digest}")
def model(request: Request, office: TheOffice, principal: ThePrincipal, digest: Digest) -> Response:
    """Show one model: card, verdict, shadow, and what may be decided."""
    return render(request, "model.html", **learning.model(office, principal, digest))


@router.get("/datasets")
def data_sets(request: Request, office: TheOffice) -> Response:
    """Show what the data sets hold."""
    return render(request, "datasets.html", most=datasets.MOST, **datasets.summary(office))


@router.get("/datasets/quality")
def quality(office: TheOffice) -> Response:
    """Return how well the recordings can be read, and how many are left to look at."""
    return JSONResponse(datasets.quality(office))


@router.get("/datasets/evaluation")
def evaluation(office: TheOffice, model: Model, site: Site = "") -> Response:
    """Return how a model does on the labelled recordings, of every site or of one."""
    return JSONResponse(datasets.evaluation(office, model, site))


@router.get("/schedule")
def schedule(request: Request, office: TheOffice) -> Response:
    """Show when which plan is run by itself."""
    return render(request, "schedule.html", **learning.schedule_list(office))


@router.get("/system")
def installation(
    request: Request,
    office: TheOffice,
    principal: ThePrincipal,
    event: Event = "",
    before: Before = None,
) -> Response:
    """Show senders, destinations, disk, people, keys and the audit trail."""
    return render(request, "system.html", **system(request, office, principal, event, before))
