"""Recordings in the form a model takes, made once and read by training at the disk's speed.

A cache is a folder: `values.f32`, rows of float32, and `about.json`, which says whose rows they
are. It is written under another name and renamed when it is whole. Its rows are what
:func:`analysis.standardise` gives when an ECG is served, bit by bit: a cache that other code or
another version of the libraries made is made again.
"""

import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy

from analysis.ecg import ECG
from analysis.recipe import Recipe
from analysis.standardise import standardise
from dicom_node.archive import decode

Rows = npt.NDArray[np.float32]
Made = tuple[str, Rows | str]
"""A record's id with its rows, or with why it has none."""
Track = Callable[[Iterable[Any], int], Iterable[Any]]
"""Passes items on and shows how many of how many have come."""

_VALUES: Final = "values.f32"
_ABOUT: Final = "about.json"
_FEW: Final = 500
"""Records that are sooner made here than by processes that must start first."""
_CHUNK: Final = 16


def untracked(items: Iterable[Any], total: int) -> Iterable[Any]:  # noqa: ARG001 - a Track
    """Return the items as they are."""
    return items


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cache:
    """Recordings in a recipe's form.

    Parameters
    ----------
    ids
        The record of each row. A recipe of windows gives a longer recording several rows.
    signal
        ``(rows, leads, samples)``, float32, read-only, in the recipe's unit; it stays on disk.
    unusable
        Why a recording has no row, by its id.
    """

    ids: tuple[str, ...]
    signal: Rows
    unusable: Mapping[str, str]

    def rows(self, ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return which rows belong to these recordings, in the order of the rows."""
        wanted = frozenset(ids)
        found = [row for row, record in enumerate(self.ids) if record in wanted]
        return np.array(found, np.int64)


def build_cache(
    folder: Path,
    paths: Mapping[str, Path],
    recipe: Recipe,
    *,
    processes: int | None = None,
    track: Track = untracked,
) -> Cache:
    """Return the recordings of these files in a recipe's form; only what is new is computed."""
    shape = (len(recipe.leads), recipe.samples)
    old = open_cache(folder)
    known = set(read_ids(folder)) if old is not None else set()
    if old is not None and known == set(paths):
        return old
    new = {record: path for record, path in paths.items() if record not in known}
    made = track(_computed(new, recipe, processes), len(new))
    kept = _kept(old, paths.keys()) if old is not None else ()
    about = {"recipe": recipe.to_mapping(), "code": _code()}
    publish(folder, chain(kept, made), shape, about)
    cache = open_cache(folder)
    if cache is None:
        raise ValueError(f"{folder} cannot be read back")
    return cache


def open_cache(folder: Path) -> Cache | None:
    """Return the cache of a folder, or None where it is not whole or other code made it."""
    about = _about(folder)
    if about is None or about["code"] != _code():
        return None
    return Cache(ids=tuple(about["ids"]), signal=_mapped(folder, about), unusable=about["without"])


def publish(
    folder: Path, made: Iterable[Made], shape: Sequence[int], about: Mapping[str, Any]
) -> None:
    """Write rows of one shape, whole or not at all, in the place of what was there.

    Parameters
    ----------
    made
        Each record's id with ``(rows, *shape)``, or with why it has none.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    ids: list[str] = []
    without: dict[str, str] = {}
    with (draft / _VALUES).open("wb") as file:
        for record, rows in made:
            if isinstance(rows, str):
                without[record] = rows
            else:
                ids += [record] * len(rows)
                file.write(np.ascontiguousarray(rows, "<f4").data)
        file.flush()
        os.fsync(file.fileno())
    document = dict(about) | {"shape": list(shape), "ids": ids, "without": without}
    (draft / _ABOUT).write_text(json.dumps(document))
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def open_rows(folder: Path) -> tuple[tuple[str, ...], Rows] | None:
    """Return ids and rows that :func:`publish` wrote, or None where they are not whole."""
    about = _about(folder)
    return None if about is None else (tuple(about["ids"]), _mapped(folder, about))


def read_ids(folder: Path) -> tuple[str, ...]:
    """Return the records that a cache knows, those without a row included."""
    about = _about(folder)
    return () if about is None else (*about["ids"], *about["without"])


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = json.loads((folder / _ABOUT).read_text())
        size = (folder / _VALUES).stat().st_size
    except (OSError, ValueError):
        return None
    whole = size == 4 * len(about["ids"]) * int(np.prod(about["shape"]))
    return about if whole else None


def _mapped(folder: Path, about: Mapping[str, Any]) -> Rows:
    shape = (len(about["ids"]), *about["shape"])
    if not about["ids"]:
        return np.zeros(shape, np.float32)
    return np.memmap(folder / _VALUES, np.dtype("<f4"), "r", shape=shape)


def _kept(old: Cache, wanted: Iterable[str]) -> Iterator[Made]:
    """Yield what a cache holds of these records, several rows of one record together."""
    left = set(wanted)
    yield from ((record, why) for record, why in old.unusable.items() if record in left)
    for row, record in enumerate(old.ids):
        if record in left:
            yield record, old.signal[row : row + 1]


def _computed(paths: Mapping[str, Path], recipe: Recipe, processes: int | None) -> Iterator[Made]:
    """Yield each record's rows in order, made by several processes where it pays."""
    make = partial(_make, recipe)
    count = processes or (1 if len(paths) <= _FEW else os.cpu_count() or 1)
    if count == 1:
        yield from map(make, paths.items())
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, paths.items(), chunksize=_CHUNK)


def _make(recipe: Recipe, item: tuple[str, Path]) -> Made:
    record, path = item
    try:
        ecg, _ = decode(path)
    except (OSError, ValueError):
        return record, "its file is missing or damaged"
    standard = standardise(ecg, recipe)
    return record, standard.unusable or standard.windows


@cache
def _code() -> str:
    """Return what the rows rest on beside the recipe: the code of the house and its libraries."""
    files = [inspect.getsourcefile(item) or "" for item in (ECG, Recipe, standardise)]
    parts = [*(Path(file).read_text() for file in files), np.__version__, scipy.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
