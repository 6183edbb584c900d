"""What a model may read beside the waveform: named numbers from the measurements of an ECG.

A closed table: a card names the features that its graph wants, in its order, and a name that is
not in the table is refused. NaN is what was not measured; the graph knows what to make of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.beats import Beats, Prepared, median, windows, without_mains
from analysis.criteria.margins import (
    conduction_margin,
    rbbb_margin,
    repolarisation_margin,
    soundness_margin,
)
from analysis.criteria.rhythm import fibrillation_margin, led_by_p
from analysis.ecg import CHEST, ECG, STANDARD_12, Lead
from analysis.measure import Everything, everything
from analysis.morphology import depth, height
from analysis.quality import Assessed, examine
from analysis.result import LEAD_QUANTITIES, LeadMeasurements, Measurements
from analysis.rhythm import Rhythm

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Table = Mapping[str, float]
Named = Iterator[tuple[str, float]]

_GLOBAL = (
    "heart_rate", "p_duration", "pr_interval", "qrs_duration", "qt_interval", "jt_interval",
    "qtc_bazett", "qtc_fridericia", "qt_dispersion", "rr_variability", "atrial_rate",
    "sokolow_lyon", "cornell_voltage", "cornell_product",
)  # fmt: skip
_AXES = ("p_axis", "qrs_axis", "t_axis")
_RHYTHM = (
    "irregularity", "entropy", "p_constancy", "p_likeness", "p_share", "atrial_frequency",
    "atrial_share", "atrial_cycles", "spike",
)  # fmt: skip
_BEATS = ("ventricular", "supraventricular", "aberrant", "paced_beats")
_INTERVALS = ("deviation", "shortest", "longest", "change", "early", "turns", "alike")
_REGIONS: Mapping[str, tuple[Lead, ...]] = MappingProxyType(
    {
        "inferior": (Lead.II, Lead.III, Lead.aVF),
        "lateral": (Lead.I, Lead.aVL, Lead.V5, Lead.V6),
        "anterior": CHEST[:4],
        "all": STANDARD_12,
    }
)
_REGIONAL = ("st_60", "t_amplitude", "q_duration")
_RELATIVE = (
    "q_amplitude", "r_amplitude", "s_amplitude", "r2_amplitude", "st_j", "st_60", "st_80",
    "t_amplitude", "p_amplitude",
)  # fmt: skip
_ODDEST = ("deviation", "energy", "width", "prematurity", "pause", "t_deviation")
_FEWEST = 3  # RR intervals whose spread says something
_QRS, _T = (0.10, 0.15), (-0.16, 0.40)  # s before and after R: what beats are compared by
_EARLY = 0.88  # of the median RR interval
_SAME = 0.08  # of it: RR intervals no further apart are alike
_ALIKE = 0.3  # deviation of a beat of the usual shape
_BROAD = 0.3  # of its greatest deflection: where a QRS counts as wide
_TINY = 1e-9
_LARGEST = 1e6
_P_WINDOW = (0.36, 0.05)  # s before the QRS in which its P wave is looked for
_P_WIDTH = 0.018  # s, of the smoothing


def measure_features(ecg: ECG) -> Table:
    """Return every feature of an ECG that is measured for nothing else."""
    examined = examine(ecg, expected=STANDARD_12)
    return table(examined, everything(ecg, examined))


def table(examined: Assessed, measured: Everything) -> Table:
    """Return every feature of an ECG by its name; NaN where it was not measured."""
    return dict(
        (
            *_of_quantities(measured.measurements),
            *_of_rhythm(measured.rhythm),
            ("led_by_p", _led_by_p(measured)),
            *_of_beats(examined),
            *_of_p_wave(measured.measurements),
            *_of_leads(measured.leads),
            *_of_regions(measured.leads),
            *_of_margins(measured.measurements, measured.leads),
        )
    )


def chosen(known: Table, names: Sequence[str]) -> Features:
    """Return the named features, ``(names,)``, float32; what is beyond all bounds is NaN.

    Raises
    ------
    KeyError
        If a name is not one of :func:`names`.
    """
    values = np.array([known[name] for name in names], dtype=np.float64)
    values[~(np.abs(values) < _LARGEST)] = np.nan
    return values.astype(np.float32)


@cache
def names() -> tuple[str, ...]:
    """Return the name of every feature, in the order of the table."""
    nothing = np.empty((0, 0), dtype=np.float32)
    return tuple(measure_features(ECG(signal=nothing, leads=(), sampling_frequency=500.0)))


def _of_quantities(measurements: Measurements) -> Named:
    for name in _GLOBAL:
        yield name, _number(getattr(measurements, name).value)
    for name in _AXES:
        angle = np.radians(_number(getattr(measurements, name).value))
        yield f"{name}_cos", float(np.cos(angle))
        yield f"{name}_sin", float(np.sin(angle))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _of_rhythm(rhythm: Rhythm) -> Named:
    for name in _RHYTHM:
        yield name, float(getattr(rhythm, name))
    for name in _BEATS:
        beats = getattr(rhythm, name)
        yield f"{name}_share", float(beats.mean()) if beats.size else np.nan
    yield "fibrillation_margin", fibrillation_margin(rhythm)
    yield from zip((f"rr_{name}" for name in _INTERVALS), _spread(rhythm.rr), strict=True)
    seen = rhythm.conduction
    delays = seen.delays[np.isfinite(seen.delays)] if seen else np.empty(0)
    yield "p_per_beat", float(seen.waves.mean()) if seen else np.nan
    yield "p_delay", float(np.median(delays)) if delays.size else np.nan
    yield "p_delay_deviation", float(delays.std()) if delays.size else np.nan


def _led_by_p(measured: Everything) -> float:
    """Return whether P waves lead the beats, 1 or 0; NaN where there is no rhythm."""
    known = measured.rhythm.rr.size
    return float(led_by_p(measured.measurements, measured.rhythm)) if known else np.nan


def _spread(rr: Array) -> tuple[float, ...]:
    """Return how the RR intervals are spread, over their median."""
    if rr.size < _FEWEST:
        return (np.nan,) * len(_INTERVALS)
    relative = rr / np.median(rr)
    changes, ordered = np.diff(relative), np.sort(relative)
    alike = np.searchsorted(ordered, ordered + _SAME, side="right") - np.arange(rr.size)
    return (
        float(relative.std()),
        float(relative.min()),
        float(relative.max()),
        float(np.median(np.abs(changes))),
        float((relative[:-1] / np.maximum(relative[1:], _TINY)).min()),
        float((changes[1:] * changes[:-1] < 0).mean()),
        float(alike.max() / rr.size),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Oddities:
    """What each beat but the first and the last is, against the usual one, ``(beats,)``."""

    deviation: Array
    """Power of the difference of the QRS complexes over that of both: 0 the same, 2 no relation."""
    energy: Array
    """Logarithm of the power of its QRS over the usual one."""
    width: Array
    """Time that its QRS is large over that of the usual one."""
    t_deviation: Array
    """As ``deviation``, of the T wave."""
    prematurity: Array
    """RR interval before it, over the median."""
    pause: Array
    """RR interval after it, over the median."""


def _of_beats(examined: Assessed) -> Named:
    """Yield what the oddest beat, the earliest one and the earliest usual one look like."""
    found = _oddities(examined.prepared, examined.beats)
    if found is None:
        nothing = dict.fromkeys(_ODDEST, np.nan)
        for which in ("oddest", "earliest", "strangest"):
            yield from ((f"{which}.{name}", value) for name, value in nothing.items())
        for name in ("alike_prematurity", "odd_share", "early_share", "early_alike_share"):
            yield name, np.nan
        return
    early, alike = found.prematurity < _EARLY, found.deviation < _ALIKE
    picks = {
        "oddest": int(np.argmax(found.deviation)),
        "earliest": int(np.argmin(found.prematurity)),
        "strangest": int(np.argmax(found.deviation + 2 * (1 - found.prematurity))),
    }
    for which, beat in picks.items():
        for name in _ODDEST:
            yield f"{which}.{name}", float(getattr(found, name)[beat])
    yield "alike_prematurity", float(found.prematurity[alike].min()) if alike.any() else 1.0
    yield "odd_share", float((~alike).mean())
    yield "early_share", float(early.mean())
    yield "early_alike_share", float((early & alike).mean())


def _oddities(prepared: Prepared | None, beats: Beats | None) -> _Oddities | None:
    if prepared is None or beats is None or beats.r_peaks.size < _FEWEST + 1:
        return None
    rr = np.diff(beats.r_peaks) / np.median(np.diff(beats.r_peaks))
    qrs = _shapes(prepared, beats, _QRS)
    usual = median(qrs[beats.dominant])
    inner = qrs[1:-1]
    t_wave = _shapes(prepared, beats, _T)
    return _Oddities(
        deviation=_difference(inner, usual),
        energy=np.log((_power(inner) + _TINY) / (_power(usual[None]) + _TINY)),
        width=_width(inner) / np.maximum(_width(usual[None]), 1),
        t_deviation=_difference(t_wave[1:-1], median(t_wave[beats.dominant])),
        prematurity=rr[:-1].astype(np.float64),
        pause=rr[1:].astype(np.float64),
    )


def _shapes(prepared: Prepared, beats: Beats, span: tuple[float, float]) -> npt.NDArray[Any]:
    """Return the beats in a span about R, ``(beats, leads, samples)``, each about its mean."""
    before, after = (round(part * prepared.sampling_frequency) for part in span)
    cut = windows(prepared.clean, beats.r_peaks, before, after, beyond=0.0)
    cut = without_mains(cut, prepared.sampling_frequency)[:, :, ::4]
    shapes: npt.NDArray[Any] = cut - cut.mean(axis=2, keepdims=True)
    return shapes


def _power(shapes: npt.NDArray[Any]) -> Array:
    return np.asarray((shapes.astype(np.float64) ** 2).sum(axis=(1, 2)))


def _difference(shapes: npt.NDArray[Any], usual: npt.NDArray[Any]) -> Array:
    both = np.sqrt(_power(shapes) * _power(usual[None]))
    return np.asarray(_power(shapes - usual) / np.maximum(both, _TINY))


def _width(shapes: npt.NDArray[Any]) -> Array:
    """Return how many samples the QRS complexes are large."""
    size = np.sqrt((shapes**2).sum(axis=1))
    return np.asarray((size > _BROAD * size.max(axis=1, keepdims=True)).sum(axis=1), np.float64)


def _of_p_wave(measurements: Measurements) -> Named:
    """Yield where on the median beat a bump stands before the QRS, and how it stands out."""
    beat, onset = measurements.median_beat, measurements.median_fiducials.get("qrs_onset", np.nan)
    names = ("bump_delay", "bump_height", "bump_clearness")
    found = (np.nan,) * 3
    if beat is not None and np.isfinite(onset):
        found = _bump(beat, onset)
    yield from zip(names, found, strict=True)


def _bump(beat: ECG, onset: float) -> tuple[float, float, float]:
    rate = beat.sampling_frequency
    first, last = (max(0, round(onset - part * rate)) for part in _P_WINDOW)
    rows = beat.signal[np.isfinite(beat.signal).all(axis=1)].astype(np.float64)
    if last - first < round(0.1 * rate) or not len(rows):
        return (np.nan,) * 3
    curved = -ndimage.gaussian_filter1d(rows, _P_WIDTH * rate, axis=1, order=2) * rate
    size = np.sqrt((curved**2).mean(axis=0))
    part = size[first:last]
    best = int(np.argmax(part))
    delay = (onset - first - best) / rate * 1000
    return float(delay), float(part[best]), float(part[best] / (np.median(part) + _TINY))


def _of_leads(leads: LeadMeasurements) -> Named:
    size = _size(leads)
    yield "qrs_size", size
    for lead in STANDARD_12:
        for name in LEAD_QUANTITIES:
            yield f"{lead}.{name}", leads.value(lead, name)
        for name in _RELATIVE:
            yield f"{lead}.{name}_relative", leads.value(lead, name) / size


def _size(leads: LeadMeasurements) -> float:
    """Return the mean height of the QRS complexes from lowest to highest, mV."""
    each = np.array([height(leads, lead) + depth(leads, lead) for lead in leads.leads])
    known = each[np.isfinite(each)]
    return float(known.mean()) if known.any() else np.nan


def _of_regions(leads: LeadMeasurements) -> Named:
    for region, members in _REGIONS.items():
        for name in _REGIONAL:
            values = np.array([leads.value(lead, name) for lead in members])
            known = values[np.isfinite(values)]
            yield f"{region}.{name}_lowest", float(known.min()) if known.size else np.nan
            yield f"{region}.{name}_highest", float(known.max()) if known.size else np.nan


def _of_margins(measurements: Measurements, leads: LeadMeasurements) -> Named:
    yield "conduction_margin", conduction_margin(measurements, leads)
    yield "rbbb_margin", rbbb_margin(measurements, leads)
    yield "repolarisation_margin", repolarisation_margin(leads)
    yield "soundness_margin", soundness_margin(measurements, leads)
