"""Real peers on loopback: dcmtk and Orthanc; each ended by its own process id."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from node import Node, free_port, poll
from support import ROOT, need_file, need_program

from dicom_node.scu import Address

_PATIENCE = 30.0  # seconds
_DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


@contextmanager
def _process(command: Sequence[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a folder, its words in a file there; terminate it in the end."""
    log = folder / f"{Path(command[0]).name}.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=folder, stdout=out, stderr=out) as process,
    ):
        try:
            assert poll(lambda: _listens(port), _PATIENCE), f"it does not listen: {log.read_text()}"
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(node: Node) -> Iterator[Node]:
    """Run a node; afterwards it has broken no promise."""
    try:
        yield node.start()
    finally:
        node.stop()
    node.assert_promises()


# dcmtk


def storescu(
    peer: Address, *files: Path, calling_ae: str = "CART", tls: Mapping[str, Path] | None = None
) -> None:
    """Have dcmtk's storescu push files on one association, as a cart would."""
    done = try_storescu(peer, *files, calling_ae=calling_ae, tls=tls)
    assert done.returncode == 0, done.stderr.decode()


def try_storescu(
    peer: Address, *files: Path, calling_ae: str = "CART", tls: Mapping[str, Path] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Return how storescu ended; with files of certificates (``keys.Authority``) it speaks TLS."""
    command = [need_program("storescu"), "-aet", calling_ae, "-aec", peer.ae_title]
    if tls is not None:
        command += ["+tls", str(tls["private_key"]), str(tls["certificate"])]
        command += ["+cf", str(tls["trusted_certificates"])]
    command += [peer.host, str(peer.port), *map(str, files)]
    return subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)


@contextmanager
def storescp(folder: Path, ae_title: str = "STORESCP") -> Iterator[Address]:
    """Run dcmtk's storescp, which writes what arrives into a folder, bit for bit."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [need_program("storescp"), "--aetitle", ae_title, "--bit-preserving"]
    command += ["--output-directory", str(folder), str(port)]
    with _process(command, folder.parent, port):
        yield Address(ae_title, "127.0.0.1", port)


# Orthanc


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc: where it is called by DICOM, and by REST."""

    address: Address
    url: str
    process: subprocess.Popen[bytes]

    def signal(self, number: int) -> None:
        """Send a signal, SIGKILL for example, and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(_PATIENCE)

    def get(self, path: str) -> Any:
        """Return the JSON that a GET answers."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """Return the text that a GET answers."""
        with urlopen(self.url + path, timeout=_PATIENCE) as answer:
            return str(answer.read().decode())

    def post(self, path: str, document: Any) -> Any:
        """Return the JSON that a POST of a document answers."""
        request = Request(self.url + path, json.dumps(document).encode())
        with urlopen(request, timeout=_PATIENCE) as answer:
            return json.load(answer)

    def upload(self, data: bytes) -> None:
        """Have an object stored, as it is."""
        with urlopen(Request(self.url + "/instances", data), timeout=_PATIENCE):
            pass

    @property
    def dicomweb(self) -> str:
        """The URL of its DICOMweb service, where that plugin runs."""
        return f"{self.url}/dicom-web"

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Return the resources of a level whose tags match."""
        found = self.post("/tools/find", {"Level": level, "Query": query, "Expand": True})
        return list(found)


@contextmanager
def running_orthanc(
    folder: Path,
    *,
    node_port: int,
    plugin: Mapping[str, Any] | None = None,
    dicomweb: bool = False,
    tls: Mapping[str, Path] | None = None,
) -> Iterator[Orthanc]:
    """Run Orthanc with the shipped configuration, on free ports, with its data in a folder.

    Without settings for the plugin it only receives; with DICOMweb, it offers that too; with
    files of certificates (``keys.Authority``) it speaks TLS alone, to and from everybody.
    """
    folder.mkdir(parents=True)
    values = shipped_configuration() | {"HttpPort": free_port(), "DicomPort": free_port()}
    values["DicomModalities"]["sinusnode"]["Port"] = node_port
    if plugin is None:
        del values["Plugins"], values["PythonScript"]
    else:
        need_file(values["Plugins"][0])
        values["PythonScript"] = str(ROOT / "orthanc" / "sinusnode.py")
        values["Sinusnode"] |= plugin
    if dicomweb:
        values.setdefault("Plugins", []).append(str(need_file(_DICOMWEB)))
    if tls is not None:
        values |= _secured(tls, values["DicomModalities"])
    (folder / "orthanc.json").write_text(json.dumps(values))
    with started_orthanc(folder) as orthanc:
        yield orthanc


def _secured(tls: Mapping[str, Path], modalities: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "DicomTlsEnabled": True,
        "DicomTlsRemoteCertificateRequired": True,
        "DicomTlsCertificate": str(tls["certificate"]),
        "DicomTlsPrivateKey": str(tls["private_key"]),
        "DicomTlsTrustedCertificates": str(tls["trusted_certificates"]),
        "DicomModalities": {
            name: modality | {"UseDicomTls": True} for name, modality in modalities.items()
        },
    }


@contextmanager
def started_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Run the Orthanc whose configuration lies in a folder."""
    values = json.loads((folder / "orthanc.json").read_text())
    address = Address(values["DicomAet"], "127.0.0.1", values["DicomPort"])
    with _process([need_program("Orthanc"), "orthanc.json"], folder, address.port) as process:
        yield Orthanc(address, f"http://127.0.0.1:{values['HttpPort']}", process)


def shipped_configuration() -> dict[str, Any]:
    """Return orthanc/orthanc.json; Orthanc allows comments in JSON, Python does not."""
    text = (ROOT / "orthanc" / "orthanc.json").read_text()
    values: dict[str, Any] = json.loads(_COMMENT.sub("", text))
    return values
