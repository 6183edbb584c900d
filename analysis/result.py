"""What an analysis returns: quantities, findings, statements; and its durable form.

A ``None`` always travels with a reason. The JSON form is what the ledger stores: from it and
the source, every output can be built again to the same bytes.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, Code, Lead, Recording

Marks = npt.NDArray[np.float64]

FIDUCIAL_KINDS = (
    "p_onset", "p_peak", "p_offset",
    "qrs_onset", "r_peak", "qrs_offset",
    "t_onset", "t_peak", "t_offset",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured value with its unit, or the reason why there is none.

    Parameters
    ----------
    value
        The number, or None.
    unit
        UCUM: ``ms``, ``deg``, ``mV``, ``{H.B.}/min``, ``1``.
    method
        How it was measured, in a few words.
    beats
        Which beats (rows of the fiducial arrays) it rests on.
    reason
        Why ``value`` is None; None where there is a value.
    """

    value: float | None
    unit: str
    method: str
    beats: tuple[int, ...] = ()
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a quantity has either a value or a reason")


@dataclass(frozen=True, slots=True)
class LeadQuantity:
    """What a measurement of one lead is: its unit, how it is made, why it may be missing."""

    unit: str
    method: str
    missing: str


def _of_wave(wave: str, kind: str, unit: str) -> LeadQuantity:
    return LeadQuantity(unit, f"{kind} of the {wave} wave, 0 = none", "no QRS complex was measured")


def _of_st(time: str) -> LeadQuantity:
    return LeadQuantity("mV", f"level at {time} above that before the QRS", "no J point was found")


LEAD_QUANTITIES: Mapping[str, LeadQuantity] = MappingProxyType(
    {
        "p_amplitude": LeadQuantity("mV", "greatest deflection, signed", "no P wave was found"),
        "p_terminal_force": LeadQuantity(
            "mV.ms", "depth times duration of a negative end of P", "no P wave was found"
        ),
        "q_amplitude": _of_wave("Q or QS", "depth", "mV"),
        "q_duration": _of_wave("Q or QS", "duration", "ms"),
        "r_amplitude": _of_wave("R", "height", "mV"),
        "r_duration": _of_wave("R", "duration", "ms"),
        "s_amplitude": _of_wave("S", "depth", "mV"),
        "s_duration": _of_wave("S", "duration", "ms"),
        "r2_amplitude": _of_wave("R′", "height", "mV"),
        "r2_duration": _of_wave("R′", "duration", "ms"),
        "r_notch": _of_wave("R", "depth of a notch", "mV"),
        "r_peak_time": LeadQuantity("ms", "QRS onset to the highest R", "no R wave was measured"),
        "half_time": LeadQuantity(
            "ms", "QRS onset to half of its greatest deflection", "no QRS complex was measured"
        ),
        "qrs_area": LeadQuantity("mV.ms", "net area of the QRS", "no QRS complex was measured"),
        "st_j": _of_st("J"),
        "st_20": _of_st("J + 20 ms"),
        "st_60": _of_st("J + 60 ms"),
        "st_80": _of_st("J + 80 ms"),
        "t_amplitude": LeadQuantity("mV", "greatest deflection, signed", "no T wave was found"),
    }
)
"""Every measurement of a single lead, on its median beat, by name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeadMeasurements:
    """The measurements of each lead's median beat.

    Parameters
    ----------
    leads
        One name per row.
    values
        ``(leads, quantities)`` in the order and the units of :data:`LEAD_QUANTITIES`; NaN =
        not measured, 0 = the wave is not there.
    beats
        Which beats (rows of the fiducial arrays) the median rests on.
    """

    leads: tuple[Lead, ...] = ()
    values: Marks = field(default_factory=lambda: np.empty((0, len(LEAD_QUANTITIES))))
    beats: tuple[int, ...] = ()

    def value(self, lead: Lead, name: str) -> float:
        """Return one number, NaN where it was not measured."""
        if lead not in self.leads:
            return np.nan
        return float(self.values[self.leads.index(lead), _COLUMNS[name]])

    def __getitem__(self, lead: Lead) -> Mapping[str, Quantity]:
        """Return the quantities of a lead by name. Raises KeyError where it is absent."""
        if lead not in self.leads:
            raise KeyError(lead)
        return {name: self._quantity(lead, name) for name in LEAD_QUANTITIES}

    def _quantity(self, lead: Lead, name: str) -> Quantity:
        value, what = self.value(lead, name), LEAD_QUANTITIES[name]
        if np.isfinite(value):
            return Quantity(value=value, unit=what.unit, method=what.method, beats=self.beats)
        return Quantity(value=None, unit=what.unit, method=what.method, reason=what.missing)


_COLUMNS = {name: column for column, name in enumerate(LEAD_QUANTITIES)}


def _unmeasured(unit: str) -> Quantity:
    return Quantity(value=None, unit=unit, method="none", reason="it was not measured")


_NO_RATE, _NO_SHARE = _unmeasured("{H.B.}/min"), _unmeasured("%")
_NO_TIME, _NO_VOLTAGE, _NO_PRODUCT = (_unmeasured(unit) for unit in ("ms", "mV", "mV.ms"))


class BeatKind(StrEnum):
    """What the shape and the timing of a beat say of it."""

    DOMINANT = "dominant"
    PACED = "paced"
    """Dominant, in a rhythm that a pacemaker leads."""
    SUPRAVENTRICULAR = "supraventricular"
    """Premature, of the dominant shape."""
    ABERRANT = "aberrant"
    """Premature, supraventricular, of another shape."""
    VENTRICULAR = "ventricular"
    OTHER = "other"
    """Of another shape, and not premature."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurements:
    """The global measurements, the beats they rest on and every fiducial.

    Each :class:`Quantity` field is listed by :meth:`quantities` under its own name.
    """

    heart_rate: Quantity
    rr_interval: Quantity
    p_duration: Quantity
    pr_interval: Quantity
    qrs_duration: Quantity
    qt_interval: Quantity
    qtc_bazett: Quantity
    qtc_fridericia: Quantity
    qtc_framingham: Quantity
    qtc_hodges: Quantity
    p_axis: Quantity
    qrs_axis: Quantity
    t_axis: Quantity
    rr_variability: Quantity
    """RMSSD (root mean square of successive RR differences) over the mean RR, unit ``1``."""
    atrial_rate: Quantity = _NO_RATE
    jt_interval: Quantity = _NO_TIME
    qt_dispersion: Quantity = _NO_TIME
    sokolow_lyon: Quantity = _NO_VOLTAGE
    cornell_voltage: Quantity = _NO_VOLTAGE
    cornell_product: Quantity = _NO_PRODUCT
    sdnn: Quantity = _NO_TIME
    rmssd: Quantity = _NO_TIME
    pnn50: Quantity = _NO_SHARE
    r_peaks: Marks
    """``(beats,)``, 0-based samples at the ECG's rate: the rows of every fiducial array."""
    fiducials: Mapping[str, Mapping[str, Marks]]
    """``fiducials[lead][kind]`` is ``(beats,)``, NaN = absent; the key ``"global"`` too."""
    median_beat: ECG | None = None
    """The median of the dominant beats, all leads."""
    median_fiducials: Mapping[str, float] = field(default_factory=dict)
    """Global fiducials of the median beat, in its own samples; NaN = absent."""
    beat_kinds: tuple[BeatKind, ...] = ()
    """Of each beat, as far as shape and timing tell."""

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Yield each global measurement by its name."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Quantity):
                yield item.name, value


class Verdict(StrEnum):
    """Whether this ECG can be read at all."""

    FULL = "full"
    LIMITED = "limited"
    NON_DIAGNOSTIC = "non-diagnostic"


class QualityReason(StrEnum):
    """What is wrong with a lead or with the record."""

    MISSING = "lead-missing"
    FLAT = "flat"
    CLIPPED = "clipped"
    NOISE = "noise"
    MAINS = "mains"
    WANDER = "baseline-wander"
    GAPS = "gaps"
    TOO_SHORT = "too-short"
    NOT_SIMULTANEOUS = "not-simultaneous"
    NO_QRS = "no-qrs"
    FEW_BEATS = "too-few-beats"
    ONE_SOURCE = "same-waveform-in-all-leads"
    """No heart shows so: a tapped electrode, a generator."""
    NO_HEART = "no-qrs-of-a-heart"
    """What repeats itself has not the form or the pauses of a heart's beats."""
    LOW_RATE = "low-sampling-frequency"
    ARM_REVERSAL = "suspected-arm-lead-reversal"
    LEG_REVERSAL = "suspected-right-arm-left-leg-lead-reversal"


_CAUTION: Final = (
    "No heartbeats were recognised: an artefact, or asystole, ventricular flutter or fibrillation. "
    "Look at the tracing."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The gate: a verdict, and everything it rests on."""

    verdict: Verdict
    reasons: tuple[QualityReason, ...] = ()
    """Of the record, most important first."""
    leads: Mapping[Lead, tuple[QualityReason, ...]] = field(default_factory=dict)
    """Of each recorded or expected lead that has any."""

    @property
    def caution(self) -> str:
        """Return what must be thought of where no beats were recognised; empty elsewhere.

        Ventricular flutter and fibrillation have no QRS complexes either.
        """
        unread = {QualityReason.NO_QRS, QualityReason.NO_HEART}
        return _CAUTION if unread & set(self.reasons) else ""

    @property
    def usable_leads(self) -> frozenset[Lead]:
        """Leads with nothing worse than mains or wander against them, of those listed."""
        mild = {QualityReason.MAINS, QualityReason.WANDER}
        return frozenset(lead for lead, why in self.leads.items() if set(why) <= mild)

    @property
    def reversed_leads(self) -> bool:
        """Whether limb electrodes may be where they do not belong."""
        return bool({QualityReason.ARM_REVERSAL, QualityReason.LEG_REVERSAL} & set(self.reasons))


class Origin(StrEnum):
    """Who says so."""

    MODEL = "model"
    CRITERIA = "criteria"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model spoke: named on every output."""

    name: str
    version: str
    digest: str
    """SHA-256 of the ONNX file, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One entry of the vocabulary, judged: present, absent, or not assessed with a reason."""

    key: str
    code: Code
    name: str
    probability: float | None = None
    threshold: float | None = None
    present: bool | None = None
    """None = not assessed; ``reason`` says why."""
    origin: Origin
    model: str | None = None
    """Name of the model, where ``origin`` is one."""
    evidence: tuple[str, ...] = ()
    """Each with its number: "PR interval 224 ms"."""
    leads: tuple[Lead, ...] = ()
    """Those that carried it; empty where all leads together did."""
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.present is None) != (self.reason is not None):
            raise ValueError("a finding is judged or has a reason why not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One line of the report, as a clinician reads it."""

    key: str
    code: Code
    text: str
    origin: Origin
    evidence: tuple[str, ...] = ()
    leads: tuple[Lead, ...] = ()
    """Those that carried it; empty where all leads together did."""


_SHARE, _LEAST = 0.5, 0.1
"""A part carries a finding with this share of the greatest weight, and this weight at least."""
_MANY: Final = 6
"""Leads; where more carry a finding, all together do."""
_Part = TypeVar("_Part")

RR_INTERVALS: Final = "RR intervals"


SEGMENTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "P": ("p_onset", "p_offset"),
        "PR": ("p_offset", "qrs_onset"),
        "QRS": ("qrs_onset", "qrs_offset"),
        "ST": ("qrs_offset", "t_onset"),
        "T": ("t_onset", "t_offset"),
    }
)
"""The parts of a beat, and the fiducials at which each begins and ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of the beat, over all beats of a window, and its weight for a finding."""

    name: str
    """One of :data:`SEGMENTS`, TP for what lies between two beats, TQ where there is no P."""
    start: float
    """ms after the R peak, the median of the beats."""
    end: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a finding of a model rests on, as :func:`analysis.explain.explain` tells it.

    A weight is the log-odds that the finding loses without the part: 0.7 halves its odds, and a
    negative one spoke against it.

    Parameters
    ----------
    key, model
        Whose finding.
    baseline
        Its probability with nothing removed, in the window that was looked at.
    leads
        Weight of each lead that was recorded.
    segments
        In the order of the beat; empty where the finding is one of single beats.
    beats
        Row of the fiducial arrays and weight, of a finding of single beats.
    rhythm
        Weight of the irregularity of the RR intervals, for a finding of rhythm.
    method
        How the weights were found, in a few words.
    """

    key: str
    model: str
    baseline: float
    leads: Mapping[Lead, float]
    segments: tuple[Segment, ...] = ()
    beats: tuple[tuple[int, float], ...] = ()
    rhythm: float | None = None
    method: str

    @property
    def carrying_leads(self) -> tuple[Lead, ...]:
        """The leads that carried it; empty where none stands out of the others."""
        found = _carrying((lead, self.leads[lead]) for lead in Lead if lead in self.leads)
        return found if len(found) <= _MANY else ()

    @property
    def carrying_parts(self) -> tuple[str, ...]:
        """The names of the segments that carried it, and :data:`RR_INTERVALS` if they did."""
        named = [(segment.name, segment.weight) for segment in self.segments]
        rhythm = [] if self.rhythm is None else [(RR_INTERVALS, self.rhythm)]
        return _carrying([*named, *rhythm])

    @property
    def carrying_beats(self) -> tuple[int, ...]:
        """The rows of the beats that carried it."""
        return _carrying(self.beats)


def _carrying(weights: Iterable[tuple[_Part, float]]) -> tuple[_Part, ...]:
    known = tuple(weights)
    least = max(_LEAST, _SHARE * max((weight for _, weight in known), default=0.0))
    return tuple(part for part, weight in known if weight >= least)


class Overall(StrEnum):
    """The overall finding (CID 3677), or none."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    NO_LISTED_FINDING = "no-listed-finding"
    """Nothing above its threshold, and not enough was assessed to say normal."""
    NON_DIAGNOSTIC = "non-diagnostic"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One ECG, analysed."""

    recording: Recording
    statements: tuple[Statement, ...]
    """Most important first."""
    findings: tuple[Finding, ...]
    measurements: Measurements
    leads: LeadMeasurements = field(default_factory=LeadMeasurements)
    """Amplitudes, durations and ST levels of each lead."""
    quality: Quality
    models: tuple[ModelIdentity, ...]
    overall: Overall
    not_assessed: tuple[str, ...] = ()
    """Sentences: what was not assessed, and why."""
    explanations: tuple[Explanation, ...] = ()
    """Of the findings of models that are present."""

    def to_json(self) -> str:
        """Return the durable form, without the recording; :meth:`from_json` undoes it."""
        document = {
            "schema": 1,
            "statements": [_plain(item) for item in self.statements],
            "findings": [_plain(item) for item in self.findings],
            "measurements": _measurements_to_plain(self.measurements),
            "leads": {
                "leads": list(self.leads.leads),
                "values": _packed(self.leads.values),
                "beats": list(self.leads.beats),
            },
            "quality": {
                "verdict": self.quality.verdict,
                "reasons": list(self.quality.reasons),
                "leads": {lead: list(why) for lead, why in self.quality.leads.items()},
            },
            "models": [_plain(item) for item in self.models],
            "overall": self.overall,
            "not_assessed": list(self.not_assessed),
            "explanations": [
                _plain(item) | {"segments": [_plain(segment) for segment in item.segments]}
                for item in self.explanations
            ],
        }
        return json.dumps(document, allow_nan=False, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, recording: Recording) -> Self:
        """Return the result that :meth:`to_json` wrote, joined again with its recording."""
        document = json.loads(text)
        quality = document["quality"]
        return cls(
            recording=recording,
            statements=tuple(_statement(item) for item in document["statements"]),
            findings=tuple(_finding(item) for item in document["findings"]),
            measurements=_measurements_from_plain(document["measurements"]),
            leads=_lead_measurements(document.get("leads")),
            quality=Quality(
                verdict=Verdict(quality["verdict"]),
                reasons=tuple(QualityReason(why) for why in quality["reasons"]),
                leads={
                    Lead(lead): tuple(QualityReason(why) for why in whys)
                    for lead, whys in quality["leads"].items()
                },
            ),
            models=tuple(ModelIdentity(**item) for item in document["models"]),
            overall=Overall(document["overall"]),
            not_assessed=tuple(document["not_assessed"]),
            explanations=tuple(map(_explanation, document.get("explanations", ()))),
        )


def _plain(item: Any) -> dict[str, Any]:
    return {part.name: getattr(item, part.name) for part in fields(item)}


def _statement(item: dict[str, Any]) -> Statement:
    return Statement(
        key=item["key"],
        code=Code(*item["code"]),
        text=item["text"],
        origin=Origin(item["origin"]),
        evidence=tuple(item["evidence"]),
        leads=_leads(item.get("leads", ())),
    )


def _finding(item: dict[str, Any]) -> Finding:
    return Finding(
        **item
        | {
            "code": Code(*item["code"]),
            "origin": Origin(item["origin"]),
            "evidence": tuple(item["evidence"]),
            "leads": _leads(item.get("leads", ())),
        }
    )


def _explanation(item: dict[str, Any]) -> Explanation:
    return Explanation(
        **item
        | {
            "leads": {Lead(lead): weight for lead, weight in item["leads"].items()},
            "segments": tuple(Segment(**segment) for segment in item["segments"]),
            "beats": tuple((row, weight) for row, weight in item["beats"]),
        }
    )


def _leads(names: Iterable[str]) -> tuple[Lead, ...]:
    return tuple(Lead(name) for name in names)


def _packed(array: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return an array as JSON can hold it, exactly: its little-endian bytes in base64."""
    kind = array.dtype.newbyteorder("<")
    return {
        "dtype": kind.str,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.astype(kind, order="C").tobytes()).decode("ascii"),
    }


def _unpacked(document: dict[str, Any]) -> npt.NDArray[Any]:
    data = base64.b64decode(document["base64"])
    return np.frombuffer(data, document["dtype"]).reshape(document["shape"])


def _measurements_to_plain(meas: Measurements) -> dict[str, Any]:
    beat = meas.median_beat
    leads = list(meas.fiducials)
    kinds = list(FIDUCIAL_KINDS) if leads else []
    marks = [meas.fiducials[lead][kind] for lead in leads for kind in kinds]
    return {
        "quantities": {name: _plain(value) for name, value in meas.quantities()},
        "r_peaks": _packed(meas.r_peaks),
        "beat_kinds": list(meas.beat_kinds),
        "fiducials": {
            "leads": leads,
            "kinds": kinds,
            "marks": _packed(np.array(marks, dtype=np.float64)),
        },
        "median_beat": None
        if beat is None
        else {
            "leads": list(beat.leads),
            "sampling_frequency": beat.sampling_frequency,
            "signal": _packed(beat.signal),
        },
        "median_fiducials": {
            kind: None if np.isnan(mark) else float(mark)
            for kind, mark in meas.median_fiducials.items()
        },
    }


def _measurements_from_plain(document: dict[str, Any]) -> Measurements:
    beat, fiducials = document["median_beat"], document["fiducials"]
    marks = iter(_unpacked(fiducials["marks"]))
    return Measurements(
        **{
            name: Quantity(**item | {"beats": tuple(item["beats"])})
            for name, item in document["quantities"].items()
        },
        r_peaks=_unpacked(document["r_peaks"]),
        beat_kinds=tuple(map(BeatKind, document.get("beat_kinds", ()))),
        fiducials={
            lead: {kind: next(marks) for kind in fiducials["kinds"]} for lead in fiducials["leads"]
        },
        median_beat=None
        if beat is None
        else ECG(
            signal=_unpacked(beat["signal"]),
            leads=tuple(Lead(lead) for lead in beat["leads"]),
            sampling_frequency=beat["sampling_frequency"],
        ),
        median_fiducials={
            kind: np.nan if mark is None else mark
            for kind, mark in document["median_fiducials"].items()
        },
    )


def _lead_measurements(document: dict[str, Any] | None) -> LeadMeasurements:
    """Return the table of each lead; results stored before there was one have none."""
    if document is None:
        return LeadMeasurements()
    return LeadMeasurements(
        leads=_leads(document["leads"]),
        values=_unpacked(document["values"]),
        beats=tuple(document["beats"]),
    )
