"""What the delineator learns from: LUDB's annotated beats, simulated hearts, and their variation.

An example is a few beats of one shape, so that each draw gives another median beat with the
mean of the marks on just these beats. Beats that LUDB does not annotate, its first and last,
never enter.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import wfdb
from scipy import ndimage

from analysis.beats import Beats, Prepared, median, windows
from analysis.delineator import BEFORE as CENTRE
from analysis.delineator import SAMPLES
from analysis.ecg import ECG, Lead
from analysis.fiducials import AFTER, BEFORE, DECIMATION
from analysis.quality import examine
from analysis.result import FIDUCIAL_KINDS
from analysis.synthetic import Kind, simulate

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]

WAVES: Final = {"p": (0, -0.5, 0.0), "N": (3, -0.12, 0.12), "t": (6, 0.0, 0.7)}
"""LUDB's symbols, their first column, and where from R their peak may lie, s."""
_QRS_ONSET = 3
_P_PEAK = 1


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """The annotated whole beats of one shape.

    Parameters
    ----------
    beats
        ``(beats, leads, SAMPLES)`` in mV.
    marks
        ``(beats, leads, 9)`` in samples of them; NaN where none stands.
    """

    beats: npt.NDArray[np.float32]
    marks: Array


def read_marks(record: Path, lead: str) -> dict[str, Array]:
    """Return the waves of a lead of LUDB by symbol, each ``(waves, 3)``: onset, peak, offset."""
    read = wfdb.rdann(str(record), lead.lower())
    rows: dict[str, list[list[float]]] = {symbol: [] for symbol in WAVES}
    symbols, samples = ["", *read.symbol, ""], [np.nan, *read.sample.tolist(), np.nan]
    for index, symbol in enumerate(symbols):
        if symbol in rows:
            rows[symbol].append([
                samples[index - 1] if symbols[index - 1] == "(" else np.nan,
                samples[index],
                samples[index + 1] if symbols[index + 1] == ")" else np.nan,
            ])  # fmt: skip
    return {symbol: np.array(waves).reshape(-1, 3) for symbol, waves in rows.items()}


def read_ludb(data: Path) -> dict[str, list[Example]]:
    """Return the examples of each record, by its name, in the order of subjects."""
    folder = data / "ludb" / "data"
    names = sorted((path.stem for path in folder.glob("*.hea")), key=int)
    return {name: _of_record(folder / name) for name in names}


def _of_record(record: Path) -> list[Example]:
    samples, header = wfdb.rdsamp(str(record))
    leads = [Lead(name) for name in map(Lead.parse, header["sig_name"]) if name]
    ecg = ECG(signal=samples.T, leads=tuple(leads), sampling_frequency=header["fs"])
    examined = examine(ecg, expected=ecg.leads)
    if not (examined.prepared and examined.beats and examined.beats.r_peaks.size):
        return []
    ratio = examined.prepared.sampling_frequency / ecg.sampling_frequency
    r_peaks = examined.beats.r_peaks / examined.prepared.sampling_frequency
    marks = np.stack(
        [
            _by_beat(read_marks(record, lead), r_peaks, ecg.sampling_frequency)
            for lead in examined.usable
        ],
        axis=1,
    )
    return _by_shape(examined.prepared, examined.beats, marks * ratio)


def _by_beat(waves: dict[str, Array], r_peaks: Array, rate: float) -> Array:
    """Return the marks nearest to each beat, ``(beats, 9)`` in samples."""
    marks = np.full((r_peaks.size, len(FIDUCIAL_KINDS)), np.nan)
    for symbol, (column, first, last) in WAVES.items():
        for beat, r_peak in zip(marks, r_peaks, strict=True):
            distance = waves[symbol][:, 1] / rate - r_peak
            near = np.flatnonzero((distance > first) & (distance < last))
            if near.size:
                nearest = near[np.argmin(np.abs(distance[near]))]
                beat[column : column + 3] = waves[symbol][nearest]
    return marks


def _by_shape(prepared: Prepared, beats: Beats, marks: Array) -> list[Example]:
    cut = windows(prepared.clean, beats.r_peaks, BEFORE, AFTER)
    own = (marks - beats.r_peaks[:, None, None] + BEFORE) / DECIMATION
    known = np.isfinite(marks[:, :, _QRS_ONSET]).any(axis=1) & ~np.isnan(cut).any(axis=(1, 2))
    groups = [known & (beats.classes == number) for number in range(beats.classes.max() + 1)]
    return [
        Example(cut[group][:, :, ::DECIMATION].astype(np.float32), own[group])
        for group in groups
        if group.any()
    ]


_HEARTS: Final = (
    Kind.SINUS,
    Kind.SINUS,
    Kind.BRADYCARDIA,
    Kind.TACHYCARDIA,
    Kind.ATRIAL_FIBRILLATION,
    Kind.ATRIAL_FIBRILLATION,
    Kind.LBBB,
    Kind.FIRST_DEGREE_AV_BLOCK,
)
_USUAL: Final = {
    Kind.SINUS: {"heart_rate": (44, 96), "pr_interval": (124, 226), "qrs_duration": (72, 124)},
    Kind.LBBB: {"qrs_duration": (126, 170), "pr_interval": (130, 210)},
    Kind.FIRST_DEGREE_AV_BLOCK: {"pr_interval": (205, 260)},
}
_EVEN: Final = {
    Kind.SINUS: {"heart_rate": (44, 96), "pr_interval": (124, 226), "qrs_duration": (54, 140)},
    Kind.BRADYCARDIA: {"heart_rate": (38, 50), "qrs_duration": (54, 140)},
    Kind.TACHYCARDIA: {"heart_rate": (100, 130), "qrs_duration": (54, 120)},
    Kind.ATRIAL_FIBRILLATION: {"heart_rate": (70, 125), "qrs_duration": (54, 140)},
    Kind.LBBB: {"qrs_duration": (126, 170), "pr_interval": (130, 210)},
    Kind.FIRST_DEGREE_AV_BLOCK: {"pr_interval": (205, 260), "qrs_duration": (54, 140)},
}
_RATES: Final = (500.0, 500.0, 500.0, 100.0, 125.0, 250.0, 360.0, 1000.0)
_NOISES: Final = (0.0, 0.0, 0.005, 0.01, 0.02)


def simulated(count: int, random: np.random.Generator, *, even: bool = False) -> list[Example]:
    """Return examples of simulated hearts, whose marks are exact; R peaks are left unmarked.

    Parameters
    ----------
    count
        How many at least.
    random
        What decides.
    even
        Whether their intervals are spread evenly, narrow QRS too, or mostly near the usual.
    """
    found: list[Example] = []
    while len(found) < count:
        kind = _HEARTS[random.integers(len(_HEARTS))]
        ranges = _EVEN[kind] if even else _usual(kind, random)
        made = simulate(
            kind,
            seed=int(random.integers(1000, 10**6)),
            noise=float(random.choice(_NOISES)),
            sampling_frequency=float(random.choice(_RATES)),
            **{name: float(random.uniform(*bounds)) for name, bounds in ranges.items()},
        )
        found += _of_simulated(made.ecg, made.r_peaks, made.fiducials)
    return found


def _usual(kind: Kind, random: np.random.Generator) -> Mapping[str, tuple[int, int]]:
    return _USUAL.get(kind, {}) if random.random() < 0.7 else {}  # noqa: PLR2004 - the rest are typical


def _of_simulated(ecg: ECG, r_peaks: Array, fiducials: Array) -> list[Example]:
    examined = examine(ecg, expected=ecg.leads)
    if examined.usable != ecg.leads or not examined.prepared or not examined.beats:
        return []
    rate = examined.prepared.sampling_frequency
    true = r_peaks * (rate / ecg.sampling_frequency)
    distance = np.abs(examined.beats.r_peaks[:, None] - true)
    nearest = true[distance.argmin(axis=1)]
    nearest[distance.min(axis=1) > 0.08 * rate] = np.nan
    marks = nearest[:, None] + fiducials * rate / 1000
    marks[:, FIDUCIAL_KINDS.index("r_peak")] = np.nan
    every = np.repeat(marks[:, None], len(ecg.leads), axis=1)
    return _by_shape(examined.prepared, examined.beats, every)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Beats with their marks.

    Parameters
    ----------
    beats
        ``(batch, leads, SAMPLES)``.
    marks
        ``(batch, leads + 1, 9)``, the last row of all leads together.
    p_wave
        ``(batch,)``: part of the beats that have a P wave in any lead.
    """

    beats: npt.NDArray[np.float32]
    marks: npt.NDArray[np.float32]
    p_wave: npt.NDArray[np.float32]


def draw(
    examples: Sequence[Example],
    size: int,
    leads: int,
    random: np.random.Generator,
    *,
    plain: bool = False,
) -> Batch:
    """Return median beats of examples drawn at random, on as many random leads.

    Parameters
    ----------
    examples
        From which each is drawn anew.
    size, leads
        Of the batch.
    random
        What decides.
    plain
        Whether they stay as they are instead of being varied.
    """
    drawn = []
    for _ in range(size):
        beat, marks, p_wave = _some(examples[int(random.integers(len(examples)))], leads, random)
        if not plain:
            beat, marks = _warped(beat, marks, random)
            beat = _disturbed(beat, random)
        drawn.append((beat, marks, p_wave))
    return Batch(*(np.array(part, np.float32) for part in zip(*drawn, strict=True)))


def _some(example: Example, leads: int, random: np.random.Generator) -> tuple[Floats, Array, float]:
    """Return the median of some beats, its marks, and in which part of them there is a P wave."""
    count = len(example.beats)
    few = count if random.random() < 0.5 else random.integers(1, min(4, count) + 1)  # noqa: PLR2004 - half are what is served
    beats = random.permutation(count)[:few]
    rows = random.permutation(example.beats.shape[1])[:leads]
    marks = with_global(example.marks[beats][:, rows])
    known = np.isfinite(marks)
    with warnings.catch_warnings(action="ignore"):
        mean = np.where(known.mean(axis=0) < 0.5, np.nan, np.nanmean(marks, axis=0))  # noqa: PLR2004 - most beats
    p_wave = float(known[:, :-1, _P_PEAK].any(axis=1).mean())
    return median(example.beats[beats][:, rows]), mean, p_wave


def with_global(marks: Array) -> Array:
    """Return the marks with a row for all leads together, ``(beats, leads + 1, 9)``.

    From the second-earliest onset to the second-latest offset where there are more than three
    leads, else from the very first to the very last (CSE Working Party 1985 weighed outliers
    alike); peaks are medians.
    """
    sign = np.array([1, 0, -1] * 3)
    ordered = np.sort(np.where(sign == -1, -marks, marks), axis=1)
    many = np.isfinite(marks).sum(axis=1) > 3  # noqa: PLR2004 - see above
    extreme = np.where(many, ordered[:, min(1, marks.shape[1] - 1)], ordered[:, 0])
    with warnings.catch_warnings(action="ignore"):
        middle = np.nanmedian(marks, axis=1)
    together = np.where(sign == 0, middle, np.where(sign == -1, -extreme, extreme))
    return np.concatenate([marks, together[:, None]], axis=1)


def _warped(beat: Floats, marks: Array, random: np.random.Generator) -> tuple[Floats, Array]:
    """Return beat and marks in a time that runs faster here and slower there, and moved."""
    time = np.arange(SAMPLES)
    speed = np.zeros(SAMPLES)
    if random.random() < 0.8:  # noqa: PLR2004 - most
        knots = random.normal(random.normal(0, 0.06), 0.1, 6)
        speed = np.interp(time, np.linspace(0, SAMPLES - 1, 6), knots)
    source = np.cumsum(np.exp(speed))
    source += CENTRE - np.interp(CENTRE + random.uniform(-6, 6), time, source)
    moved = np.interp(marks, source, time, left=np.nan, right=np.nan)
    return np.stack([np.interp(source, time, row) for row in beat]), moved


def _disturbed(beat: Floats, random: np.random.Generator) -> Floats:
    """Return the beat with other gains, some leads upside down, noise, and blurred."""
    shape = (len(beat), 1)
    gains = np.exp(random.normal(0, 0.3, shape))
    varied: Floats = beat * gains * random.choice([1, -1], shape, p=[0.85, 0.15])
    if random.random() < 0.5:  # noqa: PLR2004 - every other
        noise = random.standard_normal(beat.shape)
        if random.random() < 0.5:  # noqa: PLR2004 - every other
            noise = 0.3 * np.cumsum(noise, axis=1)
        size = np.abs(varied).max(axis=1).mean()
        varied += noise * random.choice([0.002, 0.005, 0.01, 0.02]) * size
    if random.random() < 0.3:  # noqa: PLR2004 - as from slow recorders
        return np.asarray(ndimage.gaussian_filter1d(varied, random.uniform(0.3, 1.2), axis=1))
    return varied
