"""The tutorial, command by command, as it is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, need_program, shared

COMMANDS = re.findall(
    r"```sh\n(.+?)\n```", (ROOT / "training" / "TUTORIAL.md").read_text(), re.DOTALL
)


def test_it_has_ten_commands() -> None:
    assert len(COMMANDS) == 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_commands_lead_from_a_folder_to_a_promoted_model(tmp_path: Path) -> None:
    need_program("awk")
    (tmp_path / "shared").symlink_to(shared("data").parent)
    here = tmp_path / "here"
    here.mkdir()
    scripts = Path(sys.executable).parent
    assert shutil.which("sinusnode", path=str(scripts)), "sinusnode is not installed"
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for number, command in enumerate(COMMANDS, 1):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{number}: {done.stdout}{done.stderr}"
        if number == 5:
            assert "it passes the gate" in done.stdout
    assert (here / "there" / "report.html").is_file()
    listed = subprocess.run(
        ["sinusnode", "models", "list"], cwd=here, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "current" in listed.stdout
