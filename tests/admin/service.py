"""A real admin service for tests: `sinusnode admin` as a process, its settings in a folder."""

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
from node import free_port

WITHIN = 60.0  # seconds; it starts in two


class Process:
    """A service that was started by its command."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        config = folder / "sinusnode.toml"
        config.write_text(
            f'[storage]\nfolder = "{folder / "data"}"\n[admin]\nport = {self.port}\n{settings}'
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
