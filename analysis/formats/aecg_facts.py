"""What stands around the samples of an annotated ECG: the subject, and the device."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element

from analysis.ecg import Acquisition, Patient
from analysis.formats import fields
from analysis.formats.hl7 import (
    SEXES,
    iso_day,
)
from analysis.formats.markup import text_of

_SUBJECT: Final = "componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject"
REPORTED_AGE: Final = "21612-7"
"""LOINC."""
_YEARS: Final[Mapping[str, float]] = {
    "a": 1.0, "mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25,
}  # fmt: skip


def attribute(element: Element | None, path: str, name: str) -> str:
    """Return an attribute of what stands at a path below an element, or an empty string."""
    found = None if element is None else element.find(path)
    return "" if found is None else found.get(name, "").strip()


def patient_of(root: Element, recorded: datetime | None) -> tuple[Patient, tuple[str, ...]]:
    """Return what the file says of its subject, copied as it stands, and notes."""
    subject = root.find(_SUBJECT)
    person = None if subject is None else subject.find("subjectDemographicPerson")
    name = None if person is None else person.find("name")
    born = attribute(person, "birthTime", "value")
    age, unknown = _reported_age(root)
    patient, notes = fields.patient_of(
        age=age,
        birth_date=iso_day(born),
        recorded=None if unknown else recorded,
        sex="",
        identifier=attribute(subject, "id", "extension"),
        name=[] if name is None else [" ".join(" ".join(name.itertext()).split())],
    )
    sex = SEXES.get(attribute(person, "administrativeGenderCode", "code"))
    return replace(patient, sex=sex), notes


def _reported_age(root: Element) -> tuple[float | None, bool]:
    """Return the reported age in years, and whether it is said to be unknown."""
    for observation in root.findall("controlVariable/relatedObservation"):
        if attribute(observation, "code", "code") == REPORTED_AGE:
            age = fields.number(attribute(observation, "value", "value"))
            years = _YEARS.get(attribute(observation, "value", "unit"))
            unknown = bool(attribute(observation, "value", "nullFlavor"))
            return None if age is None or years is None else age * years, unknown
    return None, False


def acquisition_of(series: Element, start: datetime | None) -> tuple[Acquisition, tuple[str, ...]]:
    """Return how a series was recorded, and notes."""
    author = series.find("author/seriesAuthor")
    device = None if author is None else author.find("manufacturedSeriesDevice")
    return fields.acquisition_of(
        acquired_at=start,
        manufacturer=text_of(author, "manufacturerOrganization/name"),
        model=text_of(device, "manufacturerModelName"),
        software=text_of(device, "softwareName"),
        low=_cutoff(series, "FILTER_HIGH_PASS"),
        high=_cutoff(series, "FILTER_LOW_PASS"),
        notch=_cutoff(series, "FILTER_NOTCH"),
    )


def _cutoff(series: Element, name: str) -> float | None:
    """Return the frequency in Hz of a filter, or None."""
    for control in series.findall("controlVariable/controlVariable"):
        if attribute(control, "code", "code").endswith(name):
            for part in control.findall("component/controlVariable"):
                if attribute(part, "value", "unit") == "Hz":
                    return fields.number(attribute(part, "value", "value"))
    return None
