"""The ECGs of Apple Health (`electrocardiograms/ecg_….csv`): one lead of a watch, in µV.

The words are those of the phone's language, so rows are known by what they state and by their
order, which is the same in every language; numbers have a point or a comma.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from csv import reader
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Annotation, Recording, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import Channel, Strip, recording
from analysis.formats.common import MILLIVOLTS
from analysis.formats.content import Content
from analysis.formats.fields import acquisition_of, number, patient_of

MAX_BYTES: Final = 2**22
"""Several minutes at 512 Hz; a watch records half a minute."""

_HEAD: Final = 2048
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")
_RATE: Final = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(?:hz|hert\w*|herc\w*|герц\w*|ヘルツ|헤르츠|赫兹|赫茲)", re.IGNORECASE
)
_LEAD: Final = re.compile(r"(?<![A-Za-z])I{1,3}(?![A-Za-z])")
_SAMPLE: Final = re.compile(r'^"?[+-]?\d+(?:[.,]\d+)?"?[ \t]*\r?$', re.MULTILINE)
_SAMPLES: Final = re.compile(r"[\d+\-.\s]*")
_ORDER: Final = (
    "name", "birth date", "moment", "classification", "symptoms", "software", "device", "rate"
)  # fmt: skip
_BIRTH_DATES: Final = ("%b %d, %Y", "%d %b %Y", "%d.%m.%Y", "%Y-%m-%d")
"""Those that can be read in one way only."""


def recognises(data: bytes) -> bool:
    """Return whether the rows before the samples state a moment, a rate and a unit of voltage."""
    return _rows(data[:_HEAD].decode("utf-8-sig", "replace")) is not None


def read(content: Content) -> Recording:
    """Return the ECG of an Apple Health export.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    if len(content.data) > MAX_BYTES:
        raise Undecodable(Reason.TOO_LARGE, "The file is longer than any ECG of a watch.")
    text = content.data.decode("utf-8-sig", "replace")
    rows = _rows(text[:_HEAD])
    first = _SAMPLE.search(text)
    if rows is None or first is None:
        raise Undecodable(Reason.NO_WAVEFORM, "The file holds no samples.")
    start = _moment(rows["moment"])
    born, birth_notes = _birth_date(rows.get("birth date", ""))
    patient, patient_notes = patient_of(
        age=None,
        birth_date=born,
        recorded=start,
        sex="",
        identifier="",
        name=[rows.get("name", "")],
    )
    acquisition, _ = acquisition_of(
        acquired_at=start, model=rows.get("device", ""), software=rows.get("software", "")
    )
    classification, symptoms = rows.get("classification"), rows.get("symptoms")
    channel = Channel(rows["lead"], _samples(text[first.start() :]), MILLIVOLTS[rows["unit"]])
    return recording(
        Strip([channel], _rate(rows), start),
        format="Apple Health ECG",
        patient=patient,
        acquisition=acquisition,
        vendor_statements=[VendorStatement(text=classification)] if classification else (),
        annotations=[Annotation(text=f"Symptoms: {symptoms}")] if symptoms else (),
        notes=(*birth_notes, *patient_notes),
    )


def _rows(head: str) -> Mapping[str, str] | None:
    """Return what the rows before the samples state, or None where they are not of an ECG.

    Those that only their place can tell are there where all stand in their order.
    """
    values = [",".join(row[1:]).strip() for row in reader(head.splitlines()) if row]
    moment = next((at for at, value in enumerate(values) if _MOMENT.fullmatch(value)), None)
    rate = next((at for at, value in enumerate(values) if _RATE.fullmatch(value)), None)
    unit = next((at for at, value in enumerate(values) if value in MILLIVOLTS), None)
    if moment is None or rate is None or not unit:
        return None
    lead = _LEAD.search(values[unit - 1])
    found = {"moment": values[moment], "rate": values[rate], "unit": values[unit]}
    ordered = (moment, rate) == (_ORDER.index("moment"), _ORDER.index("rate"))
    placed = dict(zip(_ORDER, values, strict=False)) if ordered else {}
    return placed | found | {"lead": lead[0] if lead else values[unit - 1]}


def _rate(rows: Mapping[str, str]) -> float | None:
    match = _RATE.fullmatch(rows["rate"])
    return number(match[1].replace(",", ".")) if match else None


def _moment(stated: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(stated, "%Y-%m-%d %H:%M:%S %z")
    return None


def _birth_date(stated: str) -> tuple[str, tuple[str, ...]]:
    """Return the birth date in ISO 8601, and a note where it can be read in two ways or none."""
    for layout in _BIRTH_DATES:
        with suppress(ValueError):
            born = datetime.strptime(stated, layout).replace(tzinfo=UTC)
            return f"{born:%Y-%m-%d}", ()
    return "", ("The birth date can be read in several ways and was left out.",) * bool(stated)


def _samples(text: str) -> npt.NDArray[np.float64]:
    """Return ``(samples,)``. Raises DAMAGED where a row is no number."""
    text = text.replace('"', "")
    if "," in text:
        text = text.replace(".", "x").replace(",", ".")  # a point beside commas groups thousands
    with suppress(ValueError):
        if _SAMPLES.fullmatch(text):
            return np.array(text.split(), np.float64)
    raise Undecodable(Reason.DAMAGED, "A row of the samples is not one number.")
