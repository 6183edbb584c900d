"""The gate: what is not an ECG never passes, and what is one is not kept out."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.ecg import CHEST, ECG, STANDARD_12, Lead, Signal
from analysis.quality import assess
from analysis.result import QualityReason, Verdict
from analysis.synthetic import FLAT, Kind, simulate

RATE = 500.0
HEARTS = [kind for kind in Kind if kind not in {Kind.NOISE, Kind.FLAT_LEAD}]


def twelve(signal: npt.NDArray[np.floating], rate: float = RATE) -> ECG:
    rows = np.broadcast_to(signal, (12, signal.shape[-1]))
    return ECG(signal=rows, leads=STANDARD_12, sampling_frequency=rate)


def changed(ecg: ECG, edit: Callable[[Signal], Signal], leads: Iterable[Lead]) -> ECG:
    signal = ecg.signal.copy()
    for lead in leads:
        row = ecg.leads.index(lead)
        signal[row] = edit(signal[row])
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def seconds(duration: float = 10.0) -> npt.NDArray[np.float64]:
    return np.arange(round(duration * RATE)) / RATE


@pytest.mark.parametrize("kind", HEARTS)
@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0, 1000.0])
def test_a_clean_heart_is_of_full_quality_with_an_entry_for_every_lead(
    kind: Kind, rate: float
) -> None:
    quality = assess(simulate(kind, sampling_frequency=rate, seed=3).ecg)
    assert quality.verdict is Verdict.FULL
    assert quality.usable_leads == frozenset(STANDARD_12)


NOT_A_HEART = {
    "flat line": np.zeros(5000),
    "white noise": 0.2 * np.random.default_rng(1).standard_normal((12, 5000)),
    "brown noise": 0.02 * np.cumsum(np.random.default_rng(2).standard_normal((12, 5000)), 1),
    "mains alone": np.sin(2 * np.pi * 60 * seconds()),
    "one hertz square wave": np.sign(np.sin(2 * np.pi * seconds() + 0.1)),
    "five hertz square wave": 0.5 * np.sign(np.sin(2 * np.pi * 5 * seconds() + 0.1)),
    "slow sine": np.sin(2 * np.pi * 1.3 * seconds()),
    "no sample at all": np.full(5000, np.nan),
    "nothing": np.zeros(0),
}


@pytest.mark.parametrize("name", NOT_A_HEART)
def test_what_is_not_a_heart_is_non_diagnostic_with_a_reason(name: str) -> None:
    quality = assess(twelve(NOT_A_HEART[name]))
    assert quality.verdict is Verdict.NON_DIAGNOSTIC
    assert quality.reasons


@pytest.mark.parametrize("seed", range(5))
def test_simulated_noise_is_non_diagnostic(seed: int) -> None:
    assert assess(simulate(Kind.NOISE, seed=seed).ecg).verdict is Verdict.NON_DIAGNOSTIC


def test_one_flat_chest_lead_limits_the_reading_and_is_named() -> None:
    quality = assess(simulate(Kind.FLAT_LEAD).ecg)
    assert quality.verdict is Verdict.LIMITED
    assert quality.reasons == (QualityReason.FLAT,)
    assert quality.leads[FLAT] == (QualityReason.FLAT,)
    assert quality.usable_leads == frozenset(STANDARD_12) - {FLAT}


def test_half_of_the_leads_flat_is_non_diagnostic() -> None:
    ecg = changed(simulate(Kind.SINUS).ecg, np.zeros_like, CHEST)
    assert assess(ecg).verdict is Verdict.NON_DIAGNOSTIC


def test_half_of_the_leads_missing_is_non_diagnostic_and_each_is_listed() -> None:
    quality = assess(simulate(Kind.SINUS).ecg.select(STANDARD_12[:6]))
    assert quality.verdict is Verdict.NON_DIAGNOSTIC
    assert all(quality.leads[lead] == (QualityReason.MISSING,) for lead in CHEST)


def test_a_single_lead_recorder_is_judged_by_its_one_lead() -> None:
    ecg = simulate(Kind.SINUS).ecg.select([Lead.II])
    assert assess(ecg, expected=(Lead.II,)).verdict is Verdict.FULL
    assert assess(ecg).verdict is Verdict.NON_DIAGNOSTIC


def test_less_than_a_second_is_non_diagnostic() -> None:
    quality = assess(simulate(Kind.SINUS, duration=0.8).ecg)
    assert quality.verdict is Verdict.NON_DIAGNOSTIC
    assert QualityReason.TOO_SHORT in quality.reasons


def test_three_seconds_are_limited() -> None:
    quality = assess(simulate(Kind.SINUS, duration=3.0).ecg)
    assert quality.verdict is Verdict.LIMITED
    assert quality.reasons == (QualityReason.TOO_SHORT,)


def test_a_saturated_amplifier_is_seen() -> None:
    ecg = changed(simulate(Kind.SINUS).ecg, lambda row: np.clip(row, -0.1, 0.25), [Lead.V4])
    assert QualityReason.CLIPPED in assess(ecg).leads[Lead.V4]


def test_a_lead_of_muscle_noise_is_seen_and_the_others_stay_usable() -> None:
    tremor = np.random.default_rng(5).standard_normal(5000)
    ecg = changed(simulate(Kind.SINUS).ecg, lambda row: row + tremor, [Lead.V2])
    quality = assess(ecg)
    assert QualityReason.NOISE in quality.leads[Lead.V2]
    assert quality.usable_leads == frozenset(STANDARD_12) - {Lead.V2}


def test_wander_is_told_and_does_no_harm_and_mains_limit_the_reading_without_losing_a_lead() -> (
    None
):
    drifting, humming = (
        assess(simulate(Kind.SINUS, mains=mains, wander=1.0).ecg) for mains in (0.0, 0.2)
    )
    assert drifting.verdict is Verdict.FULL
    assert humming.verdict is Verdict.LIMITED
    assert humming.usable_leads == frozenset(STANDARD_12)
    assert {QualityReason.MAINS, QualityReason.WANDER} <= set(humming.reasons)


@pytest.mark.parametrize("seed", range(3))
def test_muscle_noise_in_every_lead_is_noise_and_not_mains(seed: int) -> None:
    heart = simulate(Kind.SINUS, seed=seed).ecg
    tremor = 0.5 * np.random.default_rng(seed).standard_normal(heart.signal.shape)
    quality = assess(ECG(signal=heart.signal + tremor, leads=heart.leads, sampling_frequency=RATE))
    assert quality.verdict is Verdict.NON_DIAGNOSTIC
    assert QualityReason.NOISE in quality.reasons
    assert QualityReason.MAINS not in quality.reasons


@pytest.mark.parametrize("seed", range(3))
def test_strong_mains_do_not_make_noise_of_any_lead(seed: int) -> None:
    quality = assess(simulate(Kind.SINUS, mains=0.3, seed=seed).ecg)
    assert quality.reasons == (QualityReason.MAINS,)


def test_a_lead_that_falls_off_midway_has_gaps() -> None:
    def fall_off(row: Signal) -> Signal:
        row[3000:] = np.nan
        return row

    quality = assess(changed(simulate(Kind.SINUS).ecg, fall_off, [Lead.V6]))
    assert quality.leads[Lead.V6] == (QualityReason.GAPS,)
    assert quality.verdict is Verdict.LIMITED


def test_leads_recorded_one_after_the_other_are_told() -> None:
    signal = simulate(Kind.SINUS).ecg.signal.copy()
    for column in range(4):
        rows = slice(3 * column, 3 * column + 3)
        keep = signal[rows, 1250 * column : 1250 * (column + 1)].copy()
        signal[rows] = np.nan
        signal[rows, 1250 * column : 1250 * (column + 1)] = keep
    quality = assess(twelve(signal))
    assert QualityReason.NOT_SIMULTANEOUS in quality.reasons
    assert quality.verdict is not Verdict.FULL


def swap_arms(ecg: ECG) -> ECG:
    signal = ecg.signal.copy()
    row = ecg.leads.index
    signal[row("I")] = -ecg["I"]
    signal[row("II")], signal[row("III")] = ecg["III"], ecg["II"]
    signal[row("aVR")], signal[row("aVL")] = ecg["aVL"], ecg["aVR"]
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def test_swapped_arm_electrodes_are_suspected() -> None:
    quality = assess(swap_arms(simulate(Kind.SINUS).ecg))
    assert QualityReason.ARM_REVERSAL in quality.reasons
    assert quality.verdict is Verdict.LIMITED


@pytest.mark.parametrize("kind", HEARTS)
def test_unswapped_arm_electrodes_are_not(kind: Kind) -> None:
    assert QualityReason.ARM_REVERSAL not in assess(simulate(kind).ecg).reasons


def test_sixty_samples_a_second_are_too_few() -> None:
    quality = assess(simulate(Kind.SINUS, sampling_frequency=60.0).ecg)
    assert QualityReason.LOW_RATE in quality.reasons


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([50.0, 100.0, 257.0, 500.0, 1000.0]),
    samples=st.integers(0, 3000),
    count=st.integers(0, 12),
    scale=st.sampled_from([0.0, 1e-6, 0.1, 5.0, 1e6]),
    holes=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**16),
)
def test_nothing_makes_it_raise(
    *, rate: float, samples: int, count: int, scale: float, holes: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    signal = scale * random.standard_normal((count, samples))
    signal[random.random(signal.shape) < holes] = np.nan
    ecg = ECG(signal=signal, leads=STANDARD_12[:count], sampling_frequency=rate)
    quality = assess(ecg)
    assert set(quality.leads) == set(STANDARD_12)
    assert quality.reasons or quality.verdict is not Verdict.LIMITED
