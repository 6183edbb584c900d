"""The printable ECG: standard paper at true scale as PDF, SVG and PNG.

The sheet is composed once as plain data (:mod:`analysis.paper.sheet`) and written by one back
end for each format. The same result gives the same bytes; nothing here reads a clock.
"""

from pathlib import Path
from typing import Final, Literal

from analysis.paper import pdf, png, svg
from analysis.paper.sheet import compose
from analysis.result import Result

__all__ = ["KINDS", "Kind", "draw", "render"]

Kind = Literal["pdf", "svg", "png"]
KINDS: Final[tuple[Kind, ...]] = ("pdf", "svg", "png")


def render(result: Result, kind: Kind, *, version: str = "", dpi: int = 150) -> bytes:
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

    Raises
    ------
    ValueError
        If there is no such format.
    """
    page = compose(result, version)
    if kind == "pdf":
        return pdf.write(page)
    if kind == "svg":
        return svg.write(page)
    if kind == "png":
        return png.write(page, dpi)
    raise ValueError(f"a sheet is {', '.join(KINDS)}, not {kind!r}")


def draw(result: Result, path: str | Path, *, version: str = "") -> None:
    """Write the sheet of a result to a file; its suffix names the format.

    Raises
    ------
    ValueError
        If the suffix is not ``.pdf``, ``.svg`` or ``.png``; nothing is written then.
    """
    target = Path(path)
    kind = target.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise ValueError(f"a sheet is written as .pdf, .svg or .png, not {target.suffix!r}")
    target.write_bytes(render(result, kind, version=version))
