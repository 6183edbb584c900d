"""How fast recordings enter a corpus, become a cache, and are read by training.

``python tests/bench/corpus.py [--data ../shared/data] [--processes 2]``
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from analysis.recipe import Length, Recipe
from training.corpus import Corpus
from training.databases import DATABASES, items
from training.importing import counts, import_items

RECIPE = Recipe(
    sampling_frequency=100.0,
    samples=1000,
    stride=1000,
    length=Length.CROP_START,
    minimum_seconds=5.0,
    allowed_missing=11,
)
BATCH = 64
BATCHES = 500


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    done = work()
    return done, time.perf_counter() - begin


def of(files: int, seconds: float) -> str:
    return f"{files} in {seconds:.1f} s: {files / seconds:.0f}/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    stated = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.create(Path(folder) / "corpus")
        for name in DATABASES:
            measure_import(corpus, stated.data / name, stated.processes)
        measure_cache(corpus, stated.processes)


def measure_import(corpus: Corpus, folder: Path, processes: int) -> None:
    found = list(items(folder) or ())

    def work() -> dict[str, Any]:
        return counts(import_items(corpus, found, folder, processes=processes))

    summary, seconds = timed(work)
    _, again = timed(work)
    print(f"import {folder.name}: {of(summary['files'], seconds)}; again {again:.2f} s")


def measure_cache(corpus: Corpus, processes: int) -> None:
    cache, seconds = timed(lambda: corpus.cache(RECIPE, processes=processes))
    print(f"cache: {of(len(cache.ids) + len(cache.unusable), seconds)}")
    _, seconds = timed(lambda: corpus.cache(RECIPE))
    print(f"cache that is there: {1000 * seconds:.0f} ms")
    rows = np.random.default_rng(0).integers(0, len(cache.ids), (BATCHES, BATCH))
    _, seconds = timed(lambda: [cache.signal[batch] for batch in rows])
    print(f"read at random, in batches of {BATCH}: {1e6 * seconds / rows.size:.1f} µs a record")
    table, seconds = timed(lambda: corpus.labels)
    _, more = timed(lambda: table.matrix(cache.ids))
    print(f"{len(table.labels)} labels: {1000 * seconds:.0f} ms, matrix {1000 * more:.0f} ms")
    size = sum(path.stat().st_size for path in corpus.folder.glob("recordings/*/*"))
    raw = sum(record.samples * len(record.leads) for record in corpus.records)
    print(f"stored: {size / 1e6:.0f} MB, {size / raw:.2f} bytes a sample")


if __name__ == "__main__":
    main()
