"""The walls of the house (DESIGN §1): who may import whom, what is loaded, what stands where."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, need_program

FOLDERS = {"analysis", "dicom_node", "training", "orthanc", "docker", "tests"}
FILES = {"pyproject.toml", "README.md", "Makefile", "constraints.txt", "LICENSE", "CHANGELOG.md"}
LEARNING = {"torch", "onnx2torch", "lightning", "sklearn", "training", "optuna"}
WEB = {"starlette", "uvicorn", "fastapi", "pynetdicom", "sqlalchemy", "dicom_node"}


def test_import_contracts_are_kept() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        need_program("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def loaded(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after a statement."""
    program = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_analysis_loads_no_network_no_database_and_no_learning() -> None:
    found = loaded(
        "import analysis, analysis.paper\n"
        "from pydicom.data import get_testdata_file\n"
        "analysis.analyse(analysis.read(get_testdata_file('waveform_ecg.dcm')))"
    )
    assert found & (WEB | LEARNING | {"neurokit2", "matplotlib"}) == set()


def test_clinical_path_holds_no_learning_code() -> None:
    found = loaded("import dicom_node.node, dicom_node.work, dicom_node.cli")
    assert found & (LEARNING | {"fastapi", "apscheduler"}) == set()


HEAVY = {"numpy", "scipy", "onnxruntime", "pydicom", "pynetdicom"}


def test_command_line_starts_without_the_heavy_parts() -> None:
    assert loaded("import dicom_node.cli") & (HEAVY | {"sqlalchemy"}) == set()


def test_queue_is_shown_without_the_heavy_parts() -> None:
    assert loaded("import dicom_node.operate") & HEAVY == set()


def test_nothing_else_stands_at_the_top() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout: what belongs to it is not known")
    done = subprocess.run(
        [need_program("git"), "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in done.stdout.splitlines() if not line.startswith(".")]
    assert {path.parts[0] for path in paths if len(path.parts) > 1} <= FOLDERS
    assert {path.name for path in paths if len(path.parts) == 1} <= FILES
