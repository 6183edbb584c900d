"""From an ECG as recorded to the form a model was trained on.

Training and serving both pass through this one function. Every step is recorded in words, so
that a report can say what the model saw. Nothing is guessed: an ECG knows its unit, rate and
leads, or it is none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter
from scipy.signal import butter, firwin, resample_poly, sosfiltfilt

from analysis.ecg import ECG, Lead, Signal, derive_limb_leads
from analysis.recipe import Baseline, Length, Normalisation, Recipe, Unit

Mask = npt.NDArray[np.bool_]
_Float = npt.NDArray[np.float64]

_MICROVOLTS_PER_MILLIVOLT = 1000.0
_SLOWEST, _FASTEST = 50.0, 50_000.0
"""Sampling frequencies in Hz between which a recording can show a QRS complex."""
_FINEST_RATIO = 10_000
"""Largest denominator of a resampling ratio: at worst 1 ms of drift in 10 s."""
_TAPS_EACH_SIDE = 20
"""Of the anti-aliasing filter, per sample of the slower rate."""
_TRANSITION = 0.9
"""Its −6 dB point, as a part of the slower rate's half."""
_KAISER_BETA = 8.0
"""Its stop band: 80 dB down, from the slower rate's half on."""
_FILTER_ORDER = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standardised:
    """An ECG in a recipe's form.

    Parameters
    ----------
    signal
        ``(leads, samples)``, float32, read-only, in the recipe's lead order, rate and unit;
        zero where nothing was recorded. At least one input long; longer only where the
        recipe reads windows.
    mask
        ``(leads, samples)``: where ``signal`` rests on recorded samples.
    steps
        What was done, in order, in words.
    missing_leads
        Leads of the recipe without enough recorded signal: rows of zeros.
    unusable
        Why a model must not read it, or None.
    recipe
        The recipe that was followed.
    """

    signal: Signal
    mask: Mask
    steps: tuple[str, ...]
    missing_leads: tuple[Lead, ...]
    unusable: str | None
    recipe: Recipe

    @property
    def starts(self) -> tuple[int, ...]:
        """The sample at which each window begins; the last one ends with the signal."""
        last = self.signal.shape[1] - self.recipe.samples
        return (*range(0, last, self.recipe.stride), last)

    @property
    def windows(self) -> Signal:
        """The model's inputs, ``(windows, leads, samples)``."""
        size = self.recipe.samples
        return np.stack([self.signal[:, start : start + size] for start in self.starts])


def standardise(ecg: ECG, recipe: Recipe) -> Standardised:
    """Return the ECG in the recipe's form, and every step that led there.

    The order is fixed: exact derivation and choice of leads, gaps bridged by straight lines,
    resampling, pass band, baseline, length, unit, normalisation, gaps set to zero. The same
    ECG and recipe give the same result everywhere.

    Parameters
    ----------
    ecg
        ``(leads, samples)`` in mV at any rate; NaN where no sample was recorded.
    recipe
        The form wanted.

    Returns
    -------
    Standardised
        Always of the recipe's shape. Where too little was recorded, ``unusable`` says why and
        the signal is zeros.
    """
    rows, missing, steps = _choose_leads(ecg, recipe)
    unusable = _why_unusable(ecg, recipe, missing)
    if unusable:
        signal = np.zeros((len(recipe.leads), recipe.samples))
        mask = np.zeros(signal.shape, dtype=np.bool_)
    else:
        signal, mask = _process(rows, ecg.sampling_frequency, recipe, steps)
    standard = signal.astype(np.float32)
    standard.flags.writeable = mask.flags.writeable = False
    return Standardised(
        signal=standard,
        mask=mask,
        steps=tuple(steps),
        missing_leads=missing,
        unusable=unusable,
        recipe=recipe,
    )


def can_read(ecg: ECG, recipe: Recipe) -> bool:
    """Return whether the ECG has what the recipe asks for."""
    return _why_unusable(ecg, recipe, _choose_leads(ecg, recipe)[1]) is None


def _choose_leads(ecg: ECG, recipe: Recipe) -> tuple[_Float, tuple[Lead, ...], list[str]]:
    """Return the recipe's rows (NaN where missing), which are missing, and the first steps."""
    enough = recipe.minimum_seconds * ecg.sampling_frequency
    counts = np.isfinite(ecg.signal).sum(axis=1)
    recorded = [lead for lead, n in zip(ecg.leads, counts, strict=True) if n and n + 0.5 >= enough]
    whole, derived = derive_limb_leads(ecg.select(recorded))
    rows = np.full((len(recipe.leads), ecg.samples), np.nan)
    for row, lead in zip(rows, recipe.leads, strict=True):
        if lead in whole:
            row[:] = whole[lead]
    missing = tuple(lead for lead in recipe.leads if lead not in whole)
    steps = [f"leads in the order {' '.join(recipe.leads)}"]
    if used := [lead for lead in derived if lead in recipe.leads]:
        steps.append(f"derived from the other limb leads: {' '.join(used)}")
    if missing:
        steps.append(f"missing, set to zero: {' '.join(missing)}")
    return rows, missing, steps


def _why_unusable(ecg: ECG, recipe: Recipe, missing: tuple[Lead, ...]) -> str | None:
    if ecg.duration + 0.5 / ecg.sampling_frequency < recipe.minimum_seconds:
        return (
            f"the recording lasts {ecg.duration:.1f} s, "
            f"and the model needs {recipe.minimum_seconds:g} s"
        )
    if not _SLOWEST <= ecg.sampling_frequency <= _FASTEST:
        return f"{ecg.sampling_frequency:g} Hz is no sampling frequency of an ECG"
    if len(missing) > recipe.allowed_missing:
        return f"not enough signal in {', '.join(missing)}"
    return None


def _process(rows: _Float, rate: float, recipe: Recipe, steps: list[str]) -> tuple[_Float, Mask]:
    recorded = np.isfinite(rows)
    signal = _bridge_gaps(rows, recorded, steps)
    signal, mask = _resample(signal, recorded, rate, recipe, steps)
    signal = _filter(signal, recipe, steps)
    signal = _subtract_baseline(signal, mask, recipe, steps)
    signal, mask = _fit_length(signal, mask, recipe, steps)
    return _scale(signal, mask, recipe, steps), mask


def _bridge_gaps(rows: _Float, recorded: Mask, steps: list[str]) -> _Float:
    """Return the rows with straight lines over gaps, and zeros where a lead is missing."""
    signal = np.where(recorded, rows, 0.0)
    present = recorded.any(axis=1)
    gaps = int((~recorded[present]).sum())
    if gaps:
        steps.append(f"{gaps} samples without a value bridged, later set to zero")
    at = np.arange(rows.shape[1])
    for row, known in zip(signal, recorded, strict=True):
        if known.any() and not known.all():
            row[:] = np.interp(at, at[known], row[known])
    return signal


def _resample(
    signal: _Float, mask: Mask, rate: float, recipe: Recipe, steps: list[str]
) -> tuple[_Float, Mask]:
    """Return both at the recipe's rate, without delay: sample k stays at k / rate."""
    ratio = resampling_ratio(rate, recipe.sampling_frequency)
    if ratio == 1:
        return signal, mask
    up, down = ratio.numerator, ratio.denominator
    slower = max(up, down)
    taps = firwin(
        2 * _TAPS_EACH_SIDE * slower + 1, _TRANSITION / slower, window=("kaiser", _KAISER_BETA)
    )
    steps.append(f"resampled from {rate:g} Hz to {recipe.sampling_frequency:g} Hz ({ratio})")
    changed = resample_poly(signal, up, down, axis=1, window=taps, padtype="line")
    at = np.minimum(np.arange(changed.shape[1]) * down // up, mask.shape[1] - 1)
    return changed, mask[:, at]


def resampling_ratio(rate: float, target: float) -> Fraction:
    """Return target over rate as the fraction that both decimal numbers mean.

    257.3 Hz to 100 Hz is 1000/2573, not the quotient of two binary fractions. A ratio finer
    than 1/10 000 is rounded to one that is not.
    """
    exact = Fraction(repr(float(target))) / Fraction(repr(float(rate)))
    near = exact.limit_denominator(_FINEST_RATIO)
    return near or Fraction(1, _FINEST_RATIO)


def _filter(signal: _Float, recipe: Recipe, steps: list[str]) -> _Float:
    edges = [edge for edge in (recipe.high_pass, recipe.low_pass) if edge is not None]
    if not edges:
        return signal
    kind = "band" if len(edges) == 2 else "high" if recipe.high_pass else "low"  # noqa: PLR2004
    cut = edges if kind == "band" else edges[0]
    sos = butter(_FILTER_ORDER, cut, kind, fs=recipe.sampling_frequency, output="sos")
    steps.append(f"{kind}-pass {'–'.join(f'{e:g}' for e in edges)} Hz, Butterworth, zero phase")
    longest = round(recipe.sampling_frequency / edges[0])
    padding = min(longest, signal.shape[1] - 1)
    return np.asarray(sosfiltfilt(sos, signal, axis=1, padlen=padding))


def _subtract_baseline(signal: _Float, mask: Mask, recipe: Recipe, steps: list[str]) -> _Float:
    match recipe.baseline:
        case Baseline.NONE:
            return signal
        case Baseline.MEDIAN:
            steps.append("median of each lead subtracted")
            return np.stack([row - _median(row[known]) for row, known in _rows(signal, mask)])
        case Baseline.MOVING_MEDIAN:
            steps.append("moving median of 2 s subtracted")
            width = 2 * round(recipe.sampling_frequency) + 1
            return np.asarray(signal - median_filter(signal, size=(1, width), mode="reflect"))


def _fit_length(
    signal: _Float, mask: Mask, recipe: Recipe, steps: list[str]
) -> tuple[_Float, Mask]:
    surplus = signal.shape[1] - recipe.samples
    if surplus < 0:
        steps.append(f"{-surplus} zeros appended, to {recipe.samples} samples")
        padding = ((0, 0), (0, -surplus))
        return np.pad(signal, padding), np.pad(mask, padding)
    if surplus == 0 or recipe.length is Length.WINDOWS:
        return signal, mask
    start = surplus // 2 if recipe.length is Length.CROP_CENTRE else 0
    steps.append(f"samples {start} to {start + recipe.samples} kept of {signal.shape[1]}")
    kept = slice(start, start + recipe.samples)
    return signal[:, kept], mask[:, kept]


def _scale(signal: _Float, mask: Mask, recipe: Recipe, steps: list[str]) -> _Float:
    if recipe.unit is Unit.MICROVOLT:
        steps.append("in µV")
        signal = signal * _MICROVOLTS_PER_MILLIVOLT
    if recipe.normalisation is Normalisation.LEAD:
        steps.append("each lead to mean 0, standard deviation 1")
        signal = np.stack([_z_score(row, known) for row, known in _rows(signal, mask)])
    if recipe.normalisation is Normalisation.RECORDING:
        steps.append("all leads together to mean 0, standard deviation 1")
        signal = _z_score(signal, mask)
    return np.where(mask, signal, 0.0)


def _rows(signal: _Float, mask: Mask) -> Iterator[tuple[_Float, Mask]]:
    return zip(signal, mask, strict=True)


def _median(known: _Float) -> float:
    return float(np.median(known)) if known.size else 0.0


def _z_score(signal: _Float, mask: Mask) -> _Float:
    """Return the signal centred and scaled by its recorded samples; zeros where it is flat."""
    known = signal[mask]
    spread = known.std() if known.size else 0.0
    return (signal - known.mean()) / spread if spread > 0 else np.zeros_like(signal)
