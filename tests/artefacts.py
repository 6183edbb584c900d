"""What is periodic like a heart and is none, generated from a seed: what the gate must refuse."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, STANDARD_12, Lead, derive_limb_leads

RATE = 500.0
SAMPLES = 5000
INDEPENDENT = (Lead.I, Lead.II, *STANDARD_12[6:])

Array = npt.NDArray[np.float64]
Random = np.random.Generator
Artefact = Callable[[Random], Array]
"""Returns eight independent leads, ``(8, samples)`` in mV at :data:`RATE`."""


def twelve(rows: Array) -> ECG:
    """Return twelve leads that obey Einthoven's law, from eight independent ones."""
    eight = ECG(signal=rows, leads=INDEPENDENT, sampling_frequency=RATE)
    return derive_limb_leads(eight)[0].select(STANDARD_12)


def exchanged(ecg: ECG, one: Lead, other: Lead) -> ECG:
    """Return the ECG with two limb electrodes exchanged, named by their augmented leads."""
    electrodes = {lead: 2 / 3 * ecg[lead] for lead in (Lead.aVR, Lead.aVL, Lead.aVF)}
    electrodes[one], electrodes[other] = electrodes[other], electrodes[one]
    right, left, foot = electrodes.values()
    limb = {
        Lead.I: left - right, Lead.II: foot - right, Lead.III: foot - left,
        Lead.aVR: 1.5 * right, Lead.aVL: 1.5 * left, Lead.aVF: 1.5 * foot,
    }  # fmt: skip
    rows = np.stack([limb.get(lead, ecg[lead]) for lead in ecg.leads])
    return ECG(signal=rows, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def spectrally(random: Random, shape: tuple[int, int], gain: Array) -> Array:
    """Return noise whose spectrum has this gain at each frequency, of standard deviation 1."""
    rows = np.fft.irfft(np.fft.rfft(random.standard_normal(shape)) * gain, n=shape[1])
    return rows / rows.std(axis=1, keepdims=True)


def frequencies(samples: int = SAMPLES) -> Array:
    """Return the frequencies of a spectrum, Hz."""
    return np.fft.rfftfreq(samples, 1 / RATE)


def band(random: Random, low: float, high: float, samples: int = SAMPLES, rows: int = 8) -> Array:
    """Return noise between two frequencies in Hz, of standard deviation 1."""
    hertz = frequencies(samples)
    return spectrally(random, (rows, samples), ((hertz > low) & (hertz < high)).astype(float))


def seconds(samples: int = SAMPLES) -> Array:
    """Return the time of each sample, s."""
    return np.arange(samples) / RATE


def times(random: Random, rate: float, jitter: float) -> Array:
    """Return the moments, s, of what comes so many times a minute, with a relative jitter."""
    count = int(10 * rate / 60) + 2
    steps = 60 / rate * (1 + jitter * random.standard_normal(count))
    return random.uniform(0, 60 / rate) + np.cumsum(np.maximum(steps, 0.02)) - steps[0]


def train(moments: Array, shape: Callable[[Array], Array], heights: Array | None = None) -> Array:
    """Return one row with the shape, a function of seconds after it begins, at each moment."""
    heights = np.ones(moments.size) if heights is None else heights
    after = seconds() - moments[:, None]
    return (heights[:, None] * np.where(after >= 0, shape(after), 0.0)).sum(axis=0)


def gains(random: Random) -> Array:
    """Return how strongly each of the eight leads takes part, of either sign."""
    return random.uniform(0.3, 1.0, (8, 1)) * random.choice([-1, 1], (8, 1))


def hiss(random: Random) -> Array:
    """Return white noise of an amplifier, of 3 to 40 µV."""
    return random.uniform(0.003, 0.04) * random.standard_normal((8, SAMPLES))


def _ringing(random: Random) -> Callable[[Array], Array]:
    hertz, decay = random.uniform(5, 25), random.uniform(0.03, 0.12)
    return lambda t: np.exp(-t / decay) * np.sin(2 * np.pi * hertz * t)


def tapping(random: Random) -> Array:
    """Return one electrode that is tapped: every lead sees the same ringing."""
    moments = times(random, random.uniform(50, 160), random.uniform(0, 0.08))
    return gains(random) * train(moments, _ringing(random)) + hiss(random)


def tapping_on_two(random: Random) -> Array:
    """Return two electrodes that ring on their own at each tap."""
    moments = times(random, random.uniform(50, 160), random.uniform(0, 0.08))
    first, second = (train(moments, _ringing(random)) for _ in range(2))
    return gains(random) * first + gains(random) * second + hiss(random)


def tremor(random: Random) -> Array:
    """Return a parkinsonian tremor of 4 to 6 Hz with its harmonics, waxing, in the limb leads."""
    hertz = random.uniform(4, 6)
    phase = 2 * np.pi * hertz * seconds() + 0.5 * band(random, 0.05, 0.5, rows=1)[0]
    waves = sum(np.sin(k * phase + random.uniform(0, 6)) / k for k in (1, 2, 3))
    waxing = 1 + 0.3 * band(random, 0.05, 0.5, rows=1)
    burst = np.clip(np.sin(phase), 0, None) * band(random, 20, 120)
    return 0.3 * gains(random) * waves * waxing + 0.05 * burst + hiss(random)


def electrode_motion(random: Random) -> Array:
    """Return electrodes that shift with every step of a walk."""
    moments = times(random, random.uniform(60, 120), 0.05)
    decay = random.uniform(0.05, 0.3)
    shape = lambda t: (t / decay) * np.exp(1 - t / decay)  # noqa: E731 - a shape
    heights = 1 + 0.3 * random.standard_normal(moments.size)
    return gains(random) * train(moments, shape, heights) + 0.05 * band(random, 0.5, 30)


def pacer_spikes(random: Random) -> Array:
    """Return a pacemaker on a heart that does not answer: spikes and their polarisation."""
    moments = times(random, random.uniform(50, 90), 0)
    width, decay = random.uniform(0.002, 0.004), random.uniform(0.01, 0.1)
    height = random.uniform(0.5, 3)
    shape = lambda t: np.where(t < width, height, -0.1 * height * np.exp(-np.abs(t) / decay))  # noqa: E731
    return gains(random) * train(moments, shape) + hiss(random)


def chest_compressions(random: Random) -> Array:
    """Return 100 to 120 compressions a minute, each lead with its own harmonics."""
    phase = 2 * np.pi * random.uniform(100, 120) / 60 * seconds()
    phase = phase + 0.2 * band(random, 0.05, 0.5, rows=1)[0]
    shifts = random.uniform(0, 6, 6)
    waves = np.stack([np.sin(k * phase + shifts[k - 1]) / k for k in range(1, 7)])
    return random.uniform(-1, 1, (8, 6)) @ waves + hiss(random)


def calibration(random: Random) -> Array:
    """Return square pulses of 1 mV."""
    hertz = random.uniform(0.7, 3)
    pulse = (np.modf(hertz * seconds() + random.uniform())[0] < random.uniform(0.1, 0.5)).astype(
        float
    )
    return np.ones((8, 1)) * pulse + hiss(random)


def sawtooth(random: Random) -> Array:
    """Return a generator's ramps."""
    ramp = np.modf(random.uniform(0.7, 3) * seconds() + random.uniform())[0]
    return gains(random) * ramp + hiss(random)


def triangle(random: Random) -> Array:
    """Return a generator's triangles."""
    ramp = np.modf(random.uniform(0.7, 3) * seconds() + random.uniform())[0]
    return gains(random) * np.clip(1 - np.abs(ramp - 0.5) / random.uniform(0.03, 0.5), 0, 1) + hiss(
        random
    )


def sine(random: Random) -> Array:
    """Return a generator's sine."""
    return gains(random) * np.sin(2 * np.pi * random.uniform(0.7, 12) * seconds()) + hiss(random)


def _arch(width: float, at: float = 0.0) -> Callable[[Array], Array]:
    return lambda t: np.exp(-(((t - at) / width) ** 2))


def mouse(random: Random) -> Array:
    """Return a mouse: 450 to 700 beats a minute, QRS of 10 ms that run into T."""
    moments = times(random, random.uniform(450, 700), 0.02)
    parts = ((0.004, 0.02, 1.0), (0.004, 0.026, -0.4), (0.012, 0.045, 0.25), (0.008, 0.0, 0.1))
    beats = np.stack([height * train(moments, _arch(width, at)) for width, at, height in parts])
    return random.uniform(-1, 1, (8, 4)) @ beats + hiss(random)


def eeg(random: Random) -> Array:
    """Return delta, theta and waxing alpha waves of 50 µV."""
    waxing = 0.5 + np.abs(band(random, 0.05, 0.5))
    alpha = 0.7 * band(random, 8, 13) * waxing
    return 0.05 * (alpha + 0.5 * band(random, 0.5, 4) + 0.3 * band(random, 4, 8))


def spike_and_wave(random: Random) -> Array:
    """Return an absence: spikes and waves of 3 Hz over the whole scalp."""
    moments = times(random, random.uniform(160, 200), 0.03)
    spike = train(moments, _arch(0.02, 0.06))
    wave = train(moments, _arch(0.07, 0.2))
    return 0.2 * (gains(random) * spike - gains(random) * wave) + 0.2 * eeg(random)


def muscle_bursts(random: Random) -> Array:
    """Return bursts of muscle at no rhythm."""
    envelope = np.zeros(SAMPLES)
    for start in np.cumsum(random.integers(150, 750, 20)):
        burst = np.hanning(random.integers(25, 200))[: max(0, SAMPLES - start)]
        envelope[start : start + burst.size] += burst
    return 0.05 * (band(random, 20, 200) * envelope) + hiss(random)


def shivering(random: Random) -> Array:
    """Return muscle that contracts at a rhythm."""
    envelope = train(times(random, random.uniform(60, 150), 0.05), _arch(0.03, 0.1))
    return 0.3 * band(random, 20, 120) * envelope + hiss(random)


def pulse_wave(random: Random) -> Array:
    """Return a photoplethysmogram: a systolic wave, a dicrotic one, in every channel."""
    moments = times(random, random.uniform(50, 110), 0.03)
    shape = lambda t: _arch(0.09, 0.2)(t) + 0.4 * _arch(0.1, 0.45)(t)  # noqa: E731
    return random.uniform(0.3, 1.0, (8, 1)) * train(moments, shape) + hiss(random)


def arterial_pressure(random: Random) -> Array:
    """Return an arterial pressure: a steep upstroke, a notch and a run-off."""
    moments = times(random, random.uniform(50, 110), 0.03)
    shape = lambda t: np.clip(t / 0.06, 0, 1) * np.exp(-t / 0.35) - 0.15 * _arch(0.02, 0.3)(t)  # noqa: E731
    return random.uniform(0.3, 1.0, (8, 1)) * train(moments, shape) + hiss(random)


def respiration(random: Random) -> Array:
    """Return breathing by impedance."""
    phase = 2 * np.pi * random.uniform(0.15, 0.5) * seconds()
    phase = phase + 0.3 * band(random, 0.05, 0.3, rows=1)[0]
    return gains(random) * (np.sin(phase) + 0.3 * np.sin(2 * phase)) + hiss(random)


def loose_electrodes(random: Random) -> Array:
    """Return electrodes that lose contact and settle."""
    rows = 0.005 * random.standard_normal((8, SAMPLES))
    for start in random.integers(0, 4500, 8):
        fall = np.exp(-seconds(SAMPLES - start) / random.uniform(0.1, 1))
        rows[:, start:] += 0.2 * random.standard_normal((8, 1)) * fall
    return rows


def infusion_pump(random: Random) -> Array:
    """Return a roller pump's discharges: regular biphasic spikes of 10 to 30 ms."""
    moments = times(random, random.uniform(80, 300), 0.01)
    width = random.uniform(0.005, 0.015)
    shape = lambda t: _arch(width, 2 * width)(t) - _arch(width, 4 * width)(t)  # noqa: E731
    return gains(random) * train(moments, shape) + hiss(random)


def mains(random: Random) -> Array:
    """Return a hum of 60 Hz, and no heart."""
    hum = np.sin(2 * np.pi * 60 * seconds() + 1)
    return random.uniform(-0.2, 0.2, (8, 1)) * hum + 0.015 * band(random, 0.5, 100)


ARTEFACTS: Mapping[str, Artefact] = MappingProxyType(
    {
        make.__name__.replace("_", " "): make
        for make in (
            tapping, tapping_on_two, tremor, electrode_motion, pacer_spikes, chest_compressions,
            calibration, sawtooth, triangle, sine, mouse, eeg, spike_and_wave, muscle_bursts,
            shivering, pulse_wave, arterial_pressure, respiration, loose_electrodes,
            infusion_pump, mains,
        )
    }
)  # fmt: skip
"""Each by its name."""


def artefacts(count: int, seed: int) -> Iterator[tuple[str, ECG]]:
    """Yield so many recordings of each kind, of twelve leads."""
    for place, (name, make) in enumerate(ARTEFACTS.items()):
        for number in range(count):
            yield name, twelve(make(np.random.default_rng([seed, place, number])))
