"""Scripts and styles under an address that changes with what they say: a browser keeps them."""

import os
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

KEPT: Final = "public, max-age=31536000, immutable"
"""`Cache-Control` of what never changes under its address (RFC 8246)."""

_FOLDER: Final = Path(__file__).parent / "static"


def _digest(folder: Path) -> str:
    """Return what changes with any file of a folder: modules import each other by name."""
    found = sha256()
    for path in sorted(folder.iterdir()):
        found.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


STATIC: Final = f"/static/{_digest(_FOLDER)}"
"""Where they are served."""
PLOTLY: Final = f"/plotly.js?{version('plotly')}"
"""Where Plotly's own script is served."""


class Assets(StaticFiles):
    """The folder of scripts and styles, each file to be kept for good."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return one file, with how long it is kept."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = KEPT
        return response
