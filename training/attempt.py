"""One attempt at a run, inside the process that was started for it."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from dicom_node.ledger import Ledger
from dicom_node.models import ModelStore
from dicom_node.settings import Settings
from training.convert import NotTheSame
from training.plan import Plan
from training.prepare import CannotTrain
from training.routine import let_shadow
from training.runs import Run, RunState
from training.steps import LOG, Ended, Step
from training.train import train


def attempt(settings: Settings, run: Run, folder: Path, report: Callable[[Step], None]) -> Ended:
    """Return how a run ended; the one place that catches."""
    torch.set_num_threads(settings.training.threads)
    ledger = Ledger(settings.database_url)
    store = ModelStore(settings.storage.folder / "models", ledger)
    try:
        outcome = train(
            Plan.from_json(run.plan),
            folder,
            store=store,
            processes=settings.training.threads,
            report=report,
        )
        said = [outcome.said]
        if run.scheduled and outcome.passed and outcome.model:
            said.append(let_shadow(store, outcome.model, run.by, time.time()))
    except CannotTrain as error:
        return Ended(RunState.FAILED, str(error))
    except NotTheSame as error:
        return Ended(RunState.FAILED, f"Nothing was published: {error}")
    except MemoryError:
        return Ended(RunState.FAILED, "It found too little memory: choose a smaller batch_size.")
    except Exception as error:  # noqa: BLE001 - a run ends in a sentence; the log has the rest
        traceback.print_exc()
        return Ended(RunState.FAILED, f"It failed ({type(error).__name__}); {LOG} says more.")
    finally:
        ledger.close()
    return Ended(RunState.DONE, " ".join(said), outcome.model)
