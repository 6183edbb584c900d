"""QRS detection and beat classes, on hearts whose beats are known."""

import numpy as np
import pytest
from support import shared

from analysis.beats import Beats, detect, fill_gaps, prepare
from analysis.ecg import ECG, STANDARD_12, Lead, Signal
from analysis.synthetic import Kind, Simulated, simulate

HEARTS = [kind for kind in Kind if kind is not Kind.NOISE]
RATES = [100.0, 128.0, 250.0, 257.0, 360.0, 500.0, 1000.0]


def found(ecg: ECG) -> Signal:
    """Return the R peaks in samples of the ECG."""
    prepared = prepare(ecg)
    peaks: Signal = detect(prepared).r_peaks * (
        ecg.sampling_frequency / prepared.sampling_frequency
    )
    return peaks


def assert_beats(made: Simulated, ecg: ECG, tolerance: float = 0.02) -> None:
    rate = ecg.sampling_frequency
    inside = (made.r_peaks > 0.1 * rate) & (made.r_peaks < ecg.samples - 0.15 * rate)
    peaks = found(ecg)
    for beat in made.r_peaks[inside]:
        assert np.abs(peaks - beat).min() < tolerance * rate
    for peak in peaks:
        assert np.abs(made.r_peaks - peak).min() < tolerance * rate


@pytest.mark.parametrize("kind", HEARTS)
@pytest.mark.parametrize("rate", RATES)
def test_every_beat_is_found_once_at_any_rate(kind: Kind, rate: float) -> None:
    made = simulate(kind, sampling_frequency=rate, seed=4)
    assert_beats(made, made.ecg, tolerance=0.08 if kind is Kind.LBBB else 0.02)


@pytest.mark.parametrize("lead", [lead for lead in STANDARD_12 if lead is not Lead.aVL])
def test_one_lead_is_enough(lead: Lead) -> None:
    made = simulate(Kind.SINUS)
    assert_beats(made, made.ecg.select([lead]), tolerance=0.04)


@pytest.mark.parametrize("fault", ["flat", "noise", "mains", "absent", "steps"])
def test_one_bad_lead_does_not_mislead_the_others(fault: str) -> None:
    made = simulate(Kind.SINUS, seed=9)
    signal = made.ecg.signal.copy()
    time = np.arange(made.ecg.samples) / 500
    signal[1] = {
        "flat": np.zeros_like(time),
        "noise": 3 * np.random.default_rng(0).standard_normal(time.size),
        "mains": 5 * np.sin(2 * np.pi * 50 * time),
        "absent": np.full_like(time, np.nan),
        "steps": 4 * np.sign(np.sin(2 * np.pi * 0.37 * time)),
    }[fault]
    assert_beats(made, ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500))


def test_a_gap_costs_only_its_own_beats() -> None:
    made = simulate(Kind.SINUS)
    signal = made.ecg.signal.copy()
    signal[:, 2000:2900] = np.nan
    peaks = found(ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500))
    outside = made.r_peaks[(made.r_peaks < 1950) | (made.r_peaks > 2950)]
    assert all(np.abs(peaks - beat).min() < 10 for beat in outside)
    assert not ((peaks > 2050) & (peaks < 2850)).any()


def test_tall_t_waves_are_no_beats() -> None:
    made = simulate(Kind.SINUS, noise=0.0)
    signal = made.ecg.signal.copy()
    quiet = np.ones(made.ecg.samples, np.bool_)
    for beat in made.r_peaks:
        quiet[max(0, round(beat) - 25) : round(beat) + 30] = False
    signal[:, quiet] *= 4
    assert_beats(made, ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500))


def bigeminus() -> tuple[ECG, Signal]:
    """Return a sinus rhythm in which every other beat is wide, early and of another shape."""
    narrow = simulate(Kind.SINUS, heart_rate=40, noise=0.0, seed=2)
    wide = simulate(Kind.LBBB, heart_rate=40, noise=0.0, seed=2)
    ectopic = np.roll(wide.ecg.signal, 320, axis=1)
    ectopic[:, :320] = 0
    noise = 0.01 * np.random.default_rng(3).standard_normal(ectopic.shape)
    ecg = ECG(signal=narrow.ecg.signal + ectopic + noise, leads=STANDARD_12, sampling_frequency=500)
    return ecg, narrow.r_peaks


def test_beats_of_two_shapes_are_told_apart() -> None:
    ecg, regular = bigeminus()
    beats = detect(prepare(ecg))
    is_regular = np.array([np.abs(regular - peak).min() < 20 for peak in beats.r_peaks])
    assert set(beats.classes[is_regular]).isdisjoint(beats.classes[~is_regular])
    assert len(set(beats.classes[is_regular])) == 1


def test_beats_that_differ_in_slow_waves_only_are_told_apart() -> None:
    made = simulate(Kind.SINUS, heart_rate=60, noise=0.01, seed=5)
    signal = made.ecg.signal.copy()
    time = np.arange(made.ecg.samples) / 500
    turned = made.r_peaks[2::4] / 500
    slur = sum(np.exp(-(((time - peak - 0.06) / 0.05) ** 2)) for peak in turned)
    ecg = ECG(signal=signal + 0.9 * slur, leads=STANDARD_12, sampling_frequency=500)
    beats = detect(prepare(ecg))
    wide = np.array([np.abs(turned * 500 - peak).min() < 30 for peak in beats.r_peaks])
    assert set(beats.classes[wide]).isdisjoint(beats.classes[~wide])
    assert (beats.classes[~wide] == 0).all()


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_noise_does_not_make_beats_of_one_heart_differ(noise: float) -> None:
    beats = detect(prepare(simulate(Kind.SINUS, noise=noise, seed=8).ecg))
    assert (beats.classes[1:-1] == 0).all()


def test_a_small_early_wave_unlike_the_beats_is_none() -> None:
    made = simulate(Kind.SINUS, heart_rate=50, noise=0.01)
    signal = made.ecg.signal.copy()
    time = np.arange(made.ecg.samples) / 500
    for peak in made.r_peaks[1:-1:2] / 500:
        signal += 0.3 * np.exp(-(((time - peak - 0.55) / 0.012) ** 2))
    assert_beats(
        made, ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500).select([Lead.II])
    )


def test_premature_beats_of_the_same_shape_do_not_enter_the_median() -> None:
    beats = Beats(
        np.array([0, 500, 800, 1500]),
        np.zeros(4, np.intp),
        np.array([False, False, True, False]),
    )
    assert beats.dominant.tolist() == [True, True, False, True]


@pytest.mark.parametrize("samples", [0, 1, 2, 30, 249])
def test_next_to_nothing_has_no_beats(samples: int) -> None:
    ecg = ECG(signal=np.ones((2, samples)), leads=(Lead.I, Lead.II), sampling_frequency=500)
    assert found(ecg).size == 0


def test_gaps_are_bridged_by_straight_lines() -> None:
    nan = np.nan
    signal = np.array([[nan, 1, nan, 3, nan], [nan] * 5], dtype=np.float32)
    np.testing.assert_array_equal(fill_gaps(signal), [[1, 1, 2, 3, 3], [0] * 5])


@pytest.mark.parametrize("rate", RATES)
def test_a_position_times_the_ratio_of_the_rates_is_a_position(rate: float) -> None:
    time = np.arange(round(9.7 * rate)) / rate
    bump = np.exp(-0.5 * ((time - 5.321) / 0.02) ** 2)
    ecg = ECG(signal=bump[None], leads=(Lead.II,), sampling_frequency=rate)
    prepared = prepare(ecg)
    peak = np.argmax(prepared.clean[0]) / prepared.sampling_frequency
    assert peak == pytest.approx(5.321, abs=0.002)
    assert prepared.clean.shape[1] == pytest.approx(9.7 * 500, abs=5)


def test_every_beat_of_an_annotated_strip_is_found() -> None:
    wfdb = pytest.importorskip("wfdb")
    path = str(shared("data", "ludb", "data", "1.hea"))[:-4]
    samples, header = wfdb.rdsamp(path)
    leads = [Lead.parse(name) for name in header["sig_name"]]
    ecg = ECG(
        signal=samples.T,
        leads=tuple(lead for lead in leads if lead),
        sampling_frequency=header["fs"],
    )
    marks = wfdb.rdann(path, "ii")
    beats = marks.sample[np.array(marks.symbol) == "N"]
    peaks = found(ecg)
    assert all(np.abs(peaks - beat).min() < 25 for beat in beats)
