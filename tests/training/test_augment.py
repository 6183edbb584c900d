from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.augment import augment, mixed
from training.plan import Augment

NONE = Augment.none()


def batch(count: int = 8, leads: int = 12, samples: int = 200) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, leads, samples)).astype(np.float32)


def varied(waveforms: np.ndarray, how: Augment, seed: int = 0) -> np.ndarray:
    targets = np.zeros((len(waveforms), 1), np.float32)
    random = np.random.default_rng(seed)
    return augment(waveforms, targets, how, sampling_frequency=100.0, random=random)[0]


def with_only(**ways: float) -> Augment:
    return replace(NONE, **ways)


def test_without_any_way_recordings_stay_as_they_are() -> None:
    np.testing.assert_array_equal(varied(batch(), NONE), batch())


def test_one_seed_varies_alike_and_the_batch_that_came_stays() -> None:
    waveforms, how = batch(), Augment(mixup=0.3)
    first = varied(waveforms, how)
    np.testing.assert_array_equal(first, varied(waveforms, how))
    np.testing.assert_array_equal(waveforms, batch())
    assert not np.allclose(first, varied(waveforms, how, seed=1))
    assert first.dtype == np.float32


@given(
    st.lists(st.booleans(), min_size=12, max_size=12).filter(any),
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.9),
    st.floats(0, 1),
)
def test_a_missing_lead_stays_missing_and_one_lead_at_least_stays(
    there: list[bool], seed: int, dropout: float, subset: float
) -> None:
    waveforms = batch(4) * np.float32(there)[None, :, None]
    how = Augment(lead_dropout=dropout, lead_subset=subset, wander=0.5, noise=0.5)
    left = varied(waveforms, how, seed).any(axis=2)
    assert not left[:, ~np.array(there)].any()
    assert left.any(axis=1).all()


def test_every_number_of_leads_down_to_one_is_seen() -> None:
    left = varied(batch(2000, samples=8), with_only(lead_subset=1.0)).any(axis=2)
    counts = np.bincount(left.sum(axis=1), minlength=13)
    assert counts[0] == 0
    assert (counts[1:] > 100).all()
    assert (left.mean(axis=0) > 0.4).all()


def test_leads_are_lost_as_often_as_said() -> None:
    left = varied(batch(2000, samples=8), with_only(lead_dropout=0.25)).any(axis=2)
    assert left.mean() == pytest.approx(0.75 + 0.25 / 12, abs=0.01)


def test_a_shift_moves_all_leads_alike_and_lets_zeros_in() -> None:
    waveforms = batch(64)
    moved = varied(waveforms, with_only(time_shift=0.5))
    for before, after in zip(waveforms, moved, strict=True):
        first = int(np.flatnonzero(after.any(axis=0))[0])
        last = int(np.flatnonzero(after.any(axis=0))[-1])
        kept = after[:, first : last + 1]
        at = 199 - last if first == 0 else -first
        assert abs(at) <= 50
        np.testing.assert_array_equal(kept, before[:, max(at, 0) : max(at, 0) + kept.shape[1]])


def test_amplitude_changes_all_leads_of_a_recording_alike() -> None:
    ratio = varied(batch(), with_only(amplitude=0.2)) / batch()
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] * np.ones_like(ratio), rtol=1e-4)
    assert 0.8 <= ratio.min() < ratio.max() <= 1.2


@pytest.mark.parametrize("gain", [1.0, 1000.0])
def test_noise_and_wander_are_as_large_as_the_recording_says(gain: float) -> None:
    """Whether it is in mV or µV."""
    waveforms = np.float32(gain) * batch(256)
    noise = varied(waveforms, with_only(noise=0.1)) - waveforms
    assert noise.std() == pytest.approx(0.1 * gain, rel=0.02)
    wander = varied(waveforms, with_only(wander=0.2)) - waveforms
    assert np.abs(wander).max() == pytest.approx(0.2 * gain, rel=0.1)
    assert np.abs(np.diff(wander)).max() < 0.01 * gain


def test_a_mixture_knows_only_what_both_know() -> None:
    rows = np.float32([[0.0], [10.0], [20.0]])
    targets = np.float32([[0, 1], [1, np.nan], [0, 0]])
    random = np.random.default_rng(3)
    mixture, wanted = mixed(rows, targets, 0.4, random)
    assert (mixture >= 0).all()
    assert (mixture <= 20).all()
    known = np.isfinite(wanted)
    assert known[:, 0].all()
    assert not known[:, 1].all()
    assert ((wanted[known] >= 0) & (wanted[known] <= 1)).all()
