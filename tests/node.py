"""A real node for tests: `sinusnode serve` as a process, its settings in a folder of its own.

Importing takes most of a node's start. Nodes and their commands are therefore forked from one
process that has imported all and done nothing else; a node may also start as it does at a site.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch
from urllib.error import URLError
from urllib.request import urlopen

from dicom_node import cli, failpoints
from dicom_node import settings as settings_module
from dicom_node.demo import free_port
from dicom_node.ledger import Ledger, State
from dicom_node.scu import Address
from dicom_node.settings import Settings
from dicom_node.spool import Spool

SETTLED = {
    State.DELIVERED,
    State.COMMITTED,
    State.ARCHIVED,
    State.QUARANTINED,
    State.FAILED,
}
READY_WITHIN = 60.0

_NURSERY = multiprocessing.get_context("forkserver")
_NURSERY.set_forkserver_preload(["training.cli", "dicom_node.node"])


def poll(condition: Any, seconds: float = 30.0, pause: float = 0.05) -> bool:
    """Return whether the condition became true within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())


def _main(arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path) -> None:
    """Be `sinusnode ARGUMENTS`, whose words go to files."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    failpoints.arm(environment.get(failpoints.VARIABLE, ""))
    sys.argv = ["sinusnode", *arguments]
    cli.main()


class _Born:
    """A forked command, with the words of `subprocess.Popen`."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
    ) -> None:
        self._process: ForkServerProcess = _NURSERY.Process(
            target=_main, args=(arguments, dict(environment), out, err)
        )
        with patch.dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"):
            self._process.start()
        self.pid = self._process.pid
        self.kill = self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        self._process.join(seconds)
        code = self.poll()
        assert code is not None, f"process {self.pid} goes on"
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@dataclass
class Node:
    """One installation; start and stop it as often as you like.

    Parameters
    ----------
    folder
        Holds settings, data and log.
    destinations
        Ports of loopback PACSs, by AE title.
    overrides
        Environment settings, for example ``{"WORK__WORKERS": "1"}``.
    failpoint
        Where it dies, fails or waits, as :mod:`dicom_node.failpoints` puts it.
    afresh
        Whether it starts by the command line, in a new interpreter.
    """

    folder: Path
    destinations: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    failpoint: str = ""
    afresh: bool = False
    port: int = field(default_factory=free_port)
    ops_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | _Born | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            "[dicom]",
            f"port = {self.port}",
            "[ops]",
            f"port = {self.ops_port}",
            "[storage]",
            f'folder = "{self.folder / "data"}"',
            "free_bytes = 50_000_000",
            "free_fraction = 0.0",
            "[log]",
            "json_lines = true",
        ]
        for ae_title, port in self.destinations.items():
            lines += ["[[destinations]]", f'ae_title = "{ae_title}"', 'host = "127.0.0.1"']
            lines += [f"port = {port}", "retry_first = 0.3", "timeout = 10.0"]
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def config(self) -> Path:
        return self.folder / "sinusnode.toml"

    @property
    def environment(self) -> dict[str, str]:
        named = {f"SINUSNODE__{key}": value for key, value in self.overrides.items()}
        if self.failpoint:
            named[failpoints.VARIABLE] = self.failpoint
        return os.environ | named

    @property
    def address(self) -> Address:
        return Address("SINUSNODE", "127.0.0.1", self.port)

    @property
    def settings(self) -> Settings:
        with contextlib.chdir(self.folder):
            os.environ[settings_module.CONFIG_VARIABLE] = str(self.config)
            try:
                return settings_module.load()
            finally:
                del os.environ[settings_module.CONFIG_VARIABLE]

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def launch(self) -> None:
        """Start the process and return at once."""
        words = ["serve", "-c", str(self.config)]
        path = self.folder / "log"
        if not self.afresh:
            self.process = _Born(words, self.environment, path, path)
            return
        with path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", *words],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def start(self) -> Self:
        self.launch()
        assert poll(self.ready, READY_WITHIN), f"the node is not ready: {self.log[-3000:]}"
        return self

    def ready(self) -> bool:
        with contextlib.suppress(URLError, OSError):
            return self.get("/readyz")[0] == 200
        return False

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of the management port."""
        url = f"http://127.0.0.1:{self.ops_port}{path}"
        try:
            with urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except URLError as error:
            if hasattr(error, "code"):
                with error:
                    return error.code, error.read().decode()
            raise

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `sinusnode ARGUMENTS` with this installation's settings."""
        named = self.environment | {settings_module.CONFIG_VARIABLE: str(self.config)}
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            status = _Born(arguments, named, out, err).wait(120)
            return subprocess.CompletedProcess(arguments, status, out.read_text(), err.read_text())

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        ledger = Ledger(f"sqlite:///{self.folder / 'data' / 'ledger.sqlite'}")
        try:
            yield ledger
        finally:
            ledger.close()

    def rows(self) -> list[dict[str, Any]]:
        with self.ledger() as ledger:
            return ledger.rows(limit=1_000_000)

    def trail(self) -> list[dict[str, Any]]:
        with self.ledger() as ledger:
            return ledger.trail()

    def settled(self, count: int, seconds: float = 60.0) -> bool:
        """Return whether so many objects came to rest within some seconds."""

        def done() -> bool:
            rows = self.rows()
            return len(rows) >= count and all(row["state"] in SETTLED for row in rows)

        return poll(done, seconds, 0.1)

    def assert_promises(self) -> None:
        """The ledger breaks no promise, and every acknowledged byte is there."""
        spool = Spool(self.folder / "data" / "spool")
        with self.ledger() as ledger:
            assert ledger.violations(time.time(), 120.0) == []
            for row in ledger.rows(limit=1_000_000):
                assert spool.read(ledger.blob_of(row))
