"""Where the body of a large request lies until it was looked at: a file, never memory.

The folder is one of the data folder's, so that a temporary folder in memory is not filled; what
a killed process left there goes at the next start.
"""

import errno
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from dicom_node.receive import disk_is_low
from dicom_node.settings import Storage
from training.admin.problems import Problem

_STALE: Final = 3600.0  # seconds; no request lasts so long


def folder_of(storage: Storage) -> Path:
    """Return the folder, made where it is absent, without what nobody uses any more."""
    folder = storage.folder / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        with suppress(FileNotFoundError):  # a request that ends just now
            if item.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(item, ignore_errors=True)
    return folder


@asynccontextmanager
async def staged(request: Request, storage: Storage, limit: int, what: str) -> AsyncIterator[Path]:
    """Yield a file that holds the body of a request; its folder is gone afterwards.

    Parameters
    ----------
    limit
        Bytes that it may have.
    what
        What it is, for the refusal.

    Raises
    ------
    Problem
        413 where it is larger, 422 where there is none, 503 where there is no room for it.
    """
    need_room(storage)
    with TemporaryDirectory(dir=folder_of(storage)) as folder:
        path = Path(folder) / f"{what}.part"
        try:
            size = await _written(request, path, limit)
        except OSError as error:
            raise (_no_room() if error.errno == errno.ENOSPC else error) from None
        if size > limit:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"A {what} has at most {limit // 2**20} MiB.",
                reason="too-large",
            )
        if size == 0:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"There is no {what} in the request.")
        yield path


def need_room(storage: Storage) -> None:
    """Refuse whatever brings files while the disk is below the watermark: ECGs come first."""
    if disk_is_low(storage):
        raise _no_room()


async def _written(request: Request, path: Path, limit: int) -> int:
    """Return how many bytes came; no more are taken than one chunk above the limit."""
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                break
            await run_in_threadpool(file.write, chunk)
    return size


def _no_room() -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The disk is too full to take files; make room first.",
        reason="disk",
        headers={"Retry-After": "60"},
    )
