"""What is no ECG never becomes a diagnosis, over the whole analysis; what is one is read."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from artefacts import RATE, SAMPLES, artefacts, exchanged, seconds, spectrally, twelve
from support import shared

import analysis
from analysis.analyse import analyse, examined
from analysis.ecg import ECG, STANDARD_12, Lead, Patient, Sex
from analysis.quality import assess
from analysis.result import Overall, QualityReason, Result, Verdict
from analysis.synthetic import Kind, simulate

MAN = Patient(age=50.0, sex=Sex.MALE)
COLOURS = {"violet": 1.0, "blue": 0.5, "white": 0.0, "pink": -0.5, "brown": -1.0, "drift": -1.5}
AMPLITUDES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SHARES = (0.0, 0.5, 0.95)


def noises(count: int, seed: int, colours: Sequence[str] = tuple(COLOURS)) -> Iterator[ECG]:
    """Yield noise of every colour, amplitude in mV and share that all leads have in common."""
    random, samples = np.random.default_rng(seed), SAMPLES
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


def test_what_beats_like_a_heart_and_is_none_is_refused() -> None:
    verdicts = [(kind, assess(ecg).verdict) for kind, ecg in artefacts(2, seed=1)]
    read = [kind for kind, verdict in verdicts if verdict is not Verdict.NON_DIAGNOSTIC]
    assert len(read) <= 0.03 * len(verdicts)
    assert set(read) <= {"tapping on two", "mouse", "pacer spikes"}  # see LIMITS.md


def test_a_single_lead_of_it_is_mostly_refused_and_never_a_full_reading() -> None:
    verdicts = [examined(ecg.select([Lead.II])).quality.verdict for _, ecg in artefacts(2, seed=1)]
    assert Verdict.FULL not in verdicts
    assert verdicts.count(Verdict.NON_DIAGNOSTIC) >= 0.7 * len(verdicts)


def test_the_same_waveform_in_every_lead_is_named() -> None:
    heart = simulate(Kind.SINUS, seed=3).ecg
    rows = np.linspace(0.3, 1, 8)[:, None] * heart[Lead.II]
    assert assess(twelve(rows)).reasons == (QualityReason.ONE_SOURCE,)


@pytest.mark.parametrize("mv", [1.0, 3.0, 6.0])
def test_a_paced_heart_is_one_however_sharp_its_spikes(mv: float) -> None:
    heart = simulate(Kind.LBBB, seed=2)
    signal = heart.ecg.signal.copy()
    gains = np.linspace(-0.5, 1.0, 12)[:, None]
    for peak in np.rint(heart.r_peaks).astype(int):
        signal[:, peak - 30 : peak - 28] += mv * gains
    paced = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=RATE)
    assert assess(paced).verdict is Verdict.FULL
    assert examined(paced.select([Lead.II])).quality.verdict is Verdict.LIMITED


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


def humming(ecg: ECG) -> ECG:
    signal = ecg.signal + 0.1 * np.sin(2 * np.pi * 60 * seconds())
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


HEART = simulate(Kind.SINUS, seed=6).ecg


@pytest.mark.parametrize(
    ("ecg", "reason"),
    [
        pytest.param(without(HEART, Lead.V4), QualityReason.MISSING, id="one-lead-missing"),
        pytest.param(simulate(Kind.FLAT_LEAD).ecg, QualityReason.FLAT, id="one-lead-flat"),
        pytest.param(
            exchanged(HEART, Lead.aVR, Lead.aVL), QualityReason.ARM_REVERSAL, id="arms-swapped"
        ),
        pytest.param(
            exchanged(HEART, Lead.aVR, Lead.aVF),
            QualityReason.LEG_REVERSAL,
            id="arm-and-leg-swapped",
        ),
        pytest.param(humming(HEART), QualityReason.MAINS, id="sixty-hertz"),
    ],
)
def test_a_fault_in_a_heart_is_flagged_and_the_reading_limited_where_it_must(
    ecg: ECG, reason: QualityReason
) -> None:
    result = analyse(ecg, patient=MAN)
    assert reason in result.quality.reasons
    assert result.overall is not Overall.NON_DIAGNOSTIC
    assert result.quality.verdict is Verdict.LIMITED
    assert result.overall is not Overall.NORMAL
    if result.quality.reversed_leads:
        assert not {"left_axis", "right_axis"} & {item.key for item in result.statements}


@pytest.mark.parametrize("hertz", [50, 60])
def test_a_hum_of_half_a_millivolt_leaves_the_measurements_as_they_are(hertz: int) -> None:
    hum = 0.5 * np.sin(2 * np.pi * hertz * seconds()) * np.linspace(0.5, 1, 12)[:, None]
    loud = ECG(signal=HEART.signal + hum, leads=HEART.leads, sampling_frequency=RATE)
    clean, humming = (analyse(ecg, [], patient=MAN) for ecg in (HEART, loud))
    assert {item.key for item in humming.statements} == {item.key for item in clean.statements}
    for name in ("heart_rate", "pr_interval", "qrs_duration", "qt_interval", "qrs_axis"):
        values = [getattr(each.measurements, name).value for each in (clean, humming)]
        assert values[1] == pytest.approx(values[0], abs=5)


@pytest.mark.slow
def test_every_record_that_cardiologists_marked_is_still_read() -> None:
    records = sorted(shared("data", "ludb", "data").glob("*.hea"))
    found = [assess(analysis.read(record).ecg) for record in records]
    assert len(found) > 100
    assert Verdict.NON_DIAGNOSTIC not in {quality.verdict for quality in found}
    assert sum(quality.reversed_leads for quality in found) <= 0.02 * len(found)
