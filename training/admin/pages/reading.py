"""What the pages read: an ECG of the ledger or of the corpus, joined with its samples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from analysis.result import Result
from dicom_node.archive import digest, quarter
from dicom_node.ledger import ecgs, instances
from dicom_node.settings import Role
from training.admin import queries, views
from training.admin.access import Office
from training.admin.accounts import Principal
from training.admin.api.corpus import RECORD, analyser, corpus_of
from training.admin.pages.ecg import Around, Before, EcgPage, ecg_page
from training.admin.pages.holdings import Holdings, holdings_of
from training.admin.pages.words import finding_name
from training.admin.problems import Problem, missing
from training.admin.sources import result_of, row_of
from training.admin.uploads import recording_of
from training.admin.views import Person
from training.corpus import Corpus
from training.labels import Label

# What the node received


def received(office: Office, principal: Principal, instance: int, *, blind: bool) -> EcgPage:
    """Return the page of a received ECG.

    Raises
    ------
    Problem
        If there is no such ECG, it has no result, or its bytes are gone.
    """
    row = row_of(office, instance)
    result = result_of(office, row)
    may_see = Role.OPERATOR in principal.roles
    line = queries.line(office.ledger, instance)
    pseudonym = (line and line.patient) or ""
    person = (
        views.identified(result.recording)
        if may_see
        else views.pseudonymised(result.recording, pseudonym)
    )
    may_label = Role.REVIEWER in principal.roles
    before, why = (None, "") if blind else _before(office, instance, result, named=may_see)
    around = Around(
        label=str(instance),
        blind=blind,
        tracing=f"/ecg/{instance}/tracing{_BLIND if blind else ''}",
        back="/",
        newer=_linked(_neighbour(office, instances.c.id > instance, instances.c.id.asc()), blind),
        older=_linked(_neighbour(office, instances.c.id < instance, instances.c.id.desc()), blind),
        label_url=f"/api/v1/recordings/{instance}/labels" if may_label else None,
        before=before,
        no_before=why,
        downloads=tuple(_downloads(row)) if may_see and not blind else (),
        **_labels(office, digest(result.recording.ecg)[:RECORD], principal),
    )
    return ecg_page(result, person, around)


_OBJECTS: Final = {
    "sr": "Structured report", "pdf": "PDF", "ecg": "Annotated ECG", "sc": "Picture",
    "tid1500": "Measurement report", "annotation": "Annotations",
}  # fmt: skip


def _downloads(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    path = f"/api/v1/recordings/{row['id']}"
    yield "As received", f"{path}/source"
    for item in row["objects"]:
        if item["role"] in _OBJECTS:
            yield _OBJECTS[item["role"]], f"{path}/objects/{item['role']}"


_BLIND: Final = "?blind=1"


def _linked(path: str | None, blind: bool) -> str | None:  # noqa: FBT001 - of one page to the next
    return f"{path}{_BLIND if blind else ''}" if path else None


def _neighbour(
    office: Office, where: sa.ColumnElement[bool], order: sa.ColumnElement[Any]
) -> str | None:
    query = sa.select(instances.c.id).where(where, instances.c.analysed_at.is_not(None))
    found = office.ledger.query(query.order_by(order).limit(1))
    return f"/ecg/{found[0][0]}" if found else None


def _before(
    office: Office, instance: int, result: Result, *, named: bool
) -> tuple[Before | None, str]:
    """Return the earlier ECG that the ledger pinned, or why there is none to compare with."""
    query = sa.select(ecgs.c.previous_id, ecgs.c.conflict).where(ecgs.c.instance_id == instance)
    found = office.ledger.query(query)
    if not found:
        return None, "The source cannot be compared with earlier ECGs."
    previous, conflict = found[0]
    if conflict:
        return None, "The earlier ECG has another birth date or sex, so it is not compared."
    if previous is None:
        return None, "No earlier ECG of this patient is known here."
    try:
        earlier = result_of(office, row_of(office, previous))
    except Problem as error:
        return None, f"The earlier ECG cannot be shown: {error.detail}"
    moment = earlier.recording.acquisition.acquired_at or earlier.recording.ecg.start
    when = "time not stated"
    if moment is not None:
        when = moment.strftime("%Y-%m-%d %H:%M") if named else quarter(moment)
    return Before(
        title=when,
        tracing=f"/ecg/{previous}/tracing",
        rows=views.compared(result, earlier),
    ), ""


def received_tracing(office: Office, instance: int, *, blind: bool) -> dict[str, Any]:
    """Return the samples of a received ECG. Raises as :func:`received` does."""
    return views.tracing(result_of(office, row_of(office, instance)), blind=blind)


# What is in the corpus


def recorded(office: Office, principal: Principal, record: str, *, blind: bool) -> EcgPage:
    """Return the page of a recording of the corpus, analysed as the node would now.

    Raises
    ------
    Problem
        If there is none of this id.
    """
    corpus, result = _analysed(office, record)
    held = holdings_of(corpus)
    person = _person(held, record)
    may_label = Role.REVIEWER in principal.roles
    earlier, later = held.neighbours(record)
    around = Around(
        label=record[:8],
        blind=blind,
        tracing=f"/recordings/{record}/tracing{_BLIND if blind else ''}",
        back="/recordings",
        steps=("back", "next"),
        newer=_linked(earlier and f"/recordings/{earlier}", blind),
        older=_linked(later and f"/recordings/{later}", blind),
        label_url=f"/api/v1/corpus/recordings/{record}/labels" if may_label else None,
        **_labels(office, record, principal),
    )
    return ecg_page(result, person, around)


def _person(held: Holdings, record: str) -> Person:
    """Return what is declared of a recording's patient."""
    about = held.get(record)
    if about is None:
        raise missing("recording of this id")
    return views.person(
        f"Patient {about.patient[:8]}",
        sex=about.sex,
        age=about.age,
        quarter_of=about.quarter,
        device=about.device,
    )


def recorded_tracing(office: Office, record: str, *, blind: bool) -> dict[str, Any]:
    """Return the samples of a recording of the corpus. Raises as :func:`recorded` does."""
    return views.tracing(_analysed(office, record)[1], blind=blind)


def _analysed(office: Office, record: str) -> tuple[Corpus, Result]:
    corpus = corpus_of(office)
    try:
        recording = recording_of(corpus, record)
    except KeyError:
        raise missing("recording of this id") from None
    return corpus, analyser(office)(recording)


# What is said of it


def _labels(office: Office, record: str, principal: Principal) -> dict[str, Any]:
    """Return the labels of a recording for the page: one's own by finding, and all in words."""
    if principal.roles.isdisjoint({Role.REVIEWER, Role.TRAINER}):
        return {}
    found = corpus_of(office).labels_of(record)
    return {"said": _own(found, principal.name), "labels": tuple(map(_words, found))}


def _own(found: Sequence[Label], author: str) -> Mapping[str, str]:
    mine = sorted((item for item in found if item.author == author), key=lambda item: item.time)
    return {item.key: str(item.value) for item in mine}


def _words(item: Label) -> str:
    seen = ", AI seen" if item.ai_visible else ""
    who = " ".join(filter(None, (item.origin, item.author, item.time[:10])))
    return f"{finding_name(item.key)}: {item.value} ({who}{seen})"
