"""What is no ECG never becomes a diagnosis, over the whole analysis; what is one is read."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from support import shared

import analysis
from analysis.analyse import analyse
from analysis.ecg import ECG, STANDARD_12, Lead, Patient, Sex, derive_limb_leads
from analysis.quality import assess
from analysis.result import Overall, QualityReason, Result, Verdict
from analysis.synthetic import Kind, simulate

RATE = 500.0
MAN = Patient(age=50.0, sex=Sex.MALE)
INDEPENDENT = (Lead.I, Lead.II, *STANDARD_12[6:])
COLOURS = {"violet": 1.0, "blue": 0.5, "white": 0.0, "pink": -0.5, "brown": -1.0, "drift": -1.5}
AMPLITUDES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SHARES = (0.0, 0.5, 0.95)

Array = npt.NDArray[np.float64]


def spectrally(random: np.random.Generator, shape: tuple[int, int], gain: Array) -> Array:
    """Return noise whose spectrum has this gain at each frequency, of standard deviation 1."""
    rows = np.fft.irfft(np.fft.rfft(random.standard_normal(shape)) * gain, n=shape[1])
    return rows / rows.std(axis=1, keepdims=True)


def frequencies(samples: int) -> Array:
    return np.fft.rfftfreq(samples, 1 / RATE)


def band(random: np.random.Generator, low: float, high: float, samples: int = 5000) -> Array:
    hertz = frequencies(samples)
    return spectrally(random, (8, samples), ((hertz > low) & (hertz < high)).astype(float))


def twelve(rows: Array) -> ECG:
    """Return twelve leads that obey Einthoven's law, from eight independent ones."""
    eight = ECG(signal=rows, leads=INDEPENDENT, sampling_frequency=RATE)
    return derive_limb_leads(eight)[0].select(STANDARD_12)


def noises(count: int, seed: int, colours: Sequence[str] = tuple(COLOURS)) -> Iterator[ECG]:
    """Yield noise of every colour, amplitude in mV and share that all leads have in common."""
    random, samples = np.random.default_rng(seed), 5000
    settings = list(product(SHARES, AMPLITUDES, (COLOURS[colour] for colour in colours)))
    bins = np.arange(samples // 2 + 1, dtype=float)
    for number in range(count):
        share, amplitude, exponent = settings[number % len(settings)]
        gain = np.where(bins > 0, np.maximum(bins, 1) ** exponent, 0.0)
        own = spectrally(random, (8, samples), gain)
        common = spectrally(random, (1, samples), gain)
        sizes = amplitude * random.uniform(0.5, 1.5, (8, 1))
        yield twelve(sizes * (np.sqrt(1 - share**2) * own + share * common))


def said(result: Result) -> list[str]:
    """Return what a reader would take for a diagnosis."""
    present = [item.key for item in result.findings if item.present]
    return [*present, *(line.key for line in result.statements)]


def assert_refused(result: Result) -> None:
    assert said(result) == []
    assert result.overall is Overall.NON_DIAGNOSTIC
    assert result.quality.reasons
    assert result.explanations == ()


def test_noise_of_every_colour_and_amplitude_is_refused() -> None:
    for ecg in noises(len(SHARES) * len(AMPLITUDES) * len(COLOURS), seed=1):
        assert_refused(analyse(ecg, patient=MAN))


@pytest.mark.slow
def test_a_thousand_recordings_of_noise_give_no_diagnosis() -> None:
    assert [said(analyse(ecg, patient=MAN)) for ecg in noises(1000, seed=2)] == [[]] * 1000


@pytest.mark.parametrize("lead", [Lead.I, Lead.II])
def test_noise_in_a_single_lead_is_refused(lead: Lead) -> None:
    for ecg in noises(105, seed=3, colours=tuple(COLOURS)[1:]):
        assert_refused(analyse(ecg.select([lead]), patient=MAN))


def seconds(samples: int = 5000) -> Array:
    return np.arange(samples) / RATE


def eeg(random: np.random.Generator) -> Array:
    """Return delta, theta and waxing alpha waves of 50 µV."""
    waxing = 0.5 + np.abs(band(random, 0.05, 0.5))
    alpha = 0.7 * band(random, 8, 13) * waxing
    return 0.05 * (alpha + 0.5 * band(random, 0.5, 4) + 0.3 * band(random, 4, 8))


def muscle_bursts(random: np.random.Generator) -> Array:
    envelope = np.zeros(5000)
    for start in np.cumsum(random.integers(150, 750, 20)):
        burst = np.hanning(random.integers(25, 200))[: max(0, 5000 - start)]
        envelope[start : start + burst.size] += burst
    return 0.05 * (band(random, 20, 200) * envelope + 0.02 * random.standard_normal((8, 5000)))


def mains(random: np.random.Generator) -> Array:
    hum = np.sin(2 * np.pi * 60 * seconds() + 1)
    return random.uniform(-0.2, 0.2, (8, 1)) * hum + 0.015 * band(random, 0.5, 100)


def chest_compressions(random: np.random.Generator) -> Array:
    waves = sum(np.sin(2 * np.pi * k * 1.9 * seconds() + k) / k for k in (1, 2, 3))
    return random.uniform(-1, 1, (8, 1)) * waves + 0.05 * random.standard_normal((8, 5000))


def loose_electrodes(random: np.random.Generator) -> Array:
    rows = 0.005 * random.standard_normal((8, 5000))
    for start in random.integers(0, 4500, 8):
        fall = np.exp(-seconds(5000 - start) / random.uniform(0.1, 1))
        rows[:, start:] += 0.2 * random.standard_normal((8, 1)) * fall
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [eeg, muscle_bursts, mains, chest_compressions, loose_electrodes])
def test_what_comes_from_elsewhere_is_refused(
    make: Callable[[np.random.Generator], Array], seed: int
) -> None:
    assert_refused(analyse(twelve(make(np.random.default_rng(seed))), patient=MAN))


@pytest.mark.parametrize("amplitude", [0.0, 0.001, 0.02, 0.5])
def test_sixty_hertz_alone_and_a_flat_line_are_refused(amplitude: float) -> None:
    assert_refused(analyse(twelve(np.full((8, 1), amplitude) * np.sin(377 * seconds()))))


def test_one_beat_is_too_few_to_be_told_from_noise() -> None:
    heart = simulate(Kind.SINUS, seed=4)
    peak = round(float(heart.r_peaks[3]))
    signal = heart.ecg.signal[:, peak - 200 : peak + 330]
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=RATE)
    quality = assess(ecg)
    assert quality.verdict is Verdict.NON_DIAGNOSTIC
    assert QualityReason.FEW_BEATS in quality.reasons
    assert said(analyse(ecg, patient=MAN)) == []


# --- what is an ECG, with a fault, is read and says so


def without(ecg: ECG, lead: Lead) -> ECG:
    return ecg.select([other for other in ecg.leads if other is not lead])


def swapped(ecg: ECG) -> ECG:
    signal, row = ecg.signal.copy(), ecg.leads.index
    signal[row(Lead.I)] = -ecg[Lead.I]
    signal[row(Lead.II)], signal[row(Lead.III)] = ecg[Lead.III], ecg[Lead.II]
    signal[row(Lead.aVR)], signal[row(Lead.aVL)] = ecg[Lead.aVL], ecg[Lead.aVR]
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def humming(ecg: ECG) -> ECG:
    signal = ecg.signal + 0.1 * np.sin(2 * np.pi * 60 * seconds())
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


HEART = simulate(Kind.SINUS, seed=6).ecg


@pytest.mark.parametrize(
    ("ecg", "reason"),
    [
        pytest.param(without(HEART, Lead.V4), QualityReason.MISSING, id="one-lead-missing"),
        pytest.param(simulate(Kind.FLAT_LEAD).ecg, QualityReason.FLAT, id="one-lead-flat"),
        pytest.param(swapped(HEART), QualityReason.ARM_REVERSAL, id="arms-swapped"),
        pytest.param(humming(HEART), QualityReason.MAINS, id="sixty-hertz"),
    ],
)
def test_a_fault_in_a_heart_is_flagged_and_the_reading_limited_where_it_must(
    ecg: ECG, reason: QualityReason
) -> None:
    result = analyse(ecg, patient=MAN)
    assert reason in result.quality.reasons
    assert result.overall is not Overall.NON_DIAGNOSTIC
    if reason is not QualityReason.MAINS:
        assert result.quality.verdict is Verdict.LIMITED
        assert result.overall is not Overall.NORMAL


@pytest.mark.slow
def test_every_record_that_cardiologists_marked_is_still_read() -> None:
    records = sorted(shared("data", "ludb", "data").glob("*.hea"))
    verdicts = [assess(analysis.read(record).ecg).verdict for record in records]
    assert len(verdicts) > 100
    assert Verdict.NON_DIAGNOSTIC not in verdicts
