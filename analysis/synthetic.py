"""ECGs of known truth: what tests measure against, and what the demo sends.

The heart is a dipole. Each wave is an arch of compact support along one direction of the body,
so that its onset, peak and offset are exact, and the twelve leads are projections of the same
vector (Dower's matrix), so that Einthoven's law and the axes are exact too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import gamma
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, STANDARD_12, Lead, derive_limb_leads

Array = npt.NDArray[np.float64]
Vector = tuple[float, float, float]
"""Left, foot and back (Frank's X, Y, Z), in mV."""


class Kind(StrEnum):
    """What heart is simulated."""

    SINUS = "sinus"
    BRADYCARDIA = "bradycardia"
    TACHYCARDIA = "tachycardia"
    ATRIAL_FIBRILLATION = "atrial-fibrillation"
    LBBB = "lbbb"
    FIRST_DEGREE_AV_BLOCK = "first-degree-av-block"
    FLAT_LEAD = "flat-lead"
    NOISE = "noise"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulated:
    """One simulated ECG and what is true of it."""

    ecg: ECG
    truth: Mapping[str, float]
    """By the names of :class:`analysis.result.Measurements`, in their units; a name is absent
    where the heart has no such value (PR in atrial fibrillation)."""
    r_peaks: Array
    """``(beats,)``, 0-based samples, not rounded."""
    fiducials: Array
    """``(9,)``, ms after the R peak, of every beat and lead, in the order of
    :data:`analysis.result.FIDUCIAL_KINDS`; NaN where the heart has no such wave."""


@dataclass(frozen=True, slots=True)
class _Arch:
    """A power of a sine up from onset to peak and down to offset, in ms after the R peak."""

    onset: float
    peak: float
    offset: float
    vector: Vector
    power: float
    """1 makes corners at the ends, 2 a raised cosine, 3 creeps in and out."""

    def __call__(self, time: Array) -> Array:
        """Return the height, 0 to 1, at times in ms."""
        rising = (time - self.onset) / (self.peak - self.onset)
        falling = (self.offset - time) / (self.offset - self.peak)
        height: Array = np.sin(np.pi / 2 * np.clip(np.minimum(rising, falling), 0.0, 1.0))
        arch: Array = height**self.power
        return arch

    @property
    def area(self) -> Array:
        """The net vector, mV·ms: that part of its rectangle which a power of a sine covers."""
        part = gamma((self.power + 1) / 2) / gamma(self.power / 2 + 1) / np.sqrt(np.pi)
        area: Array = part * (self.offset - self.onset) * np.array(self.vector)
        return area


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heart:
    heart_rate: float = 70.0
    irregularity: float = 0.02
    """Standard deviation of the RR interval over its mean."""
    p_duration: float = 104.0
    pr_interval: float | None = 160.0
    qrs_duration: float = 92.0
    qt_interval: float | None = None
    bundle_branch_block: bool = False


_HEARTS: Mapping[Kind, _Heart] = {
    Kind.SINUS: _Heart(),
    Kind.BRADYCARDIA: _Heart(heart_rate=44.0),
    Kind.TACHYCARDIA: _Heart(heart_rate=122.0, pr_interval=136.0, p_duration=92.0),
    Kind.ATRIAL_FIBRILLATION: _Heart(heart_rate=96.0, irregularity=0.22, pr_interval=None),
    Kind.LBBB: _Heart(qrs_duration=156.0, bundle_branch_block=True),
    Kind.FIRST_DEGREE_AV_BLOCK: _Heart(pr_interval=248.0),
    Kind.FLAT_LEAD: _Heart(),
}

_P_POWER, _QRS_POWER, _T_POWER = 1.6, 2.85, 2.1
FLAT = Lead.V3
"""The lead that is off in :attr:`Kind.FLAT_LEAD`."""

# Dower's transformation of the Frank vector to the eight independent leads (Dower 1980).
_INDEPENDENT = (Lead.I, Lead.II, Lead.V1, Lead.V2, Lead.V3, Lead.V4, Lead.V5, Lead.V6)
_DOWER = np.array([
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
])  # fmt: skip


def simulate(
    kind: Kind,
    *,
    sampling_frequency: float = 500.0,
    duration: float = 10.0,
    heart_rate: float | None = None,
    pr_interval: float | None = None,
    qrs_duration: float | None = None,
    qt_interval: float | None = None,
    seed: int = 0,
    noise: float = 0.01,
    mains: float = 0.0,
    wander: float = 0.0,
) -> Simulated:
    """Return a 12-lead ECG of this kind with its truth; the same arguments give the same ECG.

    Parameters
    ----------
    kind
        What heart.
    sampling_frequency
        Hz.
    duration
        Seconds.
    heart_rate, pr_interval, qrs_duration, qt_interval
        Beats per minute and ms; by default those typical of the kind.
    seed
        Of beat times and noise.
    noise
        White noise of the eight independent leads, mV rms.
    mains
        Amplitude of a 50 Hz hum, mV.
    wander
        Amplitude of a baseline wander at 0.25 Hz, mV.
    """
    random = np.random.default_rng(seed)
    time = np.arange(round(duration * sampling_frequency)) / sampling_frequency
    if kind is Kind.NOISE:
        return Simulated(
            ecg=_twelve_leads(_tremor(random, time), sampling_frequency),
            truth=MappingProxyType({}),
            r_peaks=np.empty(0),
            fiducials=np.full(9, np.nan),
        )
    typical = _HEARTS[kind]
    heart = replace(
        typical,
        heart_rate=heart_rate or typical.heart_rate,
        pr_interval=pr_interval or typical.pr_interval,
        qrs_duration=qrs_duration or typical.qrs_duration,
        qt_interval=qt_interval,
    )
    beats = _beat_times(heart, duration, random)
    leads = _DOWER @ _heart_vector(heart, beats, time, random)
    leads += noise * random.standard_normal(leads.shape)
    leads += _disturbance(time, mains, wander, random)
    ecg = _twelve_leads(leads, sampling_frequency)
    return Simulated(
        ecg=_without(ecg, FLAT) if kind is Kind.FLAT_LEAD else ecg,
        truth=MappingProxyType(_truth(heart, beats)),
        r_peaks=beats * sampling_frequency,
        fiducials=_fiducials(heart),
    )


def _beat_times(heart: _Heart, duration: float, random: np.random.Generator) -> Array:
    """Return the R peaks in seconds that fall within the recording."""
    mean = 60 / heart.heart_rate
    count = int(2 * duration / mean) + 4
    spread = np.clip(random.standard_normal(count), -2.0, 2.0) * heart.irregularity
    times = random.uniform(0.3, 0.6) * mean + np.cumsum(mean * (1 + spread)) - mean
    return times[(times >= 0) & (times < duration)]


def _heart_vector(heart: _Heart, beats: Array, time: Array, random: np.random.Generator) -> Array:
    """Return the dipole, ``(3, samples)`` in mV."""
    vector = np.zeros((3, time.size))
    for beat in beats:
        for arch in _waves(heart):
            vector += np.outer(arch.vector, arch(1000 * (time - beat)))
    if heart.pr_interval is None:
        vector += np.outer((0.01, 0.03, -0.06), _fibrillation(time, random))
    return vector


def _waves(heart: _Heart) -> list[_Arch]:
    return [*_p_wave(heart), *_qrs(heart), _t_wave(heart)]


def _p_wave(heart: _Heart) -> list[_Arch]:
    if heart.pr_interval is None:
        return []
    onset = _qrs(heart)[0].onset - heart.pr_interval
    offset = onset + heart.p_duration
    return [_Arch(onset, (onset + offset) / 2, offset, (0.13, 0.13, -0.02), _P_POWER)]


def _qrs(heart: _Heart) -> list[_Arch]:
    """Return the deflections in order; the first begins and the last ends the QRS."""
    width = heart.qrs_duration
    if heart.bundle_branch_block:
        return [
            _Arch(-0.35 * width, 0.0, 0.25 * width, (0.9, 0.3, 0.65), _QRS_POWER),
            _Arch(0.05 * width, 0.33 * width, 0.65 * width, (0.85, 0.1, 0.6), _QRS_POWER),
        ]
    return [
        _Arch(-0.42 * width, -0.28 * width, -0.12 * width, (-0.12, -0.04, -0.3), _QRS_POWER),
        _Arch(-0.28 * width, 0.0, 0.3 * width, (1.35, 0.95, 0.25), _QRS_POWER),
        _Arch(0.1 * width, 0.3 * width, 0.58 * width, (-0.15, -0.1, 0.6), _QRS_POWER),
    ]


def _t_wave(heart: _Heart) -> _Arch:
    """Return the T wave; by default QT follows Fridericia's cube root from 400 ms."""
    qrs = _qrs(heart)
    mean_rr = 60 / heart.heart_rate
    typical = 400 * mean_rr ** (1 / 3) + (heart.qrs_duration - 92)
    offset = qrs[0].onset + (heart.qt_interval or typical)
    onset = qrs[-1].offset + 0.25 * (offset - qrs[-1].offset)
    vector = (-0.3, -0.08, -0.25) if heart.bundle_branch_block else (0.25, 0.2, -0.16)
    return _Arch(onset, onset + 0.58 * (offset - onset), offset, vector, _T_POWER)


def _fibrillation(time: Array, random: np.random.Generator) -> Array:
    """Return f waves: about 6 Hz, wandering in frequency and height."""
    phases = random.uniform(0, 2 * np.pi, 3)
    drift = 2.5 * np.sin(2 * np.pi * 0.23 * time + phases[0])
    height = 1 + 0.4 * np.sin(2 * np.pi * 0.37 * time + phases[1])
    waves: Array = height * np.sin(2 * np.pi * 6.1 * time + drift + phases[2])
    return waves


def _tremor(random: np.random.Generator, time: Array) -> Array:
    """Return electrodes on no heart: white and pink noise, ``(8, samples)`` in mV."""
    shape = (len(_INDEPENDENT), time.size)
    spectrum = np.fft.rfft(random.standard_normal(shape))
    pink = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.shape[1])), n=time.size)
    noise: Array = 0.1 * random.standard_normal(shape) + 0.1 * pink / pink.std()
    return noise


def _disturbance(time: Array, mains: float, wander: float, random: np.random.Generator) -> Array:
    strengths = random.uniform(0.5, 1.0, (len(_INDEPENDENT), 2))
    hum = mains * np.sin(2 * np.pi * 50 * time)
    drift = wander * np.sin(2 * np.pi * 0.25 * time)
    return strengths @ np.stack([hum, drift])


def _twelve_leads(independent: Array, sampling_frequency: float) -> ECG:
    eight = ECG(
        signal=independent.astype(np.float32),
        leads=_INDEPENDENT,
        sampling_frequency=sampling_frequency,
    )
    return derive_limb_leads(eight)[0].select(STANDARD_12)


def _without(ecg: ECG, lead: Lead) -> ECG:
    signal = ecg.signal.copy()
    signal[ecg.leads.index(lead)] = 0.0
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def _truth(heart: _Heart, beats: Array) -> dict[str, float]:
    qrs, t_wave, p_wave = _qrs(heart), _t_wave(heart), _p_wave(heart)
    truth = {
        "qrs_duration": heart.qrs_duration,
        "qt_interval": t_wave.offset - qrs[0].onset,
        "qrs_axis": _axis(qrs),
        "t_axis": _axis([t_wave]),
    }
    if beats.size > 1:
        rr = float(np.mean(np.diff(beats)))
        truth |= {"rr_interval": 1000 * rr, "heart_rate": 60 / rr}
    if heart.pr_interval is not None:
        truth |= {
            "p_duration": heart.p_duration,
            "pr_interval": heart.pr_interval,
            "p_axis": _axis(p_wave),
        }
    return truth


def _fiducials(heart: _Heart) -> Array:
    qrs, t_wave = _qrs(heart), _t_wave(heart)
    p_wave = [(wave.onset, wave.peak, wave.offset) for wave in _p_wave(heart)]
    return np.array([
        *(p_wave or [(np.nan,) * 3])[0],
        qrs[0].onset, 0.0, qrs[-1].offset,
        t_wave.onset, t_wave.peak, t_wave.offset,
    ])  # fmt: skip


def _axis(waves: list[_Arch]) -> float:
    """Return the frontal axis in degrees of the net area (see ``analysis.measure``)."""
    lead_i, lead_ii = _DOWER[:2] @ sum(wave.area for wave in waves)
    return float(np.degrees(np.arctan2(2 * lead_ii - lead_i, np.sqrt(3) * lead_i)))
