"""Recordings as they might also have come: with leads missing, moved, louder, wandering, noisy.

A lead that is missing stays missing: its row is zeros, as when an ECG is served.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from training.plan import Augment

Rows = npt.NDArray[np.float32]
Random = np.random.Generator

_SLOWEST, _FASTEST = 0.05, 0.5
"""Hz of a wandering baseline."""
_NEVER: Final = 0.0


def augment(
    waveforms: Rows,
    targets: Rows,
    how: Augment,
    *,
    sampling_frequency: float,
    random: Random,
) -> tuple[Rows, Rows]:
    """Return a batch varied, and its targets.

    Parameters
    ----------
    waveforms, targets
        ``(batch, leads, samples)`` and ``(batch, outputs)``, NaN for unknown; both stay as
        they are.
    sampling_frequency
        Hz.
    random
        All chance comes from it: the same state gives the same batch.
    """
    varied = _moved(waveforms, round(how.time_shift * sampling_frequency), random)
    varied = varied * _gains(len(varied), how.amplitude, random)
    size = waveforms.std(axis=(1, 2), keepdims=True)
    if how.wander > _NEVER:
        varied = varied + how.wander * size * _wander(varied.shape, sampling_frequency, random)
    if how.noise > _NEVER:
        varied = varied + how.noise * size * random.standard_normal(varied.shape, np.float32)
    kept = _kept_leads(np.asarray(waveforms.any(axis=2)), how, random)
    varied = np.where(kept[:, :, None], varied, np.float32(0))
    return mixed(varied, targets, how.mixup, random)


def mixed(rows: Rows, targets: Rows, alpha: float, random: Random) -> tuple[Rows, Rows]:
    """Return each row mixed with another one, and the targets alike (Zhang 2018).

    What is unknown of either is unknown of the mixture.
    """
    if alpha <= _NEVER:
        return rows, targets
    other = random.permutation(len(rows))
    share = random.beta(alpha, alpha, len(rows)).astype(np.float32)
    return _between(rows, rows[other], share), _between(targets, targets[other], share)


def _between(one: Rows, other: Rows, share: Rows) -> Rows:
    shares = share.reshape(-1, *[1] * (one.ndim - 1))
    return shares * one + (1 - shares) * other


def _moved(waveforms: Rows, most: int, random: Random) -> Rows:
    """Return each recording moved in time by up to so many samples, zeros coming in."""
    samples = waveforms.shape[2]
    most = min(most, samples - 1)
    if most <= 0:
        return waveforms
    padded = np.pad(waveforms, ((0, 0), (0, 0), (most, most)))
    starts = random.integers(0, 2 * most + 1, len(waveforms))
    return np.stack([row[:, at : at + samples] for row, at in zip(padded, starts, strict=True)])


def _gains(count: int, most: float, random: Random) -> Rows:
    return random.uniform(1 - most, 1 + most, (count, 1, 1)).astype(np.float32)


def _wander(shape: tuple[int, ...], sampling_frequency: float, random: Random) -> Rows:
    """Return a slow sine in each lead, of one frequency in each recording and amplitude 1."""
    batch, leads, samples = shape
    hertz = random.uniform(_SLOWEST, _FASTEST, (batch, 1, 1))
    phase = random.uniform(0, 2 * np.pi, (batch, leads, 1))
    time = np.arange(samples) / sampling_frequency
    return np.sin(2 * np.pi * hertz * time + phase).astype(np.float32)


def _kept_leads(
    there: npt.NDArray[np.bool_], how: Augment, random: Random
) -> npt.NDArray[np.bool_]:
    """Return which leads stay, ``(batch, leads)``: of those that are there, at least one."""
    place = (random.random(there.shape) + ~there).argsort(axis=1).argsort(axis=1)
    count = np.maximum(there.sum(axis=1), 1)
    few = random.random(len(there)) < how.lead_subset
    most = np.where(few, random.integers(1, count + 1), count)
    stays = random.random(there.shape) >= how.lead_dropout
    return np.asarray(there & ((stays & (place < most[:, None])) | (place == 0)))
