"""What a backbone that stays as it is makes of recordings, computed once and kept.

Then an epoch of the head costs milliseconds. They are kept in the corpus, so that a withdrawal
finds them, under a name that comes from the backbone's tensors and from the recipe.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from analysis.recipe import Recipe
from training.architectures import Net
from training.caches import open_rows, publish
from training.convert import Imported, fingerprints

Rows = npt.NDArray[np.float32]

_BATCH: Final = 64
_TRIED: Final = 2
"""Rows that are computed again, to see that what was kept still holds."""
_TOLERANCE: Final = 1e-4


def digest(net: Net | Imported, recipe: Recipe) -> str:
    """Return the name of what this backbone makes of recordings in this form."""
    tensors = sorted(fingerprints(net.backbone).items())
    return sha256(repr((recipe.digest, is_linear(net), tensors)).encode()).hexdigest()


def is_linear(net: Net | Imported) -> bool:
    """Return whether the head is one linear layer on the embedding."""
    return isinstance(net.head, nn.Linear)


@torch.no_grad()
def embed(net: Net | Imported, waveforms: Rows) -> Rows:
    """Return what the head hears of each recording, ``(rows, …)``.

    Parameters
    ----------
    waveforms
        ``(rows, leads, samples)``.
    """
    training = net.training
    hear = net.eval().embed if is_linear(net) else net.eval().backbone
    parts = [hear(torch.from_numpy(batch)).numpy() for batch in _batches(waveforms)]
    net.train(training)
    return np.concatenate(parts)


def kept(net: Net | Imported, waveforms: Rows, ids: Sequence[str], folder: Path) -> Rows:
    """Return :func:`embed` of the recordings; what the folder has already is read from there.

    Parameters
    ----------
    ids
        The recording of each row, all of its rows together and in order.
    folder
        Of this :func:`digest`; what is new is added to it.
    """
    old = _read(net, waveforms, ids, folder)
    new = np.array([row for row, record in enumerate(ids) if record not in old], np.int64)
    made = _grouped([ids[row] for row in new], embed(net, waveforms[new])) if len(new) else {}
    known = old | made
    if made:
        shape = next(iter(made.values())).shape[1:]
        publish(folder, known.items(), shape, {"rows": "embeddings"})
    return np.concatenate([known[record] for record in dict.fromkeys(ids)])


def _read(
    net: Net | Imported, waveforms: Rows, ids: Sequence[str], folder: Path
) -> dict[str, Rows]:
    """Return what the folder has, by recording; nothing, if any of it no longer holds."""
    opened = open_rows(folder)
    if opened is None:
        return {}
    found = _grouped(*opened)
    count = Counter(ids)
    if any(len(rows) != count[record] for record, rows in found.items() if record in count):
        return {}
    tried = [row for row, record in enumerate(ids) if record in found][:_TRIED]
    place: Counter[str] = Counter()
    for row, again in zip(tried, embed(net, waveforms[tried]) if tried else (), strict=True):
        was = found[ids[row]][place[ids[row]]]
        place[ids[row]] += 1
        if not np.allclose(was, again, rtol=_TOLERANCE, atol=_TOLERANCE):
            return {}
    return found


def _grouped(ids: Sequence[str], rows: Rows) -> dict[str, Rows]:
    """Return the rows of each recording."""
    places: dict[str, list[int]] = {}
    for row, record in enumerate(ids):
        places.setdefault(record, []).append(row)
    return {record: np.asarray(rows[some]) for record, some in places.items()}


def _batches(waveforms: Rows) -> Iterator[Rows]:
    for at in range(0, len(waveforms), _BATCH):
        yield np.array(waveforms[at : at + _BATCH])
