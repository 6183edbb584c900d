"""A real admin service for tests: `sinusnode admin` as a process, its settings in a folder."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from node import free_port

WITHIN = 180.0  # seconds; on a machine that does nothing else it starts in two


class Process:
    """A service that was started by its command."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        config = folder / "sinusnode.toml"
        config.write_text(
            f'[storage]\nfolder = "{folder / "data"}"\nfree_bytes = 0\nfree_fraction = 0.0\n'
            f"[admin]\nport = {self.port}\n{settings}"
        )
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "admin", "-c", str(config)], stderr=log
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def first_key(self) -> str:
        """The key for the role admin that the first start prints."""
        (key,) = re.findall(r"sn_[0-9a-f]{12}_\S{43}", self.log)
        return str(key)

    def growth(self, ask: Callable[[], object]) -> int:
        """Return by how many bytes its memory grew, at most, while it was asked something."""
        about = Path(f"/proc/{self.process.pid}")
        before = _resident(about, "VmRSS")
        (about / "clear_refs").write_text("5")  # begins the peak anew (proc(5))
        ask()
        return _resident(about, "VmHWM") - before

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait(self, client: httpx.Client) -> None:
        """Wait until it answers."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log
            try:
                client.get("/api/v1/status")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self.log)


def _resident(about: Path, name: str) -> int:
    (line,) = [item for item in (about / "status").read_text().splitlines() if name in item]
    return int(line.split()[1]) * 1024
