"""Sinusnode and the stock recipe side by side, in one run on one machine: `make bench`.

Both receive the same files from the same senders and deliver to the same receiver, in rounds
that alternate. Sinusnode runs as it is shipped, durable; the stock recipe in its tuned form,
once with one analysing process, as it is usually written, and once with one for each core.
"""

import argparse
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import resources
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median, quantiles

import psutil
import stages
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from receiver import AE_TITLE, Arrivals, receiving
from rich.console import Console
from rich.table import Table

from analysis.synthetic import Kind
from dicom_node.demo import free_port, generated

GENERAL_ECG = "1.2.840.10008.5.1.4.1.1.9.1.2"
SENDERS = 4
WARM_UP = 4
PATIENCE = 120.0  # seconds
KINDS = (Kind.SINUS, Kind.BRADYCARDIA, Kind.TACHYCARDIA, Kind.ATRIAL_FIBRILLATION, Kind.LBBB)
CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Service:
    """A running service and where it is called."""

    ae_title: str
    port: int
    process: psutil.Process

    def processor_time(self) -> float:
        """Return the seconds that its processes have used; those that ended do not count."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)


@dataclass(slots=True)
class Contestant:
    """One that receives ECGs and delivers results, and what was measured of it."""

    name: str
    service: Service
    burst: int
    """How many ECGs are pushed at once."""
    acknowledged: list[float] = field(default_factory=list)
    """ms from the C-STORE request to its response, one at a time."""
    delivered: list[float] = field(default_factory=list)
    """ms from the C-STORE request to the arrival of the third result."""
    rates: list[float] = field(default_factory=list)
    """ECGs per second of each burst."""
    costs: list[float] = field(default_factory=list)
    """ms of processor time per ECG of each burst, all its processes."""


@dataclass(frozen=True, slots=True)
class ECG:
    """A file to send, and its study."""

    file: Path
    study: str


def ecgs(folder: Path) -> Iterator[ECG]:
    """Yield 12-lead General ECG objects of 10 s at 500 Hz, each with UIDs of its own."""
    for number, kind in zip(count(), cycle(KINDS), strict=False):
        dataset = generated(kind, age=60.0, number=number)
        file = folder / f"{number}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        yield ECG(file, str(dataset.StudyInstanceUID))


# The contestants


@contextmanager
def serving(command: Sequence[str], folder: Path, ae_title: str, port: int) -> Iterator[Service]:
    """Run a service until its port answers, its words in its folder; terminate it in the end."""
    log = folder / "log"
    with log.open("wb") as out, subprocess.Popen(command, cwd=folder, stdout=out, stderr=out) as it:
        try:
            end = time.monotonic() + PATIENCE
            while not _listens(port):
                if it.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{ae_title} does not start: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield Service(ae_title, port, psutil.Process(it.pid))
        finally:
            it.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sinusnode(
    folder: Path, pacs_port: int, model: Path, command: str = "serve", more: str = ""
) -> AbstractContextManager[Service]:
    """Run `sinusnode serve` as shipped: durable storage, a worker for each core."""
    folder.mkdir()
    port = free_port()
    (folder / "sinusnode.toml").write_text(
        f"""
        dicom.port = {port}
        ops.port = {free_port()}
        {more}
        storage = {{ folder = "data", free_bytes = 100_000_000, free_fraction = 0 }}
        models.initial = "{model}"
        [[destinations]]
        ae_title = "{AE_TITLE}"
        host = "127.0.0.1"
        port = {pacs_port}
        """
    )
    return serving([sys.executable, "-m", "dicom_node", command], folder, "SINUSNODE", port)


def stock_recipe(
    folder: Path, pacs_port: int, model: Path, *options: str
) -> AbstractContextManager[Service]:
    """Run the stock recipe."""
    folder.mkdir()
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("stock.py")), "--port", str(port)]
    command += ["--pacs-port", str(pacs_port), "--model", str(model), "--folder", str(folder)]
    return serving([*command, *options], folder, "STOCK", port)


def associate(service: Service) -> Association:
    """Return an association as a cart opens it; nothing it sends waits for an answer's delay."""
    ae = AE("CART")
    ae.add_requested_context(GENERAL_ECG, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", service.port, ae_title=service.ae_title)
    if not association.is_established:
        raise RuntimeError(f"{service.ae_title} accepts no association")
    association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return association


# The measurements


def settle(association: Association) -> None:
    """Let pynetdicom's reactor thread pause, or it may take the answer that the sender awaits."""
    association._reactor_checkpoint.clear()
    time.sleep(0.005)


def store(association: Association, ecg: ECG) -> None:
    """Send one ECG; it must be acknowledged."""
    status = association.send_c_store(ecg.file).get("Status")
    if status != 0:
        raise RuntimeError(f"{association.acceptor.ae_title} answers C-STORE with {status}")


def one_at_a_time(contestant: Contestant, sources: Sequence[ECG], arrivals: Arrivals) -> None:
    """Send each ECG on an association of its own, when the one before is delivered."""
    for ecg in sources:
        association = associate(contestant.service)
        settle(association)
        start = time.monotonic()
        store(association, ecg)
        contestant.acknowledged.append(1e3 * (time.monotonic() - start))
        end = arrivals.complete({ecg.study}, PATIENCE)[ecg.study]
        contestant.delivered.append(1e3 * (end - start))
        association.release()


def all_at_once(contestant: Contestant, sources: Sequence[ECG], arrivals: Arrivals) -> None:
    """Push the ECGs by several senders, each on one association."""
    associations = [associate(contestant.service) for _ in range(SENDERS)]

    def push(number: int) -> None:
        for ecg in sources[number::SENDERS]:
            settle(associations[number])
            store(associations[number], ecg)

    used, start = contestant.service.processor_time(), time.monotonic()
    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(push, range(SENDERS)))
    ends = arrivals.complete({ecg.study for ecg in sources}, PATIENCE)
    contestant.rates.append(len(sources) / (max(ends.values()) - start))
    cost = contestant.service.processor_time() - used
    contestant.costs.append(1e3 * cost / len(sources))
    for association in associations:
        association.release()


def measure(
    contestants: Sequence[Contestant], arrivals: Arrivals, folder: Path, args: argparse.Namespace
) -> int:
    """Fill in what is measured, and return in how many rounds.

    The rounds alternate the order; within a round all get the same files. No round is begun
    when the time is up.
    """
    supply = ecgs(folder)
    warm_up = list(islice(supply, WARM_UP))
    for contestant in contestants:
        all_at_once(contestant, warm_up, arrivals)
        contestant.rates.clear()
        contestant.costs.clear()
    end = time.monotonic() + args.seconds
    for number in range(args.rounds):
        if number and time.monotonic() > end:
            return number
        single = list(islice(supply, args.singles))
        burst = list(islice(supply, max(contestant.burst for contestant in contestants)))
        order = contestants if number % 2 == 0 else contestants[::-1]
        for contestant in order:
            one_at_a_time(contestant, single, arrivals)
        for contestant in order:
            all_at_once(contestant, burst[: contestant.burst], arrivals)
    return int(args.rounds)


# The page


def machine(folder: Path) -> str:
    """Return what this ran on, in one line; `folder` is where the services store."""
    model = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    load = os.getloadavg()[0]
    return (
        f"{CORES} cores ({model}), {platform.system()}, "
        f"Python {platform.python_version()}, a synced write {synced_write(folder):.1f} ms, "
        f"load at the start {load:.1f}"
    )


def synced_write(folder: Path) -> float:
    """Return the median ms of syncing one object; only Sinusnode waits for that."""
    times = []
    with (folder / "synced").open("wb") as file:
        for _ in range(30):
            file.write(bytes(120_000))
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return quantiles(values, n=20, method="inclusive")[-1]


COLUMNS = ("", "acknowledged", "delivered p50", "p95", "ECG/s", "CPU", "latency", "rate")


def comparison(contestants: Sequence[Contestant], rounds: int) -> Table:
    """Return the figures; a ratio says how many times better Sinusnode is."""
    ours = contestants[0]
    table = Table(
        title=f"{rounds} rounds: ECGs one at a time, then a burst; milliseconds",
        caption="acknowledged: C-STORE answered; delivered: all three results at the receiver;\n"
        "CPU: all processes, per ECG of a burst; last two: how many times better Sinusnode is",
    )
    for heading in COLUMNS:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for item in contestants:
        faster = median(item.delivered) / median(ours.delivered)
        more = median(ours.rates) / median(item.rates)
        table.add_row(
            item.name,
            f"{median(item.acknowledged):.1f}",
            f"{median(item.delivered):.1f}",
            f"{p95(item.delivered):.1f}",
            f"{median(item.rates):.1f}",
            f"{median(item.costs):.0f}",
            "" if item is ours else f"{faster:.1f}x",
            "" if item is ours else f"{more:.1f}x",
        )
    return table


def stage_table(file: Path, model: Path) -> Table:
    """Return where the time of one ECG goes."""
    ours, theirs = stages.sinusnode(file, model), stages.stock_recipe(file, model)
    table = Table("stage, one ECG in process", title="Processor time, median ms")
    table.add_column("Sinusnode", justify="right")
    table.add_column("stock", justify="right")
    for name, took in ours.items():
        table.add_row(name, f"{took:.2f}", f"{theirs[name]:.2f}" if name in theirs else "–")
    table.add_row("all", f"{sum(ours.values()):.2f}", f"{sum(theirs.values()):.2f}")
    return table


def main() -> None:
    """Run the benchmark and print it."""
    args = _arguments()
    _config.STORE_SEND_CHUNKED_DATASET = True
    console = Console(width=110)
    pacs_port = free_port()
    with tempfile.TemporaryDirectory(prefix="sinusnode-bench-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        console.print(machine(folder))
        (folder / "files").mkdir()
        arrivals = stack.enter_context(receiving(pacs_port))
        ours = stack.enter_context(sinusnode(folder / "node", pacs_port, args.model))
        contestants = [Contestant("Sinusnode", ours, args.burst)]
        plain = ["--plain"] * args.plain
        for workers in sorted({1, CORES}):
            run = stock_recipe(
                folder / f"stock-{workers}", pacs_port, args.model, f"--workers={workers}", *plain
            )
            name = f"stock, {workers} of {CORES} cores"
            contestants.append(Contestant(name, stack.enter_context(run), args.stock_burst))
        rounds = measure(contestants, arrivals, folder / "files", args)
        console.print(comparison(contestants, rounds))
        stack.pop_all().close()
        console.print(stage_table(folder / "files" / "0.dcm", args.model))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sinusnode and the stock recipe, side by side.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120.0, help="begin no round after them")
    parser.add_argument("--singles", type=int, default=10, help="ECGs one at a time, per round")
    parser.add_argument("--burst", type=int, default=200, help="ECGs at once, Sinusnode")
    parser.add_argument("--stock-burst", type=int, default=40, help="ECGs at once, stock")
    parser.add_argument("--plain", action="store_true", help="plain matplotlib in the stock recipe")
    shipped = resources.files("analysis") / "models" / "twelve-lead.onnx"
    parser.add_argument("--model", type=Path, default=Path(str(shipped)))
    return parser.parse_args()


if __name__ == "__main__":
    main()
