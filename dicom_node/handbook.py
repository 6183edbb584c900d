"""The tables of INTEGRATION.md, made from the settings and the reasons that they describe.

``python -m dicom_node.handbook`` prints them; a test holds the document against them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from dicom_node.reasons import Delivery, Quarantine, Refusal, sentence
from dicom_node.settings import (
    LIVE,
    LONGER,
    Destination,
    Exchange,
    Fhir,
    Hl7,
    Peer,
    Route,
    Settings,
    Source,
    WebDestination,
    WebSource,
)

LISTS: Final[Mapping[str, type[BaseModel]]] = {
    "dicom.peers": Peer,
    "destinations": Destination,
    "destinations (DICOMweb)": WebDestination,
    "hl7": Hl7,
    "fhir": Fhir,
    "sources": Source,
    "sources (DICOMweb)": WebSource,
    "routes": Route,
    "exchanges": Exchange,
}
"""Tables of which there may be several, ``[[name]]`` in the file."""


def tables() -> dict[str, str]:
    """Return each generated table by its heading."""
    sections: dict[str, type[BaseModel]] = {
        f"[{name}]": type(field.default)
        for name, field in Settings.model_fields.items()
        if isinstance(field.default, BaseModel)
    }
    lists = {f"[[{name}]]": section for name, section in LISTS.items()}
    made = {title: _settings(section) for title, section in (sections | lists).items()}
    return made | {"Reasons": _table(("reason", "what to do"), _reasons())}


def _settings(section: type[BaseModel]) -> str:
    return _table(("setting", "default", "what it does"), _rows(section))


def _rows(section: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        words = " ".join(f"{field.description or ''} {_live(field.metadata)}".split())
        made = "one for each core" if field.default_factory else _default(field.default)
        yield f"`{name}`", made, words


def _live(marks: Sequence[object]) -> str:
    if LONGER in marks:
        return "Rises without a restart."
    return "Changes without a restart." if LIVE in marks else ""


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    plain = to_jsonable_python(value)
    if plain is None or (isinstance(plain, list) and plain and isinstance(plain[0], dict)):
        return "–"
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"


def _reasons() -> Iterator[tuple[str, ...]]:
    for reason in chain(Refusal, Quarantine, Delivery):
        yield f"`{reason}`", sentence(reason)


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for title, table in tables().items():
        print(f"### {title}\n\n{table}\n")  # noqa: T201 - the command prints
