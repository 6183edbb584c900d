"""ECGs as EDF+, by edfio: 16 bits, each lead with a physical range of its own in µV.

References
----------
Kemp and Olivan 2003 (EDF+), www.edfplus.info.
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from analysis.ecg import ECG, Acquisition, Recording, Sex, Signal
from analysis.formats.common import usual_step

if TYPE_CHECKING:
    import edfio

_STEPS: Final = 32_000
"""A round number of steps, so that usual steps give ranges of a few digits."""
_LARGEST: Final = 32_767
_WIDEST: Final = 9_999_999.0
"""µV, in the eight characters of a header field."""
_RECORD_BYTES: Final = 61_440
"""That a data record should not exceed (EDF, 1992)."""
_SHORTEST: Final = 0.001
"""Seconds of a record."""
_EXACT: Final = 1e-12
_OFF: Final = 1e-6
"""Of the rate, that eight characters may leave it off."""
_SEXES: Final[Mapping[Sex, Literal["F", "M"]]] = {Sex.MALE: "M", Sex.FEMALE: "F"}
_FIELD: Final = 80
_WORD: Final = 40
"""Characters of a subfield, of which a field has several."""


class _Layout(NamedTuple):
    size: int
    """Samples of a lead in a record."""
    duration: float
    """Seconds of a record, as its eight characters say it."""


def encode(recording: Recording, stem: str) -> Mapping[str, bytes]:
    """Return one EDF+ file by its name.

    Identification is written where the fields of EDF+ hold it, with underscores for blanks;
    marks that have a text become annotations.

    Raises
    ------
    ValueError
        Where EDF+ cannot hold the ECG: a sample that was not recorded, a rate that no record
        length gives to a millionth, more than ±10 V; or where edfio is not installed.
    """
    try:
        import edfio  # noqa: PLC0415 - of the extra, like everywhere below
    except ImportError:
        raise ValueError("EDF+ needs the extra: pip install 'sinusnode[formats]'") from None
    ecg = recording.ecg
    layout = _layout(ecg)
    start = recording.acquisition.acquired_at or ecg.start
    made = edfio.Edf(
        list(_signals(ecg, layout, recording.acquisition)),
        patient=_patient(recording),
        recording=edfio.Recording(
            startdate=start.date() if start else None,
            equipment_code=_subfield(recording.acquisition.model),
        ),
        starttime=start.time().replace(tzinfo=None) if start else None,
        data_record_duration=layout.duration,
        annotations=list(_annotations(recording)),
    )
    return {f"{stem}.edf": made.to_bytes()}


def _layout(ecg: ECG) -> _Layout:
    """Return records that hold the samples without remainder, of about a second if possible."""
    rate = Fraction(str(ecg.sampling_frequency))
    layouts = [
        _Layout(size, float(_eight_characters(size / rate)))
        for size in _divisors(ecg.samples)
        if size / rate >= _SHORTEST
    ]
    best = min(layouts, key=lambda layout: _cost(layout, ecg), default=None)
    if best is None or _off(best, ecg) > _OFF:
        raise ValueError(
            f"EDF+ has no record length for {ecg.samples} samples at {ecg.sampling_frequency:g} Hz"
        )
    return best


def _divisors(number: int) -> Iterator[int]:
    for small in range(1, math.isqrt(number) + 1):
        if number % small == 0:
            yield from {small, number // small}


def _eight_characters(seconds: Fraction) -> str:
    return f"{float(seconds):.{max(0, 7 - len(str(int(seconds))))}f}"


def _off(layout: _Layout, ecg: ECG) -> float:
    return abs(layout.size / layout.duration / ecg.sampling_frequency - 1)


def _cost(layout: _Layout, ecg: ECG) -> tuple[float, bool, float]:
    off = _off(layout, ecg)
    large = layout.size * len(ecg.leads) * 2 > _RECORD_BYTES
    return off if off > _EXACT else 0.0, large, abs(layout.duration - 1)


def _signals(ecg: ECG, layout: _Layout, acquisition: Acquisition) -> Iterator["edfio.EdfSignal"]:
    import edfio  # noqa: PLC0415 - of the extra

    for lead, row in zip(ecg.leads, ecg.signal, strict=True):
        if not np.isfinite(row).all():
            raise ValueError(f"EDF+ cannot hold samples that were not recorded (lead {lead})")
        steps, peak = _range(row)
        yield edfio.EdfSignal.from_digital(
            np.rint(row.astype(np.float64) * (1000 * steps / peak)).astype(np.int16),
            layout.size / layout.duration,
            label="ECG" if lead == "ECG" else f"ECG {lead}",
            physical_dimension="uV",
            physical_range=(-peak, peak),
            digital_range=(-steps, steps),
            prefiltering=_prefiltering(acquisition),
        )


def _range(row: Signal) -> tuple[int, float]:
    """Return how many steps a lead has on either side of zero, and what µV the last is."""
    if step := usual_step(row, _STEPS):
        return _STEPS, _STEPS * step
    peak = float(math.ceil(1000 * float(np.abs(row).max())))
    if peak > _WIDEST:
        raise ValueError("EDF+ holds no more than 10 V")
    return _LARGEST, peak


def _prefiltering(acquisition: Acquisition) -> str:
    edges = (
        ("HP", acquisition.filter_low_frequency),
        ("LP", acquisition.filter_high_frequency),
        ("N", acquisition.notch_filter_frequency),
    )
    return " ".join(f"{name}:{edge:g}Hz" for name, edge in edges if edge)


def _patient(recording: Recording) -> "edfio.Patient":
    import edfio  # noqa: PLC0415 - of the extra

    patient = recording.patient
    code, name = _subfield(patient.identifier), _subfield(patient.name)
    if len(code) + len(name) > _FIELD - len(" M 02-AUG-1951 "):
        name = "X"
    return edfio.Patient(
        code=code,
        sex=_SEXES.get(patient.sex or Sex.OTHER, "X"),
        birthdate=patient.birth_date,
        name=name,
    )


def _subfield(words: str | None) -> str:
    """Return words as a subfield of EDF+: without blanks, and X where it cannot hold them."""
    text = "_".join((words or "").split())
    return text if text and text.isascii() and text.isprintable() and len(text) <= _WORD else "X"


def _annotations(recording: Recording) -> Iterator["edfio.EdfAnnotation"]:
    import edfio  # noqa: PLC0415 - of the extra

    rate = recording.ecg.sampling_frequency
    for item in recording.annotations:
        if item.text is None or not item.samples or not item.samples[0] >= 0:
            continue
        begin, end = item.samples[0] / rate, item.samples[-1] / rate
        text = "".join(filter(str.isprintable, item.text))
        yield edfio.EdfAnnotation(begin, end - begin if end > begin else None, text)
