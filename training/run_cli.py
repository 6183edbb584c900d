"""The commands `sinusnode train` and `sinusnode evaluate`.

`train PLAN.toml`, or options alone, checks the plan, makes a run of it and works on that run,
unless it is only to be queued. Who follows a run learns nothing: see :mod:`training.worker`.
"""

import getpass
import json
import signal
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperGroup

from dicom_node.cli import OK, REFUSED, USAGE, Config, Json, Stop, _print_json, _settings

if TYPE_CHECKING:
    from dicom_node.ledger import Ledger
    from dicom_node.models import ModelStore
    from dicom_node.settings import Settings
    from training.plan import Plan
    from training.runs import Run, Runs

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)


class _Starting(TyperGroup):
    """A group whose command `start` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the arguments; what names no command is for `start`."""
        named = not args or args[0] in self.commands or args[0] == "--help"
        found: list[str] = super().parse_args(ctx, args if named else ["start", *args])
        return found


train = typer.Typer(
    cls=_Starting,
    no_args_is_help=True,
    help="Learn from a corpus: `train PLAN.toml`, or options alone (`train start --help`).",
)

Number = Annotated[int, typer.Argument(help="Number of the run, from `train list`.")]
By = Annotated[str | None, typer.Option(help="Who asks for it; by default you.")]
Queue = Annotated[bool, typer.Option("--queue", help="Only queue it, for `train worker`.")]
Words = list[str] | None


# Beginning


@train.command()
def start(
    plan: Annotated[Path | None, typer.Argument(help="A plan, TOML or JSON.")] = None,
    key: Annotated[Words, typer.Option(help="What is to be learned; once for each.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Folder of the corpus.")] = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    task: Annotated[
        str | None, typer.Option(help="multi-label, multi-class or regression.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="An architecture, a package or its digest, or current.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="scratch, head, all or continue.")] = None,
    origin: Annotated[Words, typer.Option(help="Whose labels teach; once for each.")] = None,
    site: Annotated[Words, typer.Option(help="Only recordings of this site.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    minutes: Annotated[float | None, typer.Option(help="At most so long.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same result.")] = None,
    eighty_twenty: Annotated[
        bool,
        typer.Option("--80-20", help="80 % teach, 20 % validate; nothing judges by itself."),
    ] = False,
    option: Annotated[
        Words,
        typer.Option("--set", help="Any other field of a plan, as TOML: augment.mixup=0.2"),
    ] = None,
    queue: Queue = False,
    by: By = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check a plan and work on it; options overrule its file."""
    said = {
        "keys": key,
        "corpus": corpus,
        "name": name,
        "task": task,
        "base": base,
        "mode": mode,
        "origins": origin,
        "sites": site,
        "epochs": epochs,
        "minutes": minutes,
        "seed": seed,
        "split": _eighty_twenty() if eighty_twenty else None,
    }
    stated = {field: value for field, value in said.items() if value not in (None, [])}
    wanted = _plan(plan, stated, option or ())
    settings = _settings(config)
    with _opened(settings) as (ledger, runs):
        _check(wanted, ledger, settings, as_json)
        number = runs.enqueue(wanted, _who(by), time.time())
        if queue:
            _tell(runs.get(number), as_json)
            return
        raise typer.Exit(_work(settings, ledger, number, as_json))


def _eighty_twenty() -> dict[str, Any]:
    from training.splits import EIGHTY_TWENTY

    return {"fractions": dict(EIGHTY_TWENTY)}


def _plan(file: Path | None, said: Mapping[str, Any], options: Sequence[str]) -> "Plan":
    """Return the plan of a file with what the options say instead; paths become absolute."""
    from training.plan import Plan

    try:
        document: dict[str, Any] = {**(_read(file) if file else {}), **said}
        _merge(document, table_of(options))
        if "name" not in document and "keys" in document:
            document["name"] = "-".join(document["keys"])
        plan = Plan.from_mapping(document)
    except ValueError as error:
        raise Stop(str(error), USAGE) from None
    split = str(Path(plan.split).absolute()) if isinstance(plan.split, str) else plan.split
    base = str(Path(plan.base).absolute()) if Path(plan.base).is_file() else plan.base
    return replace(plan, corpus=str(Path(plan.corpus).absolute()), base=base, split=split)


def _read(file: Path) -> dict[str, Any]:
    """Return the fields that a plan's file states; options may say the others."""
    read = tomllib.loads if file.suffix == ".toml" else json.loads
    try:
        document = read(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Stop(f"{file} cannot be read: {error.strerror}.", USAGE) from None
    except ValueError as error:
        raise Stop(f"{file} is no plan: {error}.", USAGE) from None
    if not isinstance(document, dict):
        raise Stop(f"{file} is no plan: it holds no table.", USAGE)
    return document


def table_of(options: Sequence[str]) -> dict[str, Any]:
    """Return what options say, each a field and its value as TOML has it."""
    table: dict[str, Any] = {}
    for option in options:
        _merge(table, _table_of(option))
    return table


def _table_of(option: str) -> dict[str, Any]:
    name, equals, value = option.partition("=")
    for text in (option, f'{name}{equals}"{value}"'):  # a bare word is a text
        with suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(text)
    raise Stop(f"--set {option} is no field=value.", USAGE)


def _merge(document: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put values into a table, and into the tables in it."""
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            document[name] = dict(document[name])
            _merge(document[name], value)
        else:
            document[name] = value


def _check(plan: "Plan", ledger: "Ledger", settings: "Settings", as_json: bool) -> None:
    """Say what is left out; stop with a sentence where nothing can be learned."""
    from training.prepare import CannotTrain
    from training.train import check

    try:
        prepared = check(plan, _store(settings, ledger))
    except CannotTrain as error:
        raise Stop(str(error), REFUSED) from None
    parts = {name: len(part) for name, part in prepared.split.parts.items()}
    if as_json:
        _print_json({"kind": "plan", **parts, "keys": prepared.keys, "notes": prepared.notes})
        return
    for note in prepared.notes:
        _err.print(f"! {note}", highlight=False, markup=False)
    listed = ", ".join(f"{name} {count}" for name, count in parts.items())
    _err.print(f"{', '.join(prepared.keys)}: {listed}", highlight=False, markup=False)


# Working


def _work(settings: "Settings", ledger: "Ledger", number: int, as_json: bool) -> int:
    """Work on one run and show how far it is; return the exit status."""
    from dicom_node import logs
    from training.progress import Shown
    from training.worker import Worker

    logs.configure(settings.log.model_copy(update={"level": "error"}))
    with Shown(_err, as_json=as_json) as shown, _ending() as ending:
        worker = Worker(settings, ledger, told=shown.told, stopping=ending.is_set)
        while (run := worker.work(number)) and run.state == "RUNNING" and not ending.is_set():
            pass  # its process died: it goes on
    if ending.is_set():
        run = worker.runs.stop(number, _who(None), time.time())
    run = run or worker.runs.get(number)
    _tell(run, as_json)
    return OK if run.state in {"DONE", "QUEUED"} else REFUSED


@contextmanager
def _ending() -> "Iterator[threading.Event]":
    """Yield what is set by SIGTERM or SIGINT."""
    ending = threading.Event()
    before = {
        signum: signal.signal(signum, lambda *_: ending.set())
        for signum in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield ending
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@train.command()
def worker(
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits.")] = False,
    attended: Annotated[bool, typer.Option("--attended", hidden=True)] = False,
    config: Config = None,
) -> None:
    """Work on the runs that wait, one at a time, until SIGTERM."""
    from dicom_node import companions, logs
    from training.worker import Worker

    settings = _settings(config)
    logs.configure(settings.log)
    if attended:
        companions.attend()
    with _opened(settings) as (ledger, _), _ending() as ending:
        Worker(settings, ledger, stopping=ending.is_set).serve(once=once)


# Looking, stopping, going on


@train.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the runs, the newest first."""
    with _opened(_settings(config)) as (_, runs):
        found = runs.list(limit=limit)
    if as_json:
        for run in found:
            _print_json(_document(run))
        return
    columns = ("run", "name", "by", "asked", "state", "message")
    table = Table(*(Column(column, overflow="fold") for column in columns))
    for run in found:
        table.add_row(str(run.id), run.name, run.by, _moment(run.queued_at), run.state, run.message)
    _out.print(table)


@train.command()
def show(
    number: Number,
    model: Annotated[
        bool, typer.Option("--model", help="Only the digest of its candidate.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show one run: its plan, its curves and what came of it."""
    from training.progress import curves

    settings = _settings(config)
    with _found(settings) as runs:
        run = runs.get(number)
    if model:
        if run.model is None:
            raise Stop(f"No model came of run {number}.", REFUSED)
        _say(run.model)
        return
    folder = settings.runs_folder / str(number)
    epochs = _epochs(folder)
    if as_json:
        plan = json.loads(run.plan)
        _print_json(_document(run) | {"plan": plan, "folder": str(folder), "epochs": epochs})
        return
    _tell(run, as_json)
    plan = json.loads(run.plan)
    _say(f"{', '.join(plan['keys'])} from {plan['corpus']}, {plan['base']}, {plan['mode']}")
    if epochs:
        _out.print(curves(epochs))
    for name in ("report.html", "package.onnx"):
        if (folder / name).is_file():
            _say(str(folder / name))


@train.command()
def stop(number: Number, by: By = None, config: Config = None, as_json: Json = False) -> None:
    """Stop a run; it can be resumed."""
    with _found(_settings(config)) as runs:
        _tell(runs.stop(number, _who(by), time.time()), as_json)


@train.command()
def resume(
    number: Number, queue: Queue = False, by: By = None, config: Config = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Go on with a run that was stopped or failed, from where it was."""
    settings = _settings(config)
    with _found(settings) as runs:
        run = runs.resume(number, _who(by), time.time())
    if queue:
        _tell(run, as_json)
        return
    with _opened(settings) as (ledger, _):
        raise typer.Exit(_work(settings, ledger, number, as_json))


# Judging


def evaluate(
    model: Annotated[str, typer.Argument(help="A package, its digest, or current.")],
    corpus: Annotated[Path, typer.Option(help="Folder of the corpus.")] = Path(
        "sinusnode-data/corpus"
    ),
    split: Annotated[
        Path | None, typer.Option(help="A stored split; by default every labelled recording.")
    ] = None,
    part: Annotated[str, typer.Option(help="Of the split.")] = "test",
    against: Annotated[
        str | None, typer.Option(help="Another model, judged on the same recordings.")
    ] = None,
    origin: Annotated[Words, typer.Option(help="Whose labels judge; once for each.")] = None,
    site: Annotated[Words, typer.Option(help="Only recordings of this site.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say how good a model is on recordings that taught it nothing."""
    from training.assess import Question, assess, table
    from training.prepare import CannotTrain

    settings = _settings(config)
    with _opened(settings) as (ledger, _):
        try:
            question = Question(
                model=model,
                corpus=str(corpus),
                split=split,
                part=part,
                against=against,
                origins=tuple(origin or ()),
                sites=tuple(site or ()),
            )
            found = assess(question, _store(settings, ledger), out)
        except CannotTrain as error:
            raise Stop(str(error), REFUSED) from None
    if as_json:
        _print_json(found.to_mapping())
        return
    _out.print(table(found))
    for note in found.notes:
        _err.print(f"! {note}", highlight=False, markup=False)
    if found.report:
        _say(str(found.report))


# What the commands share


@contextmanager
def _opened(settings: "Settings") -> "Iterator[tuple[Ledger, Runs]]":
    from dicom_node.operate import opened
    from training.runs import Runs

    with opened(settings) as ledger:
        yield ledger, Runs(ledger)


@contextmanager
def _found(settings: "Settings") -> "Iterator[Runs]":
    """Yield the runs; what does not exist or cannot be done is a sentence."""
    with _opened(settings) as (_, runs):
        try:
            yield runs
        except (LookupError, ValueError) as error:
            raise Stop(str(error.args[0]), REFUSED) from None


def _store(settings: "Settings", ledger: "Ledger") -> "ModelStore":
    from dicom_node.models import ModelStore

    return ModelStore(settings.storage.folder / "models", ledger)


def _epochs(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def _document(run: "Run") -> dict[str, Any]:
    times = {name: _moment(getattr(run, name)) for name in ("queued_at", "started_at", "ended_at")}
    names = ("id", "name", "by", "state", "message", "attempts", "model")
    return {"kind": "run"} | {name: getattr(run, name) for name in names} | times


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _tell(run: "Run", as_json: bool) -> None:
    if as_json:
        _print_json(_document(run))
    else:
        _say(f"Run {run.id}, {run.state}: {run.message}")


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False)


def _who(by: str | None) -> str:
    try:
        return by or getpass.getuser()
    except (KeyError, OSError):
        return _NOBODY


_NOBODY: Final = "the command line"
