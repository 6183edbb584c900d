"""SCP-ECG (EN 1064, ISO 11073-91064), versions 1.0 to 3.0: the resting ECGs of European carts."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from analysis.ecg import Recording
from analysis.errors import Undecodable
from analysis.formats.channels import recording
from analysis.formats.content import Content
from analysis.formats.scp.facts import Facts, facts_of
from analysis.formats.scp.results import lead_measurements, measurements, statements
from analysis.formats.scp.samples import samples_of
from analysis.formats.scp.sections import Record, Section, looks_like_scp, split

__all__ = ["read", "recognises"]

recognises = looks_like_scp

_T = TypeVar("_T")


def read(content: Content) -> Recording:
    """Return the ECG of an SCP-ECG record.

    A damaged section that holds no samples is left out with a note.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    record = split(content.data)
    facts, fact_notes = _optional(record, 1, facts_of)
    facts = facts or Facts()
    samples = samples_of(record, facts.acquisition.acquired_at)
    said = partial(statements, codec=facts.codec)
    in_words, word_notes = _optional(record, 8, said)
    in_codes, code_notes = _optional(record, 11, said)
    measured, measured_notes = _optional(record, 7, measurements)
    by_lead, lead_notes = _optional(record, 10, lead_measurements)
    return recording(
        samples.rhythm,
        format="SCP-ECG",
        median=samples.median,
        patient=facts.patient,
        acquisition=facts.acquisition,
        vendor_statements=(*(in_words or ()), *(in_codes or ())),
        annotations=(*(measured or ()), *(by_lead or ()), *samples.beats),
        notes=(
            *record.notes,
            *fact_notes,
            *facts.notes,
            *samples.notes,
            *word_notes,
            *code_notes,
            *measured_notes,
            *lead_notes,
        ),
    )


def _optional(
    record: Record, number: int, parse: Callable[[Section], _T]
) -> tuple[_T | None, tuple[str, ...]]:
    """Return what a section says that holds no samples, or None and why."""
    try:
        section = record.get(number)
        return (parse(section) if section else None), ()
    except Undecodable as error:
        return None, (f"Section {number} was left out: {error.message}",)
