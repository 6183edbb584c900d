"""The generated ECGs: what the other tests measure against must itself be true."""

import numpy as np
import pytest

from analysis.ecg import STANDARD_12, Lead
from analysis.synthetic import FLAT, Kind, simulate

HEARTS = [kind for kind in Kind if kind is not Kind.NOISE]


@pytest.mark.parametrize("kind", Kind)
def test_the_same_seed_gives_the_same_samples(kind: Kind) -> None:
    once, again = simulate(kind, seed=7), simulate(kind, seed=7)
    np.testing.assert_array_equal(once.ecg.signal, again.ecg.signal)
    assert once.truth == again.truth


def test_another_seed_gives_other_noise_and_other_beat_times() -> None:
    one, other = simulate(Kind.SINUS, seed=1), simulate(Kind.SINUS, seed=2)
    assert not np.array_equal(one.ecg.signal, other.ecg.signal)
    assert not np.array_equal(one.r_peaks, other.r_peaks)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.FLAT_LEAD])
def test_limb_leads_obey_einthoven_and_goldberger(kind: Kind) -> None:
    ecg = simulate(kind, mains=0.05, wander=0.3).ecg
    assert ecg.leads == STANDARD_12
    lead_i, lead_ii = ecg["I"], ecg["II"]
    np.testing.assert_allclose(ecg["III"], lead_ii - lead_i, atol=1e-5)
    np.testing.assert_allclose(ecg["aVR"], -(lead_i + lead_ii) / 2, atol=1e-5)
    np.testing.assert_allclose(ecg["aVL"], lead_i - lead_ii / 2, atol=1e-5)
    np.testing.assert_allclose(ecg["aVF"], lead_ii - lead_i / 2, atol=1e-5)


@pytest.mark.parametrize("kind", HEARTS)
@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0, 1000.0])
def test_length_and_rate_are_those_asked_for(kind: Kind, rate: float) -> None:
    ecg = simulate(kind, sampling_frequency=rate, duration=8.0).ecg
    assert ecg.signal.shape == (12, round(8 * rate))
    assert ecg.sampling_frequency == rate


def test_between_t_offset_and_p_onset_nothing_is_drawn() -> None:
    made = simulate(Kind.BRADYCARDIA, noise=0.0)
    rate = made.ecg.sampling_frequency
    rest = made.r_peaks[2] + np.array([0.55, 0.75]) * rate
    assert np.abs(made.ecg.signal[:, round(rest[0]) : round(rest[1])]).max() == 0


def test_the_qrs_begins_and_ends_where_the_truth_says() -> None:
    made = simulate(Kind.SINUS, noise=0.0, pr_interval=240.0, sampling_frequency=1000.0)
    beat = made.r_peaks[3]
    onset = beat - 0.42 * made.truth["qrs_duration"]
    window = made.ecg.signal[:, round(onset) - 30 : round(onset) + 30]
    moving = np.flatnonzero(np.abs(window).max(axis=0) > 0)
    assert moving[0] - 30 == pytest.approx(0, abs=2)


def test_a_flat_lead_is_exactly_constant_and_the_others_beat() -> None:
    ecg = simulate(Kind.FLAT_LEAD).ecg
    assert np.ptp(ecg[FLAT]) == 0
    assert all(np.ptp(ecg[lead]) > 0.1 for lead in STANDARD_12 if lead is not FLAT)


def test_atrial_fibrillation_is_irregular_and_has_no_p_wave() -> None:
    made = simulate(Kind.ATRIAL_FIBRILLATION)
    intervals = np.diff(made.r_peaks)
    assert intervals.std() / intervals.mean() > 0.1
    assert "pr_interval" not in made.truth


def test_left_bundle_branch_block_looks_like_one() -> None:
    made = simulate(Kind.LBBB, noise=0.0)
    beat = round(made.r_peaks[2])
    qrs = made.ecg.signal[:, beat - 60 : beat + 60]
    net = dict(zip(made.ecg.leads, qrs.sum(axis=1), strict=True))
    assert made.truth["qrs_duration"] >= 120
    assert net[Lead.V1] < 0 < min(net[Lead.I], net[Lead.V5], net[Lead.V6])
    assert qrs[made.ecg.leads.index(Lead.V6)].min() > -0.02


def test_noise_has_no_truth_and_no_beats() -> None:
    made = simulate(Kind.NOISE)
    assert not made.truth
    assert made.r_peaks.size == 0
    assert made.ecg.signal.std() > 0.05
