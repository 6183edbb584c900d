"""Runs and models for their pages: what the API says of them, with what it rests on in words."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.models import ModelState
from dicom_node.settings import Role
from dicom_node.shadow import ShadowReport
from training.admin.access import Office
from training.admin.accounts import Principal
from training.admin.api import models, runs, schedules
from training.admin.api.corpus import corpus_of
from training.admin.pages import training
from training.admin.pages.holdings import holdings_of
from training.admin.pages.training import Choice
from training.admin.pages.words import finding_name
from training.plan import CURRENT
from training.runs import SCHEDULED, Run

SHOWN: Final = ("AUROC", "AUPRC", "F1", "sensitivity", "specificity", "ECE", "MAE", "RMSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure."""

    value: str
    around: str = ""
    """Its interval, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finding of an evaluation."""

    name: str
    records: int
    positives: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """An evaluation as a table."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]


def figures(evaluation: Mapping[str, Any]) -> Figures | None:
    """Return the table of a stored evaluation; None where there is none."""
    keys: Sequence[Mapping[str, Any]] = evaluation.get("keys", ())
    names = tuple(name for name in SHOWN if any(name in item["figures"] for item in keys))
    if not names:
        return None
    rows = tuple(
        Row(
            name=finding_name(item["key"]),
            records=item["records"],
            positives=item.get("positives", 0),
            cells=tuple(_cell(item["figures"].get(name)) for name in names),
        )
        for item in keys
    )
    return Figures(names=names, rows=rows)


def _cell(found: Mapping[str, Any] | None) -> Cell:
    """Return a figure with its interval, or a dash."""
    if not found or found.get("value") is None:
        return Cell(value="–")
    low, high = found.get("low"), found.get("high")
    around = f"{low:.2f}–{high:.2f}" if low is not None and high is not None else ""
    return Cell(value=f"{found['value']:.3f}", around=around)


# The form


def form(office: Office) -> dict[str, Any]:
    """Return the form that starts a run."""
    found = holdings_of(corpus_of(office))
    base = training.bases(tuple(_bases(office)))
    return {
        "name": "My findings",
        "targets": training.targets(found),
        "base": base,
        "mode": training.mode(base),
        "budget": training.BUDGET,
        "details": training.DETAILS,
        "augmentation": training.AUGMENTATION,
    }


def _bases(office: Office) -> Iterator[Choice]:
    """Yield the models that can be learned from, the one in service first."""
    store = models.store_of(office)
    for entry in sorted(store.list(), key=lambda item: not item.speaks):
        if not entry.present or not _can_teach(store.path(entry.digest)):
            continue
        name = f"{entry.name} {entry.version}"
        if entry.speaks:
            yield Choice(CURRENT, f"The model in service: {name}")
        else:
            yield Choice(entry.digest, f"{name} ({entry.state})")


def _can_teach(package: Path) -> bool:
    """Return whether a model's net can be trained: not if it reads measurements too."""
    card = models.card_of(package)
    return card is not None and not card.get("features")


# Runs


def run(office: Office, number: int) -> dict[str, Any]:
    """Return what the page of a run shows. Raises the refusal where there is none."""
    found = runs.one(office, number)
    folder = runs.folder_of(office, number)
    return {
        "run": found,
        "plan": found.plan,
        "plan_text": json.dumps(found.plan, indent=1, ensure_ascii=False),
        "findings": [finding_name(key) for key in found.plan["keys"]],
        "epochs": found.epochs,
        "metric": _METRICS.get(found.plan["metric"], found.plan["metric"]),
        "verdict": _stored(folder / runs.VERDICT),
        "figures": figures(_stored(folder / runs.EVALUATION) or {}),
        "report": (folder / runs.REPORT).is_file(),
    }


_METRICS: Final = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "mae": "MAE", "loss": "loss"}


def _stored(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


# Models


def model_list(office: Office, principal: Principal) -> dict[str, Any]:
    """Return what the page of the registry shows."""
    entries = models.models(office)
    speaking = next((entry for entry in entries if entry.speaks), None)
    return {
        "models": entries,
        "speaking": speaking,
        "may_roll_back": Role.ADMIN in principal.roles
        and any(entry.state == ModelState.PREVIOUS for entry in entries),
        "may_upload": not principal.roles.isdisjoint({Role.TRAINER, Role.ADMIN}),
        "exchanges": models.exchanges(office) if _decides(principal) else (),
        "may_push": Role.ADMIN in principal.roles,
    }


def _decides(principal: Principal) -> bool:
    return not principal.roles.isdisjoint({Role.TRAINER, Role.ADMIN})


def model(office: Office, principal: Principal, digest: str) -> dict[str, Any]:
    """Return what the page of a model shows. Raises the refusal where there is none."""
    found = models.one(office, digest)
    decides = _decides(principal)
    shadow = ShadowReport.of(office.ledger, digest) if decides else None
    return {
        "model": found,
        "card": found.card,
        "verdict": found.evidence.get("verdict"),
        "run": found.evidence.get("run"),
        "figures": figures(found.evidence.get("evaluation") or {}),
        "shadow": shadow if shadow and (shadow.ecgs or shadow.unread) else None,
        "shadows": found.state == ModelState.SHADOW,
        "decides": decides,
        "admin": Role.ADMIN in principal.roles,
        "may_open": not principal.roles.isdisjoint({Role.OPERATOR, Role.REVIEWER, Role.TRAINER}),
        "exchanges": models.exchanges(office) if decides else (),
    }


# Schedules


def schedule_list(office: Office) -> dict[str, Any]:
    """Return what the page of the schedules shows."""
    return {
        "schedules": schedules.schedules(office),
        "last": _last_runs(office),
        "labelled": schedules.labelled(office),
        "form": form(office),
    }


def _last_runs(office: Office) -> dict[int, Run]:
    """Return the newest run of each schedule, as far as the newest runs go."""
    made = [run for run in office.runs.list(limit=_LOOKED_AT) if run.scheduled]
    return {int(run.by.removeprefix(SCHEDULED).split()[0]): run for run in reversed(made)}


_LOOKED_AT: Final = 200
