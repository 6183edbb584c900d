"""The admin service, put together: the one place of this room that wires."""

import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dicom_node import tls
from dicom_node.ledger import Ledger
from dicom_node.live import follow
from dicom_node.settings import LOOPBACK, Admin, Settings, bracketed
from training.admin import problems, tables
from training.admin.access import COOKIE, Office
from training.admin.api import (
    audit,
    configuration,
    corpus,
    models,
    node,
    queue,
    recordings,
    runs,
    schedules,
    session,
)
from training.admin.background import at_work
from training.admin.limits import Bounds
from training.admin.pages.assets import STATIC, Assets
from training.admin.pages.routes import router as pages
from training.admin.policy import POLICY
from training.admin.problems import ProblemDocument
from training.admin.protocol import Patient
from training.admin.staging import folder_of

_ROOMS: Final = (
    session,
    node,
    configuration,
    queue,
    recordings,
    corpus,
    runs,
    schedules,
    models,
    audit,
)
"""Modules of the API, each with its `routes`."""


def create_app(settings: Settings, *, clock: Callable[[], float] = time.time) -> FastAPI:
    """Return the application; it opens the ledger when it starts and closes it when it ends.

    Parameters
    ----------
    clock
        UTC, seconds since the epoch.
    """
    office = Office(settings=settings, ledger=Ledger(settings.database_url), clock=clock)
    app = _Service(
        title="Sinusnode",
        summary="The admin service of an ECG AI node.",
        version=version("sinusnode"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=partial(_open, office),
    )
    app.state.office = office
    problems.register(app)
    for room in _ROOMS:
        app.include_router(room.routes)
    _add_pages(app)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_names(settings.admin))
    app.add_middleware(
        Bounds,
        bytes_of=partial(_bytes_of, settings.admin),
        deadline=settings.admin.deadline,
        secure=settings.admin.certificate is not None,
    )
    return app


class _Service(FastAPI):
    """Describes itself with the form of its refusals, and how one signs in."""

    def openapi(self) -> dict[str, Any]:
        """Return the document of the API (OpenAPI 3.1)."""
        if not self.openapi_schema:
            parts = super().openapi().setdefault("components", {})
            parts.setdefault("schemas", {})["ProblemDocument"] = ProblemDocument.model_json_schema()
            parts["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            }
        return super().openapi() | {"security": [{"key": []}, {"session": []}]}


@asynccontextmanager
async def _open(office: Office, _app: FastAPI) -> AsyncIterator[None]:
    with _prepared(office), at_work(office, schedules.schedules_of(office)):
        yield


@contextmanager
def _prepared(office: Office) -> Iterator[None]:
    office.settings.storage.folder.mkdir(parents=True, exist_ok=True)
    try:
        office.ledger.create()
        tables.create(office.ledger)
        office.live.create()
        folder_of(office.settings.storage)
        yield
    finally:
        office.ledger.close()


def _add_pages(app: FastAPI) -> None:
    """Mount the pages."""
    app.include_router(pages)
    app.mount(STATIC, Assets(), name="static")


def _names(admin: Admin) -> list[str]:
    """Return the host names that are answered to: any other is DNS rebinding."""
    return [bracketed(name) for name in (*LOOPBACK, admin.host, *admin.names)]


def _bytes_of(admin: Admin, method: str, path: str) -> int:
    return admin.maximum_upload if (method, path) in _UPLOADS else admin.maximum_body


_UPLOADS: Final = {name for name, rule in POLICY.items() if rule.upload}


class CannotServe(RuntimeError):
    """The service cannot run here; the message says why."""


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop.

    Raises
    ------
    CannotServe
        If the port, the TLS files or the data folder cannot be used.
    """
    for name in ("uvicorn.error", "apscheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # their traces hold our data
    admin = settings.admin
    follow(settings)
    usual = tempfile.tempdir
    tempfile.tempdir = str(folder_of(settings.storage))  # a large form is a file there too
    try:
        config = uvicorn.Config(
            create_app(settings),
            host=admin.host,
            port=admin.port,
            http=Patient,
            ssl_certfile=admin.certificate,
            ssl_keyfile=admin.private_key,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody on this machine could say who he is
            timeout_graceful_shutdown=_SHUTDOWN,
        )
        config.load()
        server = uvicorn.Server(config)
        server.run()
    except OSError as error:
        raise CannotServe(tls.describe(error) if admin.certificate else str(error)) from None
    except SystemExit:
        where = f"{bracketed(admin.host)}:{admin.port}"
        raise CannotServe(f"the port {where} cannot be opened") from None
    finally:
        tempfile.tempdir = usual
    if not server.started:
        raise CannotServe("the ledger or the data folder cannot be used")


_SHUTDOWN: Final = 5  # seconds for requests in hand
