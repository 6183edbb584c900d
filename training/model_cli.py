"""The commands `sinusnode models`: what there is, what may speak, and a person's decisions.

Digests may be cut short wherever one model alone begins so.
"""

import getpass
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from dicom_node.cli import OK, REFUSED, USAGE, Config, Json, Stop, _settings

if TYPE_CHECKING:
    from analysis.card import Card
    from analysis.recipe import Unit
    from dicom_node.models import Entry, ModelStore

_out = Console(soft_wrap=True)
_SHORT = 12

models = typer.Typer(no_args_is_help=True, help="The models: what there is, and what may speak.")

Digest = Annotated[str, typer.Argument(help="Digest, or how it begins.")]
File = Annotated[Path, typer.Argument(help="A model package, or an ONNX file of ExChanGeAI's.")]
InputUnit = Annotated[
    str | None, typer.Option("--unit", help="mV or uV: of the input, where the file is silent.")
]


# What there is


@models.command("list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """List every model with its state, the newest first."""
    with _registry(config) as store:
        entries = store.list()
    if as_json:
        for entry in entries:
            _print_json(entry.to_mapping())
        return
    columns = ("digest", "name", "version", "state", "gate", "remarks")
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for entry in entries:
        what = (entry.digest[:_SHORT], entry.name, entry.version, _state(entry))
        table.add_row(*what, _gate(entry), " ".join(_remarks(entry)))
    _out.print(table)


@models.command()
def show(digest: Digest, config: Config = None, as_json: Json = False) -> None:
    """Show one model: its card, what speaks for it, and what against."""
    with _registry(config) as store:
        entry = store.get(store.resolve(digest))
        card = _card(store.path(entry.digest).read_bytes()) if entry.present else None
        evidence = store.evidence(entry.digest)
    if as_json:
        held = json.loads(card.to_json()) if card else None
        _print_json(entry.to_mapping() | {"card": held, "evidence": evidence})
        return
    _say(f"{entry.name} {entry.version}, {_state(entry)}")
    _say(f"Digest: {entry.digest}")
    _say(f"Device UID: {entry.device_uid}")
    _say(f"Gate: {_gate(entry)}")
    for remark in (*_remarks(entry), *entry.objections):
        _say(remark)
    if card is not None:
        _show_card(card)


def _show_card(card: "Card") -> None:
    _say(f"Intended use: {card.intended_use}")
    _say(f"Limits: {card.limits}")
    _say(f"Findings: {', '.join(label.key for label in card.labels)}")
    _say(f"Learned from: {', '.join(item.name for item in card.training_data) or 'unknown'}")


def _state(entry: "Entry") -> str:
    from dicom_node.models import ModelState

    current = entry.state is ModelState.CURRENT
    if current and not entry.speaks:
        return "current, not speaking yet"
    return f"{entry.state}, still speaking" if entry.speaks and not current else str(entry.state)


def _gate(entry: "Entry") -> str:
    return {None: "no verdict", True: "passed", False: "refused"}[entry.passed]


def _remarks(entry: "Entry") -> Iterator[str]:
    if entry.withdrawn:
        yield f"Learned from {entry.withdrawn} recordings that were withdrawn."
    if entry.refused:
        yield f"Refused: {entry.refused}"
    if not entry.present:
        yield "Its package is not on disk."


# What comes in, and goes out


@models.command()
def check(file: File, unit: InputUnit = None, as_json: Json = False) -> None:
    """Say whether a file is a model that may run here, without keeping it."""
    from dicom_node.examine import apart

    content, unknown = _content(file, unit)
    with _refusals():
        identity = apart(content)
    card = _card(content)
    if as_json:
        labels = [label.key for label in card.labels]
        _print_json(_identity(identity) | {"ok": True, "labels": labels, "unknown": unknown})
        return
    _say(f"{identity.name} {identity.version} may run here: {identity.digest}")
    _show_card(card)


@models.command()
def add(
    file: File,
    unit: InputUnit = None,
    by: Annotated[str | None, typer.Option(help="Who adds it; by default you.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Add a model as a candidate, once it passed every check."""
    content, unknown = _content(file, unit)
    evidence = {"source": file.name} | ({"unknown": unknown} if unknown else {})
    with _registry(config) as store:
        digest = store.add_candidate(content, time.time(), evidence, _who(by))
        entry = store.get(digest)
    if as_json:
        _print_json(entry.to_mapping() | {"unknown": unknown})
        return
    _say(f"{entry.name} {entry.version} is a {entry.state}: {digest}")
    for line in unknown:
        _say(f"Unknown: {line}")


@models.command()
def export(
    digest: Digest,
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write the package of a model to a file."""
    from dicom_node.models import publish

    with _registry(config) as store:
        whole = store.resolve(digest)
        store.load(whole)
        publish(file, store.path(whole).read_bytes())
    if as_json:
        _print_json({"digest": whole, "file": str(file)})
    else:
        _say(f"{file} written.")


@models.command()
def module(
    path: Annotated[str, typer.Argument(help="Where it is imported from: package.module:Name.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="Its tensors, safetensors; by default as it is made.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="What it is made with, as TOML: width=32")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Its input, where not as usual, as TOML: samples=5000"),
    ] = None,
    folder: Annotated[Path, typer.Option("--from", help="Folder that holds the code.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write a PyTorch module of your own as a base to learn from. Its code is run."""
    from dicom_node.models import publish
    from training.convert import NotTheSame
    from training.custom import as_base, load_module
    from training.plan import recipe_of
    from training.run_cli import table_of

    sys.path.insert(0, str(folder.absolute()))
    with _refusals():
        try:
            wanted = recipe_of(table_of(recipe or ()))
            options = table_of(option or ())
            made = load_module(path, allowed=[path], weights=weights, options=options)
            publish(file, as_base(made, wanted))
        except (ValueError, NotTheSame) as error:
            raise Stop(f"{error}", REFUSED) from None
    leads, rate, unit = len(wanted.leads), wanted.sampling_frequency, wanted.unit
    said = f"{leads} leads, {wanted.samples} samples at {rate:g} Hz in {unit}"
    document = {"file": str(file), "module": path, "recipe": wanted.to_mapping()}
    _tell(as_json, document, f"{file} written: {said}. `sinusnode train --base {file}`")


def _content(file: Path, unit: str | None) -> tuple[bytes, list[str]]:
    """Return the package that a file is or becomes, and what is unknown of a foreign one."""
    from analysis.model import CARD_KEY
    from analysis.vetting import MAX_BYTES, parse

    wanted = _unit(unit)
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise Stop(f"{file} cannot be read: {error.strerror}.", REFUSED) from None
    with _refusals():
        if any(item.key == CARD_KEY for item in parse(content).metadata_props):
            return content, []
        return _adopted(file, content, wanted)


def _adopted(file: Path, content: bytes, unit: "Unit | None") -> tuple[bytes, list[str]]:
    """Return an ExChanGeAI model as a package; it has no card of its own."""
    from training.registry import adopt

    today = datetime.now(UTC).date().isoformat()
    try:
        adopted = adopt(content, name=file.stem, created=today, unit=unit)
    except ValueError as error:
        raise Stop(f"{error} It can be trained on, and not be run as it is.", REFUSED) from None
    return adopted.content, list(adopted.unknown)


def _unit(name: str | None) -> "Unit | None":
    from analysis.recipe import Unit

    known = {"mV": Unit.MILLIVOLT, "uV": Unit.MICROVOLT}
    if name is not None and name not in known:
        raise Stop("--unit is mV or uV.", USAGE)
    return known[name] if name else None


def _card(content: bytes) -> "Card":
    from analysis.card import Card
    from analysis.model import CARD_KEY
    from analysis.package import metadata
    from analysis.vetting import parse

    return Card.from_json(metadata(parse(content), CARD_KEY)[CARD_KEY])


def _identity(identity: Any) -> dict[str, str]:
    return {name: getattr(identity, name) for name in ("digest", "name", "version")}


# What a person decides


By = Annotated[str | None, typer.Option(help="Who decides; by default you.")]


@models.command()
def shadow(
    digest: Annotated[str | None, typer.Argument(help="Digest, or how it begins.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="None shadows any more.")] = False,
    by: By = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Have a model read every ECG beside the current one; nothing of it is ever sent."""
    if stop == (digest is not None):
        raise Stop("Name a model, or --stop.", USAGE)
    with _registry(config) as store:
        if digest is None:
            well = store.end_shadow(time.time(), _who(by))
            _tell(as_json, {"shadow": None}, "None shadows any more." if well else "None did.")
            return
        whole = store.resolve(digest)
        store.shadow(whole, time.time(), _who(by))
    _tell(as_json, {"shadow": whole}, f"{whole} shadows; see `models compare`.")


@models.command()
def compare(
    digest: Annotated[
        str | None, typer.Argument(help="Digest, or how it begins; by default the shadow's.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare what a shadow found with what the model that spoke had found; no patient is named."""
    from dicom_node.shadow import ShadowReport

    with _registry(config) as store:
        running = store.shadowing()
        if digest is None and running is None:
            raise Stop("No model shadows: `models shadow DIGEST`, or name one that did.", REFUSED)
        whole = store.resolve(digest) if digest is not None else (running or ("",))[0]
        report = ShadowReport.of(store.ledger, whole)
    if as_json:
        _print_json(report.to_mapping())
    else:
        _say(report.text)
    raise typer.Exit(OK if report.ecgs else REFUSED)


@models.command()
def promote(
    digest: Digest,
    override: Annotated[
        str | None, typer.Option(help="Why it is to speak without a passed verdict.")
    ] = None,
    by: By = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a model the one that speaks; the node swaps between two ECGs."""
    with _registry(config) as store:
        whole = store.resolve(digest)
        store.promote(whole, time.time(), _who(by), override=override)
    _tell(as_json, {"current": whole}, f"{whole} is current; the node swaps between two ECGs.")


@models.command()
def rollback(by: By = None, config: Config = None, as_json: Json = False) -> None:
    """Make the previous model the one that speaks again."""
    with _registry(config) as store:
        whole = store.roll_back(time.time(), _who(by))
    _tell(as_json, {"current": whole}, f"{whole} is current again.")


@models.command()
def retire(digest: Digest, by: By = None, config: Config = None, as_json: Json = False) -> None:
    """Take a model out of use; its package goes once no open object of the queue names it."""
    with _registry(config) as store:
        whole = store.resolve(digest)
        gone = store.retire(whole, time.time(), _who(by))
    what = "its package is deleted" if gone else "its package stays while objects may need it"
    _tell(as_json, {"retired": whole, "deleted": gone}, f"{whole} is retired; {what}.")


# What the commands share


@contextmanager
def _registry(config: Path | None) -> "Iterator[ModelStore]":
    from training.registry import registry

    with _refusals(), registry(_settings(config), time.time()) as store:
        yield store


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the registry refuses into a sentence and an exit status."""
    from analysis.errors import ModelRejected
    from dicom_node.models import NotAllowed

    try:
        yield
    except ModelRejected as error:
        raise Stop(f"Refused, {error.reason}: {error.message}", REFUSED) from None
    except (LookupError, NotAllowed) as error:
        raise Stop(str(error.args[0]), REFUSED) from None


def _who(by: str | None) -> str:
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "the command line"


def _tell(as_json: bool, document: Mapping[str, Any], sentence: str) -> None:
    if as_json:
        _print_json(document)
    else:
        _say(sentence)


def _say(text: str) -> None:
    _out.print(text, highlight=False, markup=False)


def _print_json(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False), flush=True)  # noqa: T201 - data goes to stdout
