"""The printable ECG: standard paper at true scale as PDF, SVG and PNG.

The sheet is the ECG with what was said of it; a second page holds the evidence. Each is composed
once as plain data (:mod:`analysis.paper.sheet`, :mod:`analysis.paper.evidence`) and written by one
back end for each format. The same result gives the same bytes; nothing here reads a clock.
"""

from pathlib import Path
from typing import Final, Literal

from analysis.paper import pdf, png, svg
from analysis.paper.evidence import compose_evidence
from analysis.paper.sheet import compose
from analysis.result import Result

__all__ = ["KINDS", "Kind", "draw", "render"]

Kind = Literal["pdf", "svg", "png"]
KINDS: Final[tuple[Kind, ...]] = ("pdf", "svg", "png")
_PAGES: Final = (compose, compose_evidence)


def render(
    result: Result, kind: Kind, *, version: str = "", dpi: int = 150, page: int = 1
) -> bytes:
    """Return the sheet of a result as the bytes of a PDF, SVG or PNG file.

    Parameters
    ----------
    result
        What is printed.
    kind
        The format.
    version
        Of the program that prints, shown in the small print.
    dpi
        Resolution of the PNG in dots per inch; the other formats have none.
    page
        Which page an SVG or a PNG shows: 1 the ECG, 2 the evidence. A PDF has both.

    Raises
    ------
    ValueError
        If there is no such format or page.
    """
    if not 1 <= page <= len(_PAGES):
        raise ValueError(f"a sheet has {len(_PAGES)} pages, and no page {page}")
    if kind == "pdf":
        return pdf.write(*(compose_page(result, version) for compose_page in _PAGES))
    if kind == "svg":
        return svg.write(_PAGES[page - 1](result, version))
    if kind == "png":
        return png.write(_PAGES[page - 1](result, version), dpi)
    raise ValueError(f"a sheet is {', '.join(KINDS)}, not {kind!r}")


def draw(result: Result, path: str | Path, *, version: str = "", page: int = 1) -> None:
    """Write the sheet of a result to a file; its suffix names the format.

    Raises
    ------
    ValueError
        If the suffix is not ``.pdf``, ``.svg`` or ``.png``, or there is no such page; nothing is
        written then.
    """
    target = Path(path)
    kind = target.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise ValueError(f"a sheet is written as .pdf, .svg or .png, not {target.suffix!r}")
    target.write_bytes(render(result, kind, version=version, page=page))
