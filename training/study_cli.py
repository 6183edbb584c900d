"""The commands `sinusnode few-shot` and `sinusnode which-model`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.cli import REFUSED, Config, Json, Stop, _print_json, _settings
from training.run_cli import Words, _opened, _plan, _store

if TYPE_CHECKING:
    from dicom_node.models import ModelStore
    from training.choose import Choice
    from training.few_shot import Shot
    from training.plan import Plan

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)

_FEW_SHOT: Final = {
    "base": "current",
    "mode": "all",
    "epochs": 40,
    "batch_size": 8,
    "patience": 0,
    "split": {"fractions": {"train": 0.6, "validation": 0.1, "test": 0.3}},
}
"""What a few-shot plan is, where it does not say otherwise."""

PlanFile = Annotated[Path | None, typer.Argument(help="A plan, TOML or JSON.")]
Key = Annotated[Words, typer.Option(help="What is to be learned; once for each.")]
CorpusFolder = Annotated[str | None, typer.Option("--corpus", help="Folder of the corpus.")]
Origins = Annotated[Words, typer.Option("--origin", help="Whose labels teach; once for each.")]
Set = Annotated[Words, typer.Option("--set", help="Any field of a plan, as TOML: epochs=30")]
Folder = Annotated[
    Path | None, typer.Option("--folder", help="Keeps the runs, to be gone on with.")
]
Processes = Annotated[int, typer.Option(min=1, help="That prepare recordings.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `sinusnode`."""
    app.command("few-shot")(few_shot)
    app.command("which-model")(which_model)


def few_shot(
    plan: PlanFile = None,
    key: Key = None,
    positives: Annotated[
        list[int] | None, typer.Option("-n", "--positives", min=5, help="Once for each number.")
    ] = None,
    corpus: CorpusFolder = None,
    base: Annotated[str | None, typer.Option(help="A learned base; by default current.")] = None,
    mode: Annotated[str | None, typer.Option(help="head or all; by default all.")] = None,
    origin: Origins = None,
    seeds: Annotated[int, typer.Option(min=2, help="Splits and draws.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the learning curve, drawn and as a table.")
    ] = None,
    option: Set = None,
    folder: Folder = None,
    processes: Processes = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Learn from N positives, from a learned start and from random weights: say what pays."""
    said = {"keys": key, "corpus": corpus, "base": base, "mode": mode, "origins": origin}
    wanted = _wanted(plan, said, option, _FEW_SHOT)
    with _ready(config, folder, f"few-shot-{wanted.name}") as (store, place):
        from training.few_shot import COUNTS
        from training.few_shot import few_shot as learn

        counts = tuple(positives or COUNTS)
        shots = learn(
            wanted,
            place,
            counts=counts,
            seeds=seeds,
            store=store,
            processes=processes,
            report=_report,
        )
    for shot in shots:
        _show_shot(shot, as_json)
    if out:
        _draw(shots, wanted, out)
    left = sorted(set(counts) - {shot.positives for shot in shots})
    if left:
        _report(f"Too few patients have {wanted.keys[0]} for {', '.join(map(str, left))}.")
    raise typer.Exit(REFUSED if left else 0)


def which_model(
    plan: PlanFile = None,
    key: Key = None,
    corpus: CorpusFolder = None,
    architecture: Annotated[
        Words, typer.Option(help="From scratch; by default all there are.")
    ] = None,
    base: Annotated[
        Words, typer.Option(help="A learned base, tried by its head and as a whole.")
    ] = None,
    origin: Origins = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="For all of them.")] = 60.0,
    knobs: Annotated[int, typer.Option(min=1, help="Settings tried for each, at most.")] = 4,
    option: Set = None,
    folder: Folder = None,
    processes: Processes = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try architectures and modes on your own recordings, rank them, and advise one."""
    wanted = _wanted(plan, {"keys": key, "corpus": corpus, "origins": origin}, option, {})
    with _ready(config, folder, f"which-model-{wanted.name}") as (store, place):
        from training.choose import candidates
        from training.choose import which_model as choose

        found = choose(
            wanted,
            place,
            among=candidates(base or (), architecture or ()),
            minutes=minutes,
            knobs=knobs,
            store=store,
            processes=processes,
            report=_report,
        )
    if as_json:
        for rank in found.ranked:
            _print_json({"kind": "candidate"} | asdict(rank))
        advised = asdict(found.advised)
        _print_json({"kind": "advice", "said": found.said, **advised, "left_out": found.left_out})
    else:
        _show_choice(found)


def _wanted(
    file: Path | None, said: dict[str, Any], options: Words, usual: dict[str, Any]
) -> "Plan":
    """Return the plan of a file and of options; what neither says is as usual."""
    from training.run_cli import _read

    stated = _read(file) if file else {}
    known = {name: value for name, value in said.items() if value}
    return _plan(None, usual | stated | known, options or ())


@contextmanager
def _ready(
    config: Path | None, folder: Path | None, name: str
) -> "Iterator[tuple[ModelStore, Path]]":
    """Yield the registry and the folder of the runs; what cannot be learned is a sentence."""
    from training.prepare import CannotTrain

    settings = _settings(config)
    place = folder or settings.storage.folder / "runs" / name.replace("/", "-")
    with _opened(settings) as (ledger, _):
        try:
            yield _store(settings, ledger), place
        except CannotTrain as error:
            raise Stop(str(error), REFUSED) from None


def _report(said: str) -> None:
    _err.print(said, highlight=False, markup=False)


def _show_shot(shot: "Shot", as_json: bool) -> None:
    if as_json:
        _print_json({"kind": "shot"} | asdict(shot))
    else:
        _out.print(shot.said, highlight=False, markup=False)


def _draw(shots: "Sequence[Shot]", plan: "Plan", folder: Path) -> None:
    """Write the learning curve of both starts: SVG, PNG, and Markdown."""
    from training.figures import CurvePoint, curve_table, learning_curve

    points = [
        CurvePoint(series=series, count=shot.positives, figure=figure)
        for shot in shots
        for series, figure in (
            (f"from {Path(plan.base).name}", shot.learned),
            ("from random weights", shot.random),
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    drawing = learning_curve(points, "AUROC")
    drawing.save(folder)
    (folder / f"{drawing.name}.md").write_text(curve_table(points, "AUROC"), encoding="utf-8")


def _show_choice(found: "Choice") -> None:
    table = Table(box=None)
    table.add_column("candidate", no_wrap=True)
    for column in ("macro AUROC", "behind", "parameters", "MFLOP", "ms", "s/epoch"):
        table.add_column(column)
    for rank in found.ranked:
        table.add_row(
            rank.candidate.name,
            str(rank.auroc),
            str(rank.behind),
            f"{rank.parameters:,}",
            f"{rank.flops / 1e6:.0f}",
            f"{rank.milliseconds:.1f}",
            f"{rank.epoch_seconds:.1f}",
        )
    _out.print(table)
    _out.print(found.said, highlight=False, markup=False)
