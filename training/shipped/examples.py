"""A record as the models learn from it: its waveform, its measurements, what must stay unsaid."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from analysis import criteria
from analysis.analyse import examined
from analysis.ecg import Lead, Patient, Sex, Signal
from analysis.features import Features, chosen, names, table
from analysis.measure import everything
from analysis.recipe import Recipe
from analysis.standardise import standardise
from training.shipped.corpus import LABELS, Record

Labels = npt.NDArray[np.float32]

ALONE = (Lead.I, Lead.II, Lead.V1)
"""Leads that a 12-lead record is also read by, each alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One standardised and measured record."""

    source: str
    patient: str
    signal: Signal
    """``(leads, samples)``, as long as the record."""
    windows: Signal
    """``(windows, leads, samples)``, as served."""
    labels: Labels
    """0, 1, or NaN where unknown, in the order of ``LABELS``."""
    withheld: Labels
    """The same, of what the source states and its recording cannot show."""
    features: Features
    """Every feature, in the order of the table."""
    silent: frozenset[str]
    """Labels on which the analysis abstains: signal, age, pacing, suspected reversal."""
    reading: str = "12 leads"
    """By which leads."""
    rates: Mapping[str, bool] = field(default_factory=dict)
    age: float | None = None
    sex: Sex | None = None
    alone: bool = False
    """Whether it is one lead of a 12-lead record."""


def prepare(records: Iterable[Record], recipe: Recipe) -> list[Example]:
    """Return the records in the recipe's form; one that cannot be used is left out."""
    return [example for record in records for example in _example(record, recipe)]


def alone(records: Iterable[Record]) -> Iterator[Record]:
    """Yield each record once for each of some leads, with that lead alone."""
    for record in records:
        for lead in ALONE:
            yield replace(record, ecg=record.ecg.select((lead,)))


def _example(record: Record, recipe: Recipe) -> Iterator[Example]:
    standard = standardise(record.ecg, recipe)
    if standard.unusable:
        return
    seen = examined(record.ecg)
    measured = everything(record.ecg, seen)
    case = criteria.Case(
        measurements=measured.measurements,
        leads=measured.leads,
        rhythm=measured.rhythm,
        quality=seen.quality,
        patient=Patient(age=record.age),
        qtc=measured.measurements.qtc_fridericia,
        qtc_formula="fridericia",
    )
    yield Example(
        source=record.source,
        patient=record.patient,
        signal=standard.signal,
        windows=standard.windows,
        labels=_row(record.labels),
        withheld=_row(record.withheld),
        features=chosen(table(seen, measured), names()),
        silent=frozenset(key for key in (*LABELS, *record.rates) if criteria.abstention(key, case)),
        rates=record.rates,
        age=record.age,
        sex=record.sex,
        reading=_reading(record.ecg.leads),
        alone=len(record.ecg.leads) == 1 and record.source != "CinC2017",
    )


def _reading(leads: Sequence[Lead]) -> str:
    count = len(leads)
    return f"lead {leads[0]}" if count == 1 else f"{count} leads"


def _row(labels: Mapping[str, bool]) -> Labels:
    return np.array([labels.get(key, np.nan) for key in LABELS], dtype=np.float32)
