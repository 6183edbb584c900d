"""From receipt to delivery while a training run uses the machine, beside the idle machine.

``python tests/bench/training_load.py [--seconds 60] [--rate 2]``

`sinusnode run` as it is shipped, with its train worker at the lowest priority; carts that send at
an even rate, each ECG on an association of its own, whether or not the ones before are through;
a receiver in a process of its own. First nothing else runs, then a net learns from nothing. The
mark is a p95 of at most three times the idle one; the command ends with 1 if it is
missed, or if the run did not learn the whole time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from statistics import median

import bench
from pynetdicom import _config
from receiver import Arrivals, receiving

import analysis
from analysis.ecg import Recording
from analysis.synthetic import Kind, simulate
from dicom_node.demo import free_port
from training.corpus import Corpus
from training.importing import import_folder
from training.labels import Label, Origin, Value

MARK = 3.0
CARTS = 8
KEYS = ("lbbb", "normal")
EPOCHS = 10_000  # more than the measurement waits for
START = 600.0  # seconds until the first epoch is complete


@dataclass(frozen=True, slots=True)
class Load:
    """What one phase showed."""

    name: str
    milliseconds: list[float]
    """From the C-STORE request to the arrival of the third result, one for each ECG."""

    @property
    def p95(self) -> float:
        """The 95th percentile, ms."""
        return bench.p95(self.milliseconds)

    def __str__(self) -> str:
        """Return a line of the page."""
        took = self.milliseconds
        return (
            f"{self.name:<9} {len(took):4d} ECGs   p50 {median(took):6.1f} ms"
            f"   p95 {self.p95:6.1f} ms   longest {max(took):6.1f} ms"
        )


def measure(
    name: str, service: bench.Service, sources: Sequence[bench.ECG], arrivals: Arrivals, rate: float
) -> Load:
    """Send each ECG at its moment, and return how long each took."""
    began = time.monotonic()

    def send(number: int) -> float:
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        association = bench.associate(service)
        bench.settle(association)
        start = time.monotonic()
        bench.store(association, sources[number])
        association.release()
        return start

    with ThreadPoolExecutor(CARTS) as carts:
        starts = list(carts.map(send, range(len(sources))))
    ends = arrivals.complete({ecg.study for ecg in sources}, bench.PATIENCE)
    pairs = zip(sources, starts, strict=True)
    return Load(name, [1e3 * (ends[ecg.study] - start) for ecg, start in pairs])


# The run


def corpus(folder: Path, count: int) -> Path:
    """Return the folder of a corpus of simulated hearts, every other with a bundle branch block."""
    source = folder / "hearts"
    source.mkdir()
    for number in range(count):
        made = simulate(Kind.LBBB if number % 2 else Kind.SINUS, seed=number).ecg
        analysis.write(Recording(ecg=made, format="simulated"), source / f"{number}.npz")
    made_corpus = Corpus.create(folder / "corpus")
    list(import_folder(made_corpus, source, site="bench", processes=1))
    resolve = made_corpus.resolver()
    made_corpus.add_labels(
        Label(
            record=resolve(f"{number}.npz")[0],
            key=key,
            value=Value.PRESENT if (key == "lbbb") == bool(number % 2) else Value.ABSENT,
            origin=Origin.REVIEWER,
            author="bench",
        )
        for number in range(count)
        for key in KEYS
    )
    return made_corpus.folder


class Learning:
    """A training run of the node's own train worker, asked for by its command."""

    def __init__(self, node: Path, corpus_folder: Path) -> None:
        self._node = node
        options = [f"--key={key}" for key in KEYS]
        options += ["--base=xceptiontime", "--mode=scratch", f"--epochs={EPOCHS}"]
        options += ["--name=load", f"--corpus={corpus_folder}", "--set", "patience=0", "--queue"]
        self._number = str(self._command("start", *options)[-1]["id"])

    def epochs(self) -> int:
        """Return how many epochs are complete.

        Raises
        ------
        RuntimeError
            If it is no longer under way.
        """
        (shown,) = self._command("show", self._number)
        if shown["state"] not in {"QUEUED", "RUNNING"}:
            raise RuntimeError(f"the run ended: {shown['message']}")
        return len(shown["epochs"])

    def wait(self) -> int:
        """Return how many epochs are complete, once one is."""
        end = time.monotonic() + START
        while not (done := self.epochs()):
            if time.monotonic() > end:
                raise TimeoutError("no epoch was complete in time")
            time.sleep(1.0)
        return done

    def _command(self, *words: str) -> list[dict[str, object]]:
        command = [sys.executable, "-m", "dicom_node", "train", *words, "--json"]
        done = subprocess.run(command, cwd=self._node, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]


# The page


def phases(arguments: argparse.Namespace, folder: Path) -> Iterator[Load]:
    """Yield the idle phase, then the one beside a run."""
    pacs_port, count = free_port(), round(arguments.seconds * arguments.rate)
    (folder / "files").mkdir()
    supply = bench.ecgs(folder / "files")
    model = Path(str(resources.files("analysis") / "models" / "twelve-lead.onnx"))
    more = f"admin.port = {free_port()}"
    with ExitStack() as stack:
        arrivals = stack.enter_context(receiving(pacs_port))
        service = stack.enter_context(
            bench.sinusnode(folder / "node", pacs_port, model, "run", more)
        )
        measure("warm-up", service, list(islice(supply, CARTS)), arrivals, arguments.rate)
        idle = list(islice(supply, count))
        yield measure("idle", service, idle, arrivals, arguments.rate)
        run = Learning(folder / "node", corpus(folder, arguments.records))
        before, beside = run.wait(), list(islice(supply, count))
        yield measure("training", service, beside, arrivals, arguments.rate)
        print(f"epochs meanwhile: {run.epochs() - before}")


def main() -> int:
    """Print both phases and their ratio; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--rate", type=float, default=2.0, help="ECGs per second")
    parser.add_argument("--records", type=int, default=400, help="that the run learns from")
    arguments = parser.parse_args()
    _config.STORE_SEND_CHUNKED_DATASET = True
    with tempfile.TemporaryDirectory(prefix="sinusnode-load-") as scratch:
        print(bench.machine(Path(scratch)))
        found = []
        for load in phases(arguments, Path(scratch)):
            print(load, flush=True)
            found.append(load)
    idle, training = found
    ratio = training.p95 / idle.p95
    print(f"p95 beside training: {ratio:.2f} times the idle one (at most {MARK:g})")
    return int(ratio > MARK)


if __name__ == "__main__":
    sys.exit(main())
