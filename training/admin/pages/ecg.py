"""The ECG page, put together: one recording with its result, and whatever stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from analysis.paper import wording
from analysis.result import Result, Statement
from training.admin import views
from training.admin.views import Group, Person, Row

NAMES: Final = frozenset(wording.measurement_name(name) for name in views.COMPARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The previous ECG of the same patient."""

    title: str
    tracing: str
    """Where its samples are."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the page says beside the recording itself."""

    label: str
    """For the title of the window; never a name."""
    tracing: str
    back: str
    newer: str | None = None
    older: str | None = None
    steps: tuple[str, str] = ("newer", "older")
    """What the two are called."""
    downloads: tuple[tuple[str, str], ...] = ()
    """Name and address of each object that the reader may have."""
    label_url: str | None = None
    """Where a label goes; None where the reader may not label."""
    before: Before | None = None
    no_before: str = ""
    said: Mapping[str, str] = field(default_factory=dict)
    """What is known already, by finding."""
    labels: tuple[str, ...] = ()
    blind: bool = False
    """Whether what the program found is hidden, so that a label is no echo of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EcgPage:
    """Everything that the template shows."""

    person: Person
    around: Around
    overall: str
    statements: tuple[Statement, ...]
    models: str
    first_rows: tuple[Row, ...]
    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    notes: tuple[tuple[str, tuple[str, ...]], ...]


def ecg_page(result: Result, person: Person, around: Around) -> EcgPage:
    """Return the page of a result that is joined with its recording."""
    rows = views.measurements(result)
    notes = views.notes(result, identified=person.identified)
    return EcgPage(
        person=person,
        around=around,
        overall=wording.overall(result),
        statements=result.statements if wording.is_diagnostic(result) else (),
        models=wording.models(result.models),
        first_rows=tuple(row for row in rows if row.name in NAMES),
        rows=rows,
        groups=views.findings(result) if wording.is_diagnostic(result) else (),
        notes=tuple((title, tuple(lines)) for title, lines in notes),
    )
