"""Logs: structured, on standard error, and without a word of a data set."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys, threading, warnings
from dicom_node import logs
from dicom_node.settings import Log
import structlog
logs.configure(Log(**{settings}))
log = structlog.get_logger()
log.debug("quiet")
log.info("received", calling_ae="CART", rows=3)
log.error("broken")
for name in ("pynetdicom", "pynetdicom.assoc", "pydicom", "highdicom"):
    logging.getLogger(name).error("CANARY^NAME")
warnings.warn("Invalid value for VR PN: 'CANARY^NAME'")
def die():
    raise ValueError("CANARY^NAME")
thread = threading.Thread(target=die)
thread.start()
thread.join()
print("data")
"""


def run(**settings: object) -> tuple[str, str]:
    """Return standard output and standard error of a program that logs."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{settings}", repr(settings))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CANARY" not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_json_lines_are_one_document_each_on_standard_error() -> None:
    out, err = run(json_lines=True)
    assert out == "data\n"
    documents = [json.loads(line) for line in err.splitlines()]
    assert [item["event"] for item in documents] == ["received", "broken", "thread_died"]
    assert documents[0]["rows"] == 3
    assert documents[0]["timestamp"].endswith("Z")
    assert documents[2]["error"] == "ValueError"


@pytest.mark.parametrize(("level", "first"), [("debug", "quiet"), ("error", "broken")])
def test_text_starts_at_its_level(level: str, first: str) -> None:
    _, err = run(level=level)
    assert first in err.splitlines()[0]
    assert "\x1b[" not in err
