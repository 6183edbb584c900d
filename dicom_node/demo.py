"""The demo: a node, a small PACS and a cart on loopback, with real and generated ECGs.

What it shows is the live path itself: the same processes, the same protocol, the same files.
"""

import multiprocessing
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from analysis.ecg import STANDARD_12, Acquisition, Lead, Patient, Sex
from analysis.formats import read
from analysis.formats.dicom import Identity, encode
from analysis.result import Result, Verdict
from analysis.synthetic import Kind, simulate
from dicom_node import node, scu
from dicom_node.ledger import Ledger, State
from dicom_node.pacs import Pacs
from dicom_node.report.uids import derive
from dicom_node.scu import Address
from dicom_node.settings import Destination, Dicom, Log, Ops, Settings, Storage

RESULTS = Path("demo-results")
_OBJECTS = 3
_LISTENING_PORTS = range(20_000, 32_000)  # below those that systems give to callers
_PATIENCE = 120.0  # seconds
_SETTLED = (State.DELIVERED, State.COMMITTED, State.QUARANTINED, State.FAILED)

_GENERATED = (
    (Kind.SINUS, 44.0, STANDARD_12),
    (Kind.BRADYCARDIA, 61.0, STANDARD_12),
    (Kind.TACHYCARDIA, 35.0, STANDARD_12),
    (Kind.ATRIAL_FIBRILLATION, 78.0, STANDARD_12),
    (Kind.LBBB, 70.0, STANDARD_12),
    (Kind.FIRST_DEGREE_AV_BLOCK, 66.0, STANDARD_12),
    (Kind.FLAT_LEAD, 52.0, STANDARD_12),
    (Kind.NOISE, 50.0, STANDARD_12),
    (Kind.ATRIAL_FIBRILLATION, 72.0, (Lead.I,)),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the demo's table."""

    source: str
    result: Result | None
    objects: int
    milliseconds: float | None
    problem: str


def run(count: int, folder: Path, console: Console) -> int:
    """Return the exit status: 0 when every source came back as it should.

    Parameters
    ----------
    count
        How many ECGs the cart sends: the real one, then generated ones.
    folder
        Where the PDFs go.
    console
        Where the table goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sinusnode-demo-") as scratch:
        sources = list(_sources(count, Path(scratch)))
        port = free_port()
        settings = _settings(Path(scratch) / "data", port)
        with Pacs(port) as pacs, _running(settings):
            _push(sources, settings, pacs, console)
            lines = _collect(sources, settings, pacs, folder)
    console.print(_table(lines))
    console.print(f"PDFs are in {folder}/. AI results, not verified; research use only.")
    return 0 if all(line.objects == _OBJECTS for line in lines) else 1


def _settings(data: Path, pacs_port: int) -> Settings:
    """Return settings that nothing outside the demo enters."""
    return Settings.model_construct(
        dicom=Dicom(port=free_port()),
        ops=Ops(port=free_port()),
        storage=Storage(folder=data, free_bytes=100 * 2**20, free_fraction=0.0),
        destinations=(Destination(ae_title="PACS", host="127.0.0.1", port=pacs_port),),
        log=Log(level="error"),
    )


def free_port() -> int:
    """Return a loopback port that was free a moment ago, and that no outgoing connection takes."""
    for port in random.SystemRandom().sample(_LISTENING_PORTS, k=100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise scu.Unreachable("no port of the loopback interface is free")


class _running:  # noqa: N801 - used as a verb
    """The node as a process of its own, up and ready inside the `with`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = multiprocessing.get_context("spawn").Process(
            target=node.serve, args=(settings, os.getpid())
        )

    def __enter__(self) -> None:
        self._process.start()
        wait_ready(self._settings, _PATIENCE)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join(30)


def wait_ready(settings: Settings, seconds: float) -> None:
    """Return when the node says that it is ready.

    Raises
    ------
    scu.Unreachable
        If it does not within some seconds.
    """
    url = f"http://{settings.ops.host}:{settings.ops.port}/readyz"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urlopen(url, timeout=2) as answer:
                if answer.status == 200:  # noqa: PLR2004 - HTTP OK
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.1)
    raise scu.Unreachable("the node did not become ready")


def _sources(count: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and file of each ECG: pydicom's cart recording first, then generated ones."""
    yield "cart recording (pydicom)", Path(str(get_testdata_file("waveform_ecg.dcm")))
    for number in range(count - 1):
        kind, age, leads = _GENERATED[number % len(_GENERATED)]
        path = folder / f"{number:04d}.dcm"
        made = generated(kind, age=age, number=number, leads=leads)
        made.save_as(path, enforce_file_format=True)
        yield f"generated: {kind.value}{'' if leads is STANDARD_12 else ' in lead I'}", path


def generated(
    kind: Kind, *, age: float, number: int, leads: Sequence[Lead] = STANDARD_12
) -> Dataset:
    """Return a General ECG object holding a simulated ECG of a patient who does not exist."""
    moment = datetime(2026, 1, 1, 8, number // 60 % 60, number % 60, tzinfo=UTC)
    uids = [derive("demo", kind, str(number), level) for level in ("study", "series", "sop")]
    return encode(
        simulate(kind, seed=number).ecg.select(leads),
        identity=Identity(
            study_instance_uid=uids[0],
            series_instance_uid=uids[1],
            sop_instance_uid=uids[2],
            created_at=moment,
            study_at=moment,
            study_id=str(number),
            series_description="Generated ECG, no patient",
        ),
        patient=Patient(
            age=age,
            sex=Sex.FEMALE if number % 2 else Sex.MALE,
            identifier=f"DEMO-{number:04d}",
            name=f"Demo^{kind.value.replace('_', ' ').title()}",
        ),
        acquisition=Acquisition(
            manufacturer="Sinusnode",
            model="simulator",
            acquired_at=moment,
        ),
    )


def _push(
    sources: Sequence[tuple[str, Path]], settings: Settings, pacs: Pacs, console: Console
) -> None:
    """Send every source as a cart would, and wait for the results."""
    peer = Address(settings.dicom.ae_title, settings.dicom.host, settings.dicom.port)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        sent = progress.add_task("sent by the cart", total=len(sources))
        back = progress.add_task("objects in the PACS", total=_OBJECTS * len(sources))
        for _ in scu.send([path for _, path in sources], peer, "CART"):
            progress.update(sent, advance=1)
            progress.update(back, completed=len(pacs.files))
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and not _all_settled(settings, len(sources)):
            pacs.wait(len(pacs.files) + 1, 0.1)
            progress.update(back, completed=len(pacs.files))
        progress.update(back, completed=len(pacs.files))


def _rows(settings: Settings) -> dict[str, dict[str, Any]]:
    ledger = Ledger(settings.database_url)
    try:
        return {row["sop_instance_uid"]: row for row in ledger.rows(limit=100_000)}
    finally:
        ledger.close()


def _all_settled(settings: Settings, count: int) -> bool:
    rows = _rows(settings)
    return len(rows) >= count and all(row["state"] in _SETTLED for row in rows.values())


def _collect(
    sources: Sequence[tuple[str, Path]], settings: Settings, pacs: Pacs, folder: Path
) -> list[Shown]:
    rows, by_source = _rows(settings), _by_source(pacs)
    lines = []
    for number, (name, path) in enumerate(sources, 1):
        uid = str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        objects = by_source.get(uid, [])
        for item in objects:
            if "EncapsulatedDocument" in item:
                stem = f"{number:02d}-{name.split(': ')[-1].split(' (')[0].replace(' ', '-')}"
                (folder / f"{stem}.pdf").write_bytes(_document(item))
        lines.append(_line(name, rows.get(uid), len(objects), path))
    return lines


def _document(item: Dataset) -> bytes:
    data: bytes = item.EncapsulatedDocument
    return data[: item.get("EncapsulatedDocumentLength", len(data))]


def _line(name: str, row: dict[str, Any] | None, objects: int, path: Path) -> Shown:
    if row is None:
        return Shown(name, None, 0, None, "not received")
    took = row["committed_at"] and 1e3 * (row["committed_at"] - row["received_at"])
    result = row["result"] and Result.from_json(row["result"], read(path))
    return Shown(name, result or None, objects, took, row["message"] or "")


def _by_source(pacs: Pacs) -> dict[str, list[Dataset]]:
    """Return what the PACS holds, by the SOP Instance UID of the source each object names."""
    found: dict[str, list[Dataset]] = {}
    for item in pacs.objects():
        found.setdefault(_source_uid(item), []).append(item)
    return found


def _source_uid(item: Dataset) -> str:
    if "SourceInstanceSequence" in item:
        return str(item.SourceInstanceSequence[0].ReferencedSOPInstanceUID)
    if "ReferencedInstanceSequence" in item:
        return str(item.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID)
    study = item.CurrentRequestedProcedureEvidenceSequence[0]
    return str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def _table(lines: Sequence[Shown]) -> Table:
    table = Table(title="What came back to the PACS", show_lines=False)
    for heading in ("source", "statements", "rate/PR/QRS/QTc", "objects", "ms"):
        table.add_column(heading, justify="right" if heading in ("objects", "ms") else "left")
    for line in lines:
        table.add_row(
            line.source,
            _said(line),
            _numbers(line.result),
            str(line.objects),
            "–" if line.milliseconds is None else f"{line.milliseconds:.0f}",
        )
    return table


def _said(line: Shown) -> str:
    if line.result is None:
        return line.problem or "–"
    quality = line.result.quality
    reasons = ", ".join(quality.reasons)
    if quality.verdict is Verdict.NON_DIAGNOSTIC:
        return f"Non-diagnostic ECG: {reasons}"
    texts = [statement.text for statement in line.result.statements[:3]]
    said = "; ".join(texts) or "no listed finding above its threshold"
    return said if quality.verdict is Verdict.FULL else f"{said} (limited: {reasons})"


def _numbers(result: Result | None) -> str:
    if result is None:
        return "–"
    meas = result.measurements
    values = (meas.heart_rate, meas.pr_interval, meas.qrs_duration, meas.qtc_fridericia)
    return "/".join("–" if item.value is None else f"{item.value:.0f}" for item in values)
