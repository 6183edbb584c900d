"""Attempts at runs that learn nothing, for tests of who starts, follows and ends them."""

import os
import signal
import sys
import time
from pathlib import Path

from dicom_node.settings import Settings
from training.runs import Run, RunState
from training.steps import Ended, Stage, Step
from training.worker import Report

SAID = "Epoch 1 of 2: auroc 0.700."


def succeed(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    figures = {"metric": 0.7, "train_loss": 1.0, "validation_loss": 1.0, "learning_rate": 0.1}
    report(Step(stage=Stage.FIT, said=SAID, epoch=1, epochs=2, figures=figures))
    sys.stdout.write("printed")
    return Ended(RunState.DONE, f"Learned at niceness {os.nice(0)}.", "m" * 64)


def refuse(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    return Ended(RunState.FAILED, "One class alone teaches nothing.")


def hang(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    (folder / "pid").write_text(str(os.getpid()))
    report(Step(stage=Stage.FIT, said=SAID, epoch=1, epochs=2))
    while True:
        time.sleep(0.05)


def gobble(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    held = bytearray(os.urandom(2**20) * 400)
    while held:
        time.sleep(0.05)
    return Ended(RunState.DONE, "Never.")


def die(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    os.kill(os.getpid(), signal.SIGKILL)
    return Ended(RunState.DONE, "Never.")


def die_further_each_time(settings: Settings, run: Run, folder: Path, report: Report) -> Ended:
    """Get one epoch further with each attempt, and be killed there; three times."""
    count = folder / "count"
    epoch = int(count.read_text()) + 1 if count.is_file() else 1
    count.write_text(str(epoch))
    report(Step(stage=Stage.FIT, said=SAID, epoch=epoch, epochs=9))
    if epoch > 3:
        return Ended(RunState.DONE, f"After {epoch - 1} kills.")
    return die(settings, run, folder, report)
