"""Training runs: started, followed while they go, stopped, gone on with, compared."""

import json
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, StreamingResponse

from training.admin.access import Office, TheOffice, ThePrincipal, note, router
from training.admin.api.common import LARGEST_NUMBER, Body, Number
from training.admin.events import follow
from training.admin.plans import plan_of
from training.admin.problems import Problem, missing
from training.runs import Run, RunState

routes = router("/runs", "runs")

EPOCHS, EVALUATION, VERDICT, REPORT = (
    "epochs.jsonl", "evaluation.json", "verdict.json", "report.html",
)  # fmt: skip
"""Files of a run's folder."""

_LARGEST: Final = 32 * 2**20  # bytes
_REPORT_SECURITY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "frame-ancestors 'self'; sandbox"
)
"""A report is one file with its own styles and figures, and runs nothing."""


class NewRun(Body):
    """What to learn."""

    plan: dict[str, Any]
    """Fields of a plan; its corpus is the installation's."""


class RunView(BaseModel):
    """One run as it stands."""

    id: int
    name: str
    by: str
    state: RunState
    message: str
    queued_at: float
    started_at: float | None
    ended_at: float | None
    stopping: bool
    model: str | None
    """Digest of the candidate that came of it."""
    plan: dict[str, Any]
    plan_digest: str


class Progress(RunView):
    """One run with every epoch so far."""

    epochs: list[dict[str, Any]]


class Comparison(BaseModel):
    """Two runs beside each other."""

    runs: Annotated[list[RunView], Field(min_length=2, max_length=2)]
    differing: dict[str, list[Any]]
    """Fields in which the plans differ, with the value of each."""
    metrics: dict[str, list[float | None]]
    """Figures of the evaluations, where a run has one."""


@routes.get("")
def runs(
    office: TheOffice,
    state: RunState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[RunView]:
    """List the runs, the newest first."""
    found = office.runs.list((state,) if state else (), limit)
    return [_view(run) for run in found]


@routes.post("", status_code=HTTPStatus.CREATED)
def start(request: Request, office: TheOffice, principal: ThePrincipal, body: NewRun) -> RunView:
    """Ask for a run; the train worker takes it in its turn."""
    plan = plan_of(office, body.plan)
    number = office.runs.enqueue(plan, principal.name[:64], office.clock())
    note(request, run=number, plan=plan.digest)
    return _view(_run(office, number))


@routes.get("/comparison")
def compare(
    office: TheOffice,
    a: Annotated[int, Query(ge=1, lt=LARGEST_NUMBER)],
    b: Annotated[int, Query(ge=1, lt=LARGEST_NUMBER)],
) -> Comparison:
    """Put two runs beside each other: their plans and their figures."""
    views = [_view(_run(office, number)) for number in (a, b)]
    plans = [view.plan for view in views]
    names = sorted({name for plan in plans for name in plan})
    differing = {
        name: [plan.get(name) for plan in plans]
        for name in names
        if plans[0].get(name) != plans[1].get(name)
    }
    figures = [dict(_figures(_document(office, n, EVALUATION, {}))) for n in (a, b)]
    shared = sorted({name for figure in figures for name in figure})
    metrics = {name: [figure.get(name) for figure in figures] for name in shared}
    return Comparison(runs=views, differing=differing, metrics=metrics)


def _figures(document: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    """Yield the numbers of an evaluation by their path; an interval counts by its value."""
    if isinstance(document, dict):
        if "value" in document:
            yield from _figures(document["value"], name)
            return
        for key, value in document.items():
            yield from _figures(value, f"{name}.{key}".strip("."))
    elif isinstance(document, (int, float)) and not isinstance(document, bool):
        yield name, float(document)


@routes.get("/{run}")
def one(office: TheOffice, run: Number) -> Progress:
    """Return one run with its epochs."""
    return _progress(office, run)


@routes.get(
    "/{run}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def events(office: TheOffice, run: Number) -> Response:
    """Follow a run to its end: server-sent events, each the run with every epoch so far."""
    _run(office, run)
    return follow(partial(_step, office, run))


def _step(office: Office, run: int) -> tuple[str, bool]:
    found = _progress(office, run)
    ended = found.state not in (RunState.QUEUED, RunState.RUNNING)
    return found.model_dump_json(), ended


@routes.get(
    "/{run}/report", response_class=Response, responses={200: {"content": {"text/html": {}}}}
)
def report(office: TheOffice, run: Number) -> Response:
    """Return the report of a run, one self-contained page."""
    path = folder_of(office, run) / REPORT
    _run(office, run)
    if not path.is_file():
        raise missing(f"report of run {run} yet")
    headers = {"Content-Security-Policy": _REPORT_SECURITY, "X-Frame-Options": "SAMEORIGIN"}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


@routes.get("/{run}/evaluation")
def evaluation(office: TheOffice, run: Number) -> dict[str, Any]:
    """Return how well the model of a run does on the test part, with intervals."""
    _run(office, run)
    return dict(_document(office, run, EVALUATION))


@routes.get("/{run}/verdict")
def verdict(office: TheOffice, run: Number) -> dict[str, Any]:
    """Return what the promotion gate says of the model of a run."""
    _run(office, run)
    return dict(_document(office, run, VERDICT))


@routes.post("/{run}/stop")
def stop(office: TheOffice, principal: ThePrincipal, run: Number) -> RunView:
    """Ask a run to stop; what it has learned is kept, and it may be gone on with."""
    _run(office, run)
    try:
        return _view(office.runs.stop(run, principal.name[:64], office.clock()))
    except ValueError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), reason="run-state") from None


@routes.post("/{run}/resume")
def resume(office: TheOffice, principal: ThePrincipal, run: Number) -> RunView:
    """Go on with a run that failed or was stopped."""
    _run(office, run)
    try:
        return _view(office.runs.resume(run, principal.name[:64], office.clock()))
    except ValueError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), reason="run-state") from None


# What is read


def folder_of(office: Office, run: int) -> Path:
    """Return the folder of a run."""
    return office.settings.runs_folder / str(run)


def _run(office: Office, number: int) -> Run:
    try:
        return office.runs.get(number)
    except LookupError:
        raise missing(f"run {number}") from None


def _view(run: Run) -> RunView:
    names = RunView.model_fields.keys() - {"plan"}
    values = {name: getattr(run, name) for name in names}
    plan = json.loads(run.plan)
    plan.pop("corpus", None)
    return RunView(**values, plan=plan)


def _progress(office: Office, number: int) -> Progress:
    view = _view(_run(office, number))
    return Progress(**view.model_dump(), epochs=list(_epochs(folder_of(office, number) / EPOCHS)))


def _epochs(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each epoch that is written whole."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            return
        yield {name: _finite(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """Return a value that JSON can hold."""
    odd = isinstance(value, float) and (value != value or abs(value) == float("inf"))  # noqa: PLR0124 - NaN
    return None if odd else value


def _document(office: Office, run: int, name: str, otherwise: Any = None) -> Any:
    path = folder_of(office, run) / name
    try:
        if path.stat().st_size > _LARGEST:
            raise Problem(HTTPStatus.CONFLICT, "It is too large to be shown.")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if otherwise is not None:
            return otherwise
        raise missing(f"{name.split('.', maxsplit=1)[0]} of run {run} yet") from None
