"""Real peers on loopback: the node itself, dcmtk, Orthanc; each ended by its own process id."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from pynetdicom import AE
from pynetdicom.sop_class import Verification
from support import ROOT, need_program

from dicom_node.demo import free_port

CART = "CART"
NODE = "SINUSNODE"
_PATIENCE = 30.0  # seconds
_LINE_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Called:
    """Where a peer is called."""

    ae_title: str
    port: int
    host: str = "127.0.0.1"


def eventually(what: str, found: Callable[[], Any], seconds: float = _PATIENCE) -> Any:
    """Return what `found` gives once it is truthy; fail with `what` when it never is."""
    end = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
    return value


@contextmanager
def _process(command: Sequence[str], folder: Path, **environment: str) -> Iterator[Path]:
    """Run a program in a folder, its words in a file there; terminate it in the end."""
    log = folder / f"{Path(command[0]).name}.log"
    clean = {name: value for name, value in os.environ.items() if "SINUSNODE" not in name}
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, cwd=folder, env=clean | environment, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield log
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(peer: Called) -> bool:
    ae = AE(CART)
    ae.add_requested_context(Verification)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return "Status" in answer


def get(url: str, document: Any = None) -> Any:
    """Return the JSON that a GET, or a POST of `document`, answers."""
    data = None if document is None else json.dumps(document).encode()
    with urlopen(Request(url, data), timeout=10) as answer:
        return json.load(answer)


def _ready(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


# The node


@dataclass(frozen=True, slots=True)
class Node:
    """A running `sinusnode serve`."""

    called: Called
    config: Path
    log: Path

    def queue(self) -> list[dict[str, Any]]:
        """Return the rows of `sinusnode queue --json`."""
        output = subprocess.run(
            [_sinusnode(), "queue", "--json", "--config", str(self.config)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return [
            row for line in output.splitlines() if "sop_instance_uid" in (row := json.loads(line))
        ]

    def settled(self, count: int) -> list[dict[str, Any]]:
        """Return the rows once there are `count` and each is delivered or set aside."""
        done = {"DELIVERED", "COMMITTED", "QUARANTINED", "FAILED"}

        def rows() -> list[dict[str, Any]]:
            found = self.queue()
            return found if sum(row["state"] in done for row in found) >= count else []

        return eventually(f"{count} settled rows", rows)


def _sinusnode() -> str:
    return str(Path(sys.executable).with_name("sinusnode"))


@contextmanager
def running_node(folder: Path, *destinations: Called, port: int | None = None) -> Iterator[Node]:
    """Run a node as shipped, with its settings and its data in a folder, until it is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    called, management = Called(NODE, port or free_port()), free_port()
    config = folder / "sinusnode.toml"
    config.write_text(_settings(called, management, destinations))
    with _process([_sinusnode(), "serve", "--config", str(config)], folder) as log:
        url = f"http://127.0.0.1:{management}/readyz"
        eventually(f"the node is ready, see {log}", lambda: _ready(url))
        yield Node(called, config, log)


def _settings(called: Called, management: int, destinations: Sequence[Called]) -> str:
    text = f"""
        [dicom]
        port = {called.port}
        [ops]
        port = {management}
        [storage]
        folder = "data"
        free_bytes = 100_000_000
        free_fraction = 0
    """
    for peer in destinations:
        text += f"""
        [[destinations]]
        ae_title = "{peer.ae_title}"
        host = "{peer.host}"
        port = {peer.port}
        retry_first = 1
        """
    return text


# dcmtk


def storescu(peer: Called, *files: Path) -> None:
    """Have dcmtk's storescu push files on one association, as a cart would."""
    subprocess.run(
        [need_program("storescu"), "-aet", CART, "-aec", peer.ae_title, peer.host, str(peer.port)]
        + [str(file) for file in files],
        check=True,
        capture_output=True,
        timeout=_PATIENCE,
    )


@contextmanager
def storescp(folder: Path, ae_title: str = "STORESCP") -> Iterator[Called]:
    """Run dcmtk's storescp, which writes what arrives into a folder, bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    called = Called(ae_title, free_port())
    command = [need_program("storescp"), "--aetitle", ae_title, "--bit-preserving"]
    command += ["--output-directory", str(folder), str(called.port)]
    log_folder = folder.parent
    with _process(command, log_folder) as log:
        eventually(f"storescp answers, see {log}", lambda: _answers(called))
        yield called


# Orthanc


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc."""

    called: Called
    url: str

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Return the expanded resources of a level that match."""
        return get(f"{self.url}/tools/find", {"Level": level, "Query": query, "Expand": True})


@contextmanager
def running_orthanc(folder: Path, node_port: int) -> Iterator[Orthanc]:
    """Run Debian's Orthanc with the shipped configuration, its ports and folders replaced."""
    program = need_program("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    values = shipped_configuration()
    values |= {"HttpPort": free_port(), "DicomPort": free_port()}
    values |= {"StorageDirectory": "db", "IndexDirectory": "db"}
    values["DicomModalities"]["sinusnode"]["Port"] = node_port
    config = folder / "orthanc.json"
    config.write_text(json.dumps(values))
    called = Called(values["DicomAet"], values["DicomPort"])
    url = f"http://127.0.0.1:{values['HttpPort']}"
    with _process([program, str(config)], folder) as log:
        eventually(f"Orthanc answers, see {log}", lambda: _ready(f"{url}/system"))
        yield Orthanc(called, url)


def shipped_configuration() -> dict[str, Any]:
    """Return orthanc/orthanc.json; Orthanc allows comments in JSON, Python does not."""
    text = (ROOT / "orthanc" / "orthanc.json").read_text()
    values: dict[str, Any] = json.loads(_LINE_COMMENT.sub("", text))
    return values
