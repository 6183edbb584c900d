"""The ECG itself: leads, millivolts, and the algebra of the limb leads.

Everything else of the house speaks in these types. Arrays are ``(leads, samples)``, float32,
in mV and read-only; NaN means that no sample was recorded there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float32]


class Lead(StrEnum):
    """A lead by its usual name (PS3.16 CID 3001 holds the codes)."""

    I = "I"  # noqa: E741 - the name of the lead
    II = "II"
    III = "III"
    aVR = "aVR"
    aVL = "aVL"
    aVF = "aVF"
    V1 = "V1"
    V2 = "V2"
    V3 = "V3"
    V4 = "V4"
    V5 = "V5"
    V6 = "V6"
    V7 = "V7"
    V8 = "V8"
    V9 = "V9"
    V3R = "V3R"
    V4R = "V4R"
    V5R = "V5R"
    V6R = "V6R"
    V7R = "V7R"
    V8R = "V8R"
    V9R = "V9R"
    X = "X"
    Y = "Y"
    Z = "Z"
    MLII = "MLII"
    ECG = "ECG"
    """An ECG lead that its source does not name (MDC 2:0, "Unspecified lead")."""

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the lead that a free-text name means ("Lead I", "avf", "V 1"), or None."""
        return cls.__members__.get(_CANONICAL.get(_squeeze(name), ""))


def _squeeze(name: str) -> str:
    text = name.strip(" \0").lower()
    return text.removeprefix("lead").strip(" -_:").replace(" ", "")


_CANONICAL: Mapping[str, str] = {lead.lower(): lead.name for lead in Lead}

LIMB = (Lead.I, Lead.II, Lead.III, Lead.aVR, Lead.aVL, Lead.aVF)
CHEST = (Lead.V1, Lead.V2, Lead.V3, Lead.V4, Lead.V5, Lead.V6)
STANDARD_12 = LIMB + CHEST


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ECG:
    """One simultaneous recording.

    Parameters
    ----------
    signal
        ``(leads, samples)`` in mV; stored as a read-only float32 copy. NaN = no sample.
    leads
        One name per row, none twice.
    sampling_frequency
        Samples per second of each lead, in Hz.
    start
        When the first sample was taken, if known.

    Raises
    ------
    ValueError
        If the parts do not fit each other. A constructed ECG is always consistent.
    """

    signal: Signal
    leads: tuple[Lead, ...]
    sampling_frequency: float
    start: datetime | None = None

    def __post_init__(self) -> None:
        signal = np.array(self.signal, dtype=np.float32, order="C")
        leads = tuple(Lead(lead) for lead in self.leads)
        rate = float(self.sampling_frequency)
        if signal.ndim != 2:  # noqa: PLR2004 - (leads, samples)
            raise ValueError(f"signal must be (leads, samples), not {signal.ndim}-dimensional")
        if len(leads) != signal.shape[0]:
            raise ValueError(f"{signal.shape[0]} rows of signal but {len(leads)} lead names")
        if len(set(leads)) != len(leads):
            raise ValueError("a lead is named twice")
        if not (np.isfinite(rate) and rate > 0):
            raise ValueError("sampling_frequency must be a positive number of Hz")
        signal.flags.writeable = False
        object.__setattr__(self, "signal", signal)
        object.__setattr__(self, "leads", leads)
        object.__setattr__(self, "sampling_frequency", rate)

    @property
    def samples(self) -> int:
        """Samples per lead."""
        return int(self.signal.shape[1])

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.sampling_frequency

    def __contains__(self, lead: object) -> bool:
        return lead in self.leads

    def __getitem__(self, lead: str) -> Signal:
        """Return one lead, ``(samples,)`` in mV. Raises KeyError where it is absent."""
        try:
            row: Signal = self.signal[self.leads.index(Lead(lead))]
        except ValueError:
            raise KeyError(lead) from None
        return row

    def select(self, leads: Iterable[Lead]) -> Self:
        """Return the same recording with these leads, in this order."""
        chosen = tuple(leads)
        rows = [self.leads.index(lead) for lead in chosen]
        return type(self)(
            signal=self.signal[rows],
            leads=chosen,
            sampling_frequency=self.sampling_frequency,
            start=self.start,
        )


# Each limb lead from two others: Einthoven's law III = II - I and Goldberger's definitions
# aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2.
_FROM_I_II: Mapping[Lead, tuple[float, float]] = {
    Lead.I: (1.0, 0.0),
    Lead.II: (0.0, 1.0),
    Lead.III: (-1.0, 1.0),
    Lead.aVR: (-0.5, -0.5),
    Lead.aVL: (1.0, -0.5),
    Lead.aVF: (-0.5, 1.0),
}


def derive_limb_leads(ecg: ECG) -> tuple[ECG, tuple[Lead, ...]]:
    """Return the ECG with every limb lead that two recorded ones determine, and their names.

    Derived leads are appended after the recorded ones; nothing recorded is changed. Fewer than
    two of the six limb leads determine none.
    """
    present = [lead for lead in LIMB if lead in ecg]
    missing = tuple(lead for lead in LIMB if lead not in ecg)
    if len(present) < 2 or not missing:  # noqa: PLR2004 - two leads span the frontal plane
        return ecg, ()
    basis = np.array([_FROM_I_II[lead] for lead in present[:2]])
    targets = np.array([_FROM_I_II[lead] for lead in missing])
    weights = targets @ np.linalg.inv(basis)
    one, other = (ecg[lead].astype(np.float64) for lead in present[:2])
    computed = weights[:, :1] * one + weights[:, 1:] * other
    return ECG(
        signal=np.concatenate([ecg.signal, computed.astype(np.float32)]),
        leads=ecg.leads + missing,
        sampling_frequency=ecg.sampling_frequency,
        start=ecg.start,
    ), missing


class Sex(StrEnum):
    """Patient's Sex (0010,0040)."""

    MALE = "M"
    FEMALE = "F"
    OTHER = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What the source says of the patient; identity is copied verbatim, never completed.

    The representation shows no identity, so that none can slip into a log.
    """

    age: float | None = None
    """Years at the time of the recording."""
    sex: Sex | None = None
    identifier: str | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    birth_date: date | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How and when the recording was made, as far as the source says."""

    acquired_at: datetime | None = None
    manufacturer: str | None = None
    model: str | None = None
    software: str | None = None
    filter_low_frequency: float | None = None
    """Lower edge of the pass band, Hz."""
    filter_high_frequency: float | None = None
    """Upper edge of the pass band, Hz."""
    notch_filter_frequency: float | None = None
    """Hz."""


class Code(tuple[str, str, str]):
    """A coded concept: (scheme, value, meaning), compared by scheme and value."""

    __slots__ = ()

    def __new__(cls, scheme: str, value: str, meaning: str) -> Self:
        """Return the code; the three words stand in the order of the DESIGN."""
        return super().__new__(cls, (scheme, value, meaning))

    @property
    def scheme(self) -> str:
        """Coding Scheme Designator (0008,0102)."""
        return self[0]

    @property
    def value(self) -> str:
        """Code Value (0008,0100)."""
        return self[1]

    @property
    def meaning(self) -> str:
        """Code Meaning (0008,0104)."""
        return self[2]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and self[:2] == other[:2]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:2])

    def __getnewargs__(self) -> tuple[str, str, str]:
        return (self[0], self[1], self[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One mark or value that the source carries beside the samples.

    Parameters
    ----------
    text
        Free text, if it is one.
    code
        What the item is about.
    value, unit
        A number with its UCUM unit, if it is one.
    leads
        To which leads it applies; empty for all.
    samples
        0-based sample positions in the rhythm, if it marks some.
    group
        Items of one group belong together (one beat, for example).
    """

    text: str | None = None
    code: Code | None = None
    value: float | None = None
    unit: str | None = None
    leads: tuple[Lead, ...] = ()
    samples: tuple[float, ...] = ()
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorStatement:
    """What the cart's own program said; never verified by us, never a label by itself."""

    text: str
    code: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """Everything one source holds: the rhythm, and what stands around it."""

    ecg: ECG
    median_beat: ECG | None = None
    format: str
    """Name of the encoding, for example ``"DICOM 12-lead ECG"``."""
    patient: Patient = Patient()
    acquisition: Acquisition = Acquisition()
    vendor_statements: tuple[VendorStatement, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    notes: tuple[str, ...] = ()
    """One sentence for each thing that was derived, repaired or ignored."""
    derived_leads: tuple[Lead, ...] = ()
    """Leads computed by identity from recorded ones."""
