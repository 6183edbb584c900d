"""What an operator asks of the ledger and of the installation, in plain words."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from dicom_node.ledger import DeliveryState, Ledger, Part, State
from dicom_node.reasons import sentence
from dicom_node.settings import Fhir, Hl7, Outlet, Settings
from dicom_node.spool import Spool

_REFUSED_SHOWN = 20


@contextmanager
def opened(settings: Settings) -> Iterator[Ledger]:
    """Yield the ledger of an installation, created where it is absent, and close it."""
    settings.storage.folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(settings.database_url)
    try:
        ledger.create()
        yield ledger
    finally:
        ledger.close()


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Queue:
    """Where everything stands."""

    rows: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    counts: dict[State, int]
    models: list[dict[str, str]]
    """What is in each slot: which model speaks, and which shadows."""
    stranded: list[str]
    """A sentence for each destination that has gone from the settings before its results came."""

    @classmethod
    def read(cls, settings: Settings, states: Sequence[str], limit: int) -> Self:
        """Return the newest rows in these states, what was refused, and the counts.

        Without states, all rows; what was refused has none, and is left out where one is named,
        as the models are.

        Raises
        ------
        ValueError
            If a state does not exist.
        """
        wanted = [_state(name) for name in states]
        with opened(settings) as ledger:
            rows = [_row(ledger, row) for row in ledger.rows(wanted, limit)]
            refused = [] if wanted else [_refusal(row) for row in ledger.refusals(_REFUSED_SHOWN)]
            models = [] if wanted else ledger.in_slots()
            left = [] if wanted else stranded(settings, ledger)
            return cls(rows, refused, ledger.counts(), models, left)


def _state(name: str) -> State:
    if name.upper() not in State.__members__:
        raise ValueError(f"There is no state {name}; the states are {', '.join(State)}.")
    return State(name.upper())


def _row(ledger: Ledger, row: dict[str, Any]) -> dict[str, Any]:
    whole = ledger.row(row["id"]) or row | {"objects": [], "deliveries": [], "purged": {}}
    return {
        "id": row["id"],
        "received": _time(row["received_at"]),
        "from": row["calling_ae"],
        "sop_instance_uid": row["sop_instance_uid"],
        "sha256": row["sha256"],
        "state": row["state"],
        "attempts": row["attempts"],
        "reason": row["reason"],
        "message": _gone(whole["purged"]) or row["message"],
        "purged": {part: _time(at) for part, at in whole["purged"].items()},
        "committed": _time(row["committed_at"]),
        "committed_by": row["committed_by"],
        "deliveries": [_delivery(item, whole["objects"]) for item in whole["deliveries"]],
    }


def _gone(purged: Mapping[Part, float]) -> str | None:
    """Return what retention gave up of a row, in words."""
    if not purged:
        return None
    return f"Purged by age: {' and '.join(sorted(purged, reverse=True))}; the row stays."


def _delivery(item: dict[str, Any], objects: list[dict[str, Any]]) -> dict[str, Any]:
    (role,) = (part["role"] for part in objects if part["id"] == item["object_id"])
    return {
        "destination": item["destination"],
        "object": role,
        "state": item["state"],
        "attempts": item["attempts"],
        "status": item["status"],
        "reason": item["reason"],
        "message": sentence(item["reason"] or "") or None,
        "next": _time(item["next_at"]) if item["state"] == DeliveryState.PENDING else None,
    }


def _refusal(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": _time(row["at"]),
        "from": row["calling_ae"],
        "address": row["address"],
        "reason": row["reason"],
        "message": sentence(row["reason"]),
    }


def retry(settings: Settings, ids: Sequence[int], *, failed: bool) -> tuple[list[int], list[int]]:
    """Return the rows that were set going again, and those where nothing could be."""
    with opened(settings) as ledger:
        wanted = list(ids)
        if failed:
            wanted += [row["id"] for row in ledger.rows([State.FAILED], 1_000_000)]
        outcome = {number: ledger.retry(number, time.time()) for number in wanted}
    return [n for n, going in outcome.items() if going], [
        n for n, going in outcome.items() if not going
    ]


def stranded(settings: Settings, ledger: Ledger) -> list[str]:
    """Return a sentence for each destination whose results wait, and which is set no more."""
    named = [item.name for item in settings.outlets]
    return [
        f"{count} results are not delivered to {name}, which the settings no longer name: name it "
        f"again, or send them elsewhere (`sinusnode redirect {name} --to NAME`), or give them up "
        f"(`sinusnode redirect {name} --drop`)."
        for name, count in ledger.stranded(named).items()
    ]


def redirect(settings: Settings, name: str, to: str | None) -> int:
    """Return how many results for a destination that is set no more go elsewhere; None drops them.

    Raises
    ------
    ValueError
        If the destination is set, or the other is not, or does not take such results.
    """
    outlets = {item.name: item for item in settings.outlets}
    if name in outlets:
        raise ValueError(f"The settings name {name}: take it out there, and restart the node.")
    with opened(settings) as ledger:
        if to is None:
            return ledger.drop(name, time.time())
        if to not in outlets:
            raise ValueError(f"The settings name no destination {to}.")
        unfit = [r for r in ledger.stranded_roles(name) if not _takes(outlets[to], r)]
        if unfit:
            raise ValueError(f"{to} takes no {', '.join(sorted(unfit))}: name another of its kind.")
        return ledger.redirect(name, to, time.time())


def _takes(outlet: Outlet, role: str) -> bool:
    """Return whether an object of this role may go there: a message or a DICOM object."""
    from dicom_node.report import Message  # noqa: PLC0415 - its imports take seconds

    kinds = {Hl7: Message.HL7, Fhir: Message.FHIR}
    kind = kinds.get(type(outlet))
    return role == kind if kind else role not in kinds.values()


def export(settings: Settings, number: int, file: Path) -> None:
    """Write the bytes of a received object to a file.

    Raises
    ------
    LookupError
        If there is no such row, or its bytes are gone: purged, lost or damaged.
    """
    with opened(settings) as ledger:
        row = ledger.row(number)
        if row is None:
            raise LookupError(f"There is no row {number}.")
        if Part.SOURCE in row["purged"]:
            day = _time(row["purged"][Part.SOURCE])
            raise LookupError(f"The bytes of row {number} were purged by age on {day}.")
        try:
            data = Spool(settings.storage.folder / "spool").read(ledger.blob_of(row))
        except OSError:
            raise LookupError(f"The bytes of row {number} are gone or damaged.") from None
    file.write_bytes(data)


def template() -> str:
    """Return a commented settings file that holds the defaults."""
    lines = [
        "# Sinusnode's settings. Every key may also come from the environment,",
        "# for example SINUSNODE__DICOM__AE_TITLE=ECGNODE.",
    ]
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            lines += ["", *_section(name, field.default)]
    for table, key in (("dicom.peers", "peers"), *((name, name) for name in _SERVERS)):
        lines += ["", *_example(table, key)]
    return "\n".join(lines) + "\n"


def _section(name: str, section: BaseModel) -> Iterator[str]:
    yield from _comment(type(section).__doc__ or "")
    yield f"[{name}]"
    for key, field in type(section).model_fields.items():
        value = to_jsonable_python(getattr(section, key))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            continue
        yield from _comment(field.description or "")
        yield f"# {key} =" if value is None else f"{key} = {_toml(value)}"


_SERVERS = ("destinations", "hl7", "fhir", "sources", "exchanges")
_EXAMPLES = {
    "peers": ("Who may call; without any, every AE title of this machine.",
              ('ae_title = "CART1"', 'addresses = ["10.1.2.0/24"]')),
    "destinations": ("Where results go.",
                     ('ae_title = "ORTHANC"', 'host = "127.0.0.1"', "port = 4242")),
    "hl7": ("Where results go as HL7 v2.5.1 ORU^R01 over MLLP.",
            ('host = "127.0.0.1"', "port = 2575", 'receiving_application = "EHR"')),
    "fhir": ("Where results go as FHIR R4 transactions.",
             ('url = "https://ehr/fhir"', 'token_file = "/run/secrets/fhir-token"')),
    "sources": ("Where past ECGs are, for `sinusnode backfill`.",
                ('ae_title = "ORTHANC"', 'host = "127.0.0.1"', "port = 4242")),
    "exchanges": ("Where sites exchange models, by WebDAV.",
                  ('url = "https://exchange/models"', 'username = "site-a"',
                   'password_file = "/run/secrets/exchange"')),
}  # fmt: skip


def _example(table: str, key: str) -> Iterator[str]:
    text, entries = _EXAMPLES[key]
    yield f"# {text}"
    yield f"# [[{table}]]"
    yield from (f"# {entry}" for entry in entries)


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line.strip()}" for line in text.strip().splitlines() if line.strip())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
