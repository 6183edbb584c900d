"""The studies behind what the documents say of learning, from one command.

``python -m training.studies --corpus FOLDER --runs FOLDER [--seeds 5] [--budget 60]``

The corpus holds the public databases (see STUDIES.md). Two questions:
does a net that has learned from the union of databases learn one of them better than that one
alone teaches (as ISP RAS's group asked), and does it help where few have a finding that
no other database knows (as UCSF's group asked)? Runs are kept, and may be killed and called again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import torch
import typer

from training.architectures import Net, build
from training.few_shot import Shot, compare_starts
from training.intervals import Interval
from training.labels import Origin
from training.plan import RECIPE, Mode, Plan
from training.prepare import open_corpus
from training.splits import Order
from training.trials import (
    Ground,
    Trial,
    ahead,
    checkpoint_digest,
    ground,
    macro,
    with_seed,
)

LEAST: Final = 20
"""Recordings with a finding, from which on it is learned."""
TARGETS: Final = {
    "multisource12": ("CPSC2018", "CPSC-Extra", "Chapman-Ningbo", "PTB-XL", "PTB", "SPH"),
    "LUDB": ("LUDB",),
}
SCRATCH: Final = "this one alone, from scratch"
HEAD: Final = "from the union, head alone"
ALL: Final = "from the union, all layers"
WAYS: Final = {SCRATCH: Mode.SCRATCH, HEAD: Mode.HEAD, ALL: Mode.ALL}
_SMALL: Final = 8
"""Recordings of a batch where there are few, so that there are enough steps."""
_PATIENT: Final = 5
"""Times as many epochs for a head alone."""
CHAGAS: Final = "chagas"
COUNTS: Final = (25, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One way to learn one database."""

    way: str
    auroc: Interval
    ahead: Interval | None
    """Of learning from scratch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What one database showed."""

    target: str
    records: int
    keys: tuple[str, ...]
    seeds: int
    lines: tuple[Line, ...]


def small_net(outputs: int, seed: int) -> Net:
    """Return the net of the studies: ECGFounder's blocks, 0.1 million weights, BatchNorm alive."""
    torch.manual_seed(seed)
    return build(
        "net1d", leads=12, outputs=outputs, widths=(32, 64, 128), depths=(1, 1, 1), norm=True
    )


def frequent(corpus: str, sites: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the findings that enough recordings of some sites have, and enough have not."""
    opened = open_corpus(Plan(name="count", keys=("any",), corpus=corpus))
    ids = [record.id for record in opened.records if not sites or record.site in sites]
    table = opened.labels
    matrix = table.matrix(ids)
    return tuple(
        key
        for key, column in zip(table.keys, matrix.T, strict=True)
        if min((column == 1).sum(), (column == 0).sum()) >= LEAST
    )


def plan_of(name: str, corpus: str, sites: Sequence[str] = (), *, epochs: int) -> Plan:
    """Return the plan of a study."""
    return Plan(
        name=name,
        keys=frequent(corpus, sites),
        corpus=corpus,
        sites=tuple(sites),
        origins=tuple(Origin),
        epochs=epochs,
        patience=0,
        learning_rate=3e-3,
    )


def union(
    corpus: str,
    folder: Path,
    *,
    seeds: int,
    epochs: int,
    budget: Callable[[], bool] = lambda: True,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Study, ...]:
    """Return what learning from the union first does for each database.

    With each seed a net learns from every recording of the corpus but those of patients who
    judge, or choose an epoch, in one of the databases; then from one database, its head alone
    and as a whole, beside the same net that learns from that database from the beginning.

    Parameters
    ----------
    budget
        Whether there is time for one more seed.
    """
    trials: dict[str, list[Trial]] = {name: [] for name in TARGETS}
    fields: dict[str, Ground] = {}
    for seed in range(seeds):
        if seed and not budget():
            report(f"The budget is used up after {seed} seeds.")
            break
        for name, sites in TARGETS.items():
            plan = with_seed(plan_of(name, corpus, sites, epochs=epochs), seed)
            fields[name] = ground(plan, RECIPE)
        whole = folder / f"{seed}-union"
        learned = _learned(corpus, list(fields.values()), seed, epochs, whole)
        report(f"Seed {seed}: the union is learned.")
        for name in TARGETS:
            field = _after(fields[name], whole)
            for way, mode in WAYS.items():
                place = folder / f"{seed}-{name}-{mode}"
                trials[name].append(_trial(field, way, mode, learned, place))
                report(f"Seed {seed}, {name}, {way}: {macro(trials[name][-1:], way)}")
    return tuple(_study(name, fields[name], trials[name]) for name in TARGETS)


def _learned(corpus: str, fields: Sequence[Ground], seed: int, epochs: int, folder: Path) -> Net:
    """Return a net that learned from all whom none of these judges by."""
    plan = replace(plan_of("union", corpus, epochs=epochs), seed=seed)
    field = ground(plan, RECIPE)
    splits = [item.prepared.split for item in fields]
    watch = [record for split in splits for record in split.validation]
    held = {*watch, *(r for split in splits for r in (*split.calibration, *split.test))}
    records = field.prepared.records
    people = {records[record].patient for record in held if record in records}
    teach = [name for name, record in records.items() if record.patient not in people]
    net = small_net(len(field.plan.keys), seed)
    watch = [record for record in watch if record in records]
    field.learned(net, field.plan, sorted(teach), sorted(watch), folder)
    return net


def _after(field: Ground, folder: Path) -> Ground:
    """Return the same ground for a start that learned in a folder before."""
    taught = field.prepared.corpus.taught(checkpoint_digest(folder))
    return replace(field, inherited=taught)


def _trial(field: Ground, way: str, mode: Mode, learned: Net, folder: Path) -> Trial:
    plan = replace(field.plan, mode=mode, batch_size=_SMALL)
    if mode is Mode.HEAD:  # its epochs cost milliseconds
        plan = replace(plan, learning_rate=1e-2, epochs=_PATIENT * plan.epochs)
    split = field.prepared.split
    net = _start(plan, learned)
    fitted = field.learned(net, plan, split.train, split.validation, folder)
    return field.judged(way, fitted.net, split.test)


def _start(plan: Plan, learned: Net) -> Net:
    """Return a copy of what was learned, with a new head; or random weights."""
    net = small_net(len(plan.keys), plan.seed)
    if plan.mode is not Mode.SCRATCH:
        net.backbone.load_state_dict(learned.backbone.state_dict())
    return net


def _study(name: str, field: Ground, trials: Sequence[Trial]) -> Study:
    lines = [
        Line(
            way=way,
            auroc=macro(trials, way),
            ahead=None if way == SCRATCH else ahead(trials, way, SCRATCH),
        )
        for way in WAYS
    ]
    return Study(
        target=name,
        records=len(field.prepared.records),
        keys=field.plan.keys,
        seeds=len(trials) // len(WAYS),
        lines=tuple(lines),
    )


def chagas(
    corpus: str,
    folder: Path,
    *,
    seeds: int,
    epochs: int,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Shot, ...]:
    """Return whether what other databases taught helps to learn Chagas disease from a few."""
    others = plan_of(
        "others", corpus, [s for sites in TARGETS.values() for s in sites], epochs=epochs
    )
    field = ground(others, RECIPE)
    split = field.prepared.split
    teach = (*split.train, *split.calibration, *split.test)
    net = small_net(len(field.plan.keys), 0)
    field.learned(net, field.plan, teach, split.validation, folder / "others")
    report("The other databases are learned.")

    def start(run: Plan) -> Net:
        return _start(run, net)

    plan = Plan(
        name="Chagas disease",
        keys=(CHAGAS,),
        corpus=corpus,
        origins=tuple(Origin),
        base="other databases",
        mode=Mode.ALL,
        epochs=epochs,
        patience=0,
        batch_size=_SMALL,
        learning_rate=2e-3,
        split=Order(fractions={"train": 0.6, "validation": 0.1, "test": 0.3}),
    )
    return compare_starts(
        plan,
        folder,
        start,
        recipe=RECIPE,
        model=checkpoint_digest(folder / "others"),
        counts=COUNTS,
        seeds=seeds,
        report=report,
    )


def table(studies: Sequence[Study], shots: Sequence[Shot]) -> str:
    """Return everything as Markdown."""
    rows = []
    for study in studies:
        size = f"{study.records} recordings, {study.seeds} seeds"
        rows += [
            f"**{study.target}**: {size}, macro over {', '.join(study.keys)}.",
            "",
            "| learned | macro AUROC | ahead of scratch |",
            "|---|---|---|",
            *(f"| {x.way} | {x.auroc} | {x.ahead or ''} |" for x in study.lines),
            "",
        ]
    if shots:
        rows += [
            f"**Chagas disease**, {shots[0].seeds} seeds.",
            "",
            "| positives | from other databases | from random weights | difference |",
            "|---|---|---|---|",
            *(f"| {x.positives} | {x.learned} | {x.random} | {x.difference} |" for x in shots),
            "",
            *(f"- {x.said}" for x in shots),
        ]
    return "\n".join(rows)


def main(  # noqa: PLR0917 - typer's options are parameters
    corpus: Annotated[Path, typer.Option(help="Folder of a corpus of the public databases.")],
    runs: Annotated[Path, typer.Option(help="Folder that keeps the runs.")],
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Of each fit.")] = 20,
    budget: Annotated[float, typer.Option(help="Minutes after which no new seed begins.")] = 60.0,
    part: Annotated[str, typer.Option(help="union, chagas or both.")] = "both",
) -> None:
    """Print the tables."""
    ends = time.monotonic() + 60 * budget

    def report(said: str) -> None:
        typer.echo(said, err=True)

    studies = (
        union(
            str(corpus),
            runs / "union",
            seeds=seeds,
            epochs=epochs,
            budget=lambda: time.monotonic() < ends,
            report=report,
        )
        if part in {"union", "both"}
        else ()
    )
    ways = {"seeds": seeds, "epochs": epochs}
    shots = chagas(str(corpus), runs / "chagas", **ways, report=report) if part != "union" else ()
    typer.echo(table(studies, shots))


if __name__ == "__main__":
    typer.run(main)
