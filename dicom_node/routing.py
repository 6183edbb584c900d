"""Which route an ECG takes: by who sent it, what recorded it, and for whom."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.settings import Route

EVERYWHERE: Final = Route()
"""What counts where no route fits."""


def route_of(routes: Sequence[Route], calling_ae: str, source: Dataset) -> Route:
    """Return the first route that an ECG fits; case does not count, an absent value is empty."""
    stated = (
        calling_ae,
        str(source.get("ManufacturerModelName") or ""),
        str(source.get("InstitutionalDepartmentName") or ""),
    )
    return next((route for route in routes if _fits(route, stated)), EVERYWHERE)


def allowed(route: Route, names: Iterable[str]) -> tuple[str, ...]:
    """Return those places that a route leads to."""
    return tuple(n for n in names if route.destinations is None or n in route.destinations)


def _fits(route: Route, stated: tuple[str, str, str]) -> bool:
    patterns = (route.calling_ae_title, route.device, route.department)
    return all(
        fnmatchcase(value.strip(" \0").casefold(), pattern.casefold())
        for value, pattern in zip(stated, patterns, strict=True)
    )
