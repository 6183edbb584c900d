"""The command `sinusnode`: data on standard output, everything else on standard error.

Exit status: 0 well, 1 refused or unhealthy, 2 usage or a missing extra, 3 unreachable. No
traceback reaches a terminal. Other packages add commands through the entry-point group
``sinusnode.commands``; imports are made where a command needs them, so that each starts fast.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import date, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from analysis.formats.content import Stated
    from dicom_node.backfills import Counts
    from dicom_node.check import Known
    from dicom_node.companions import Companion
    from dicom_node.offline import Study
    from dicom_node.retrieve import Step
    from dicom_node.settings import Settings
    from dicom_node.tls import Secure

OK, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
_DATE = ["%Y-%m-%d"]
_PATIENCE = 10.0  # seconds that a peer is waited for

app = typer.Typer(
    name="sinusnode",
    help="The ECG AI node: DICOM ECG in, structured report, PDF and annotated waveform out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document per line.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; by default ./sinusnode.toml."),
]
OverTls = Annotated[bool, typer.Option("--tls", help="With the certificates of section tls.")]
Into = Annotated[
    Path | None,
    typer.Option(help="DICOM object whose patient and study a non-DICOM ECG belongs to."),
]
PatientId = Annotated[str | None, typer.Option(help="With --study-uid, instead of --into.")]
StudyUid = Annotated[str | None, typer.Option(help="With --patient-id.")]
Rate = Annotated[float | None, typer.Option(help="Hz, of a table that does not say it.")]
Unit = Annotated[str | None, typer.Option(help="nV, uV, mV or V, of a table that does not say it.")]
Leads = Annotated[
    str | None, typer.Option(help="I,II,…: the columns of a table that does not name them.")
]


class Stop(Exception):
    """End the command with a sentence and an exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def _settings(config: Path | None) -> "Settings":
    from pydantic import ValidationError

    from dicom_node import settings

    try:
        return settings.load(config)
    except FileNotFoundError as error:
        raise Stop(str(error), USAGE) from None
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors()
        ]
        raise Stop("The settings are wrong. " + "; ".join(problems), USAGE) from None
    except ValueError as error:
        raise Stop(f"The settings file cannot be read: {error}", USAGE) from None


def _print_json(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False), flush=True)  # noqa: T201 - data goes to stdout


# The node


@app.command()
def serve(config: Config = None) -> None:
    """Run the node alone, until SIGTERM."""
    _serve(_settings(config))


@app.command()
def run(config: Config = None) -> None:
    """Run all that is installed here: the node, the admin service and the train worker."""
    from dicom_node.companions import chosen

    settings = _settings(config)
    _serve(settings, chosen(settings))


def _serve(settings: "Settings", companions: "tuple[Companion, ...]" = ()) -> None:
    from dicom_node import node

    try:
        raise typer.Exit(node.serve(settings, companions=companions))
    except node.CannotStart as error:
        raise Stop(f"The node cannot start: {error}.", REFUSED) from None


@app.command()
def demo(
    count: Annotated[int, typer.Option(min=1, help="How many ECGs the cart sends.")] = 10,
    results: Annotated[Path, typer.Option(help="Where the PDFs go.")] = Path("demo-results"),
) -> None:
    """Start a node, a small PACS and a cart on loopback, and show what comes back."""
    from dicom_node import demo as show
    from dicom_node import logs

    logs.silence_libraries()
    raise typer.Exit(show.run(count, results, _out))


# As a caller


@app.command()
def send(
    files: Annotated[list[Path], typer.Argument(help="DICOM files.")],
    to: Annotated[str, typer.Option(help="AE@host:port.")],
    calling: Annotated[str, typer.Option(help="Our AE title.")] = "SINUSCART",
    tls: OverTls = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send DICOM ECGs as a cart does, by C-STORE."""
    from dicom_node import logs, scu

    logs.silence_libraries()
    peer = _peer(to)
    with _usable_tls():
        secure = _secured(_settings(config), peer.host) if tls else None
    failed = 0
    try:
        for sent in scu.send(files, peer, calling, secure=secure):
            failed += not sent.ok
            if as_json:
                _print_json(
                    {
                        "file": str(sent.file),
                        "ok": sent.ok,
                        "status": sent.status,
                        "message": sent.message,
                        "milliseconds": round(sent.milliseconds, 1),
                    }
                )
            else:
                _out.print(f"{sent.file}: {sent.message}", highlight=False)
    except scu.Unreachable as error:
        raise Stop(str(error), UNREACHABLE) from None
    raise typer.Exit(REFUSED if failed else OK)


@app.command()
def echo(
    peer: Annotated[str | None, typer.Argument(help="AE@host:port; by default all known.")] = None,
    tls: OverTls = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask the node and each destination, or one peer, whether it answers, and what it accepts.

    A peer of the settings is asked as they say: over TLS, and under which AE title.
    """
    from dicom_node import check, logs, scu

    logs.silence_libraries()
    settings = _settings(config)
    silent = 0
    for item in _known_peers(settings, peer, tls):
        try:
            accepted, ok = check.ask(item, _PATIENCE) or (), True
            message = "answers; accepts:" if accepted else "answers; takes calls of its peers alone"
        except scu.Unreachable as error:
            silent, accepted, ok, message = silent + 1, (), False, str(error)
        if as_json:
            said = "answers" if accepted else message
            _print_json(
                {"peer": str(item.address), "ok": ok, "tls": item.secure is not None,
                 "message": said, "accepts": accepted}
            )  # fmt: skip
        else:
            over = " (TLS)" if item.secure else ""
            _out.print(f"{item.address}{over}: {message}", highlight=False)
            for name in accepted:
                _out.print(f"  {name}", highlight=False)
    raise typer.Exit(UNREACHABLE if silent else OK)


def _peer(text: str) -> Any:
    from dicom_node.scu import Address

    try:
        return Address.parse(text)
    except ValueError as error:
        raise Stop(f"{error}.", USAGE) from None


def _known_peers(settings: "Settings", peer: str | None, over_tls: bool) -> "list[Known]":
    """Return the named peer, as the settings know it if they do, or all of the settings."""
    from dicom_node.check import Known, known_peers
    from dicom_node.receive import WAVEFORMS

    address = None if peer is None else _peer(peer)
    with _usable_tls():
        known = known_peers(settings)
        if address is None:
            return known
        listed = [item for item in known if item.address == address]
        if listed and not over_tls:
            return listed
        secure = _secured(settings, address.host) if over_tls else None
    return [Known(str(address), address, settings.dicom.ae_title, secure, WAVEFORMS)]


def _secured(settings: "Settings", host: str) -> "Secure":
    from dicom_node import tls

    if not settings.tls.enabled:
        raise Stop("The settings name no certificates: see section tls.", USAGE)
    return tls.secured(settings.tls, host)


@contextmanager
def _usable_tls() -> "Iterator[None]":
    from dicom_node import tls

    try:
        yield
    except OSError as error:
        raise Stop(f"The TLS files cannot be used: {tls.describe(error)}.", REFUSED) from None


# Without a server


@app.command()
def analyse(
    files: Annotated[list[Path], typer.Argument(help="ECG files of any supported encoding.")],
    as_json: Json = False,
    pdf: Annotated[Path | None, typer.Option(help="Write <stem>.pdf into this folder.")] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(help="Write <stem>.sr.dcm, .pdf.dcm and .ecg.dcm into this folder."),
    ] = None,
    into: Into = None,
    patient_id: PatientId = None,
    study_uid: StudyUid = None,
    rate: Rate = None,
    unit: Unit = None,
    leads: Leads = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Model package instead of the shipped one.")
    ] = None,
) -> None:
    """Measure and classify ECG files; needs no server and no settings."""
    from dicom_node import offline

    stated = _stated(rate, unit, leads)
    outputs = offline.Outputs(pdf=pdf, dicom=dicom, study=_study(into, patient_id, study_uid))
    try:
        models = offline.models(model)
    except offline.Unusable as error:
        raise Stop(str(error), REFUSED) from None
    failed = 0
    for file in files:
        document = offline.analyse(file, models, outputs, stated)
        failed += not document["ok"]
        if as_json:
            _print_json(document)
        else:
            _out.print(offline.describe(document), highlight=False)
    raise typer.Exit(REFUSED if failed else OK)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="An ECG file of any encoding, or a folder.")],
    out: Annotated[Path, typer.Argument(help="The file to write, or the folder to write into.")],
    to: Annotated[
        str | None, typer.Option(help="npz, wfdb, edf, xml, csv, parquet or dcm.")
    ] = None,
    into: Into = None,
    patient_id: PatientId = None,
    study_uid: StudyUid = None,
    rate: Rate = None,
    unit: Unit = None,
    leads: Leads = None,
    as_json: Json = False,
) -> None:
    """Write ECG files in another encoding: one by its suffix, a whole folder by --to."""
    from dicom_node import convert as conversion
    from dicom_node.offline import Unusable

    stated = conversion.Statements(_stated(rate, unit, leads), _study(into, patient_id, study_uid))
    try:
        work = conversion.plan(source, out, to)
    except Unusable as error:
        raise Stop(str(error), USAGE) from None
    documents = []
    try:
        for document in _progress(conversion.convert_all(work, stated), len(work)):
            documents.append(document)
            if as_json:
                _print_json(document)
    except Unusable as error:
        raise Stop(str(error), REFUSED) from None
    if not as_json:
        _show_conversion(documents)
    raise typer.Exit(OK if documents and all(item["ok"] for item in documents) else REFUSED)


def _show_conversion(documents: list[dict[str, Any]]) -> None:
    """Print what was written of one file, and a table of what was refused."""
    from collections import Counter

    if len(documents) == 1:
        for line in (*documents[0]["written"], *documents[0]["notes"]):
            _out.print(line, highlight=False)
    if refused := [item for item in documents if not item["ok"]]:
        _out.print(_table(refused, ("file", "reason", "message")))
    count = Counter(item["outcome"] for item in documents)
    _out.print("  ".join(f"{name} {count[name]}" for name in ("written", "refused", "skipped")))


def _progress(items: "Iterable[dict[str, Any]]", total: int) -> "Iterator[dict[str, Any]]":
    """Yield items while a bar on standard error, where that is a terminal, shows how far."""
    from rich.progress import track

    yield from track(
        items, "Converting", total, console=_err, transient=True, disable=not _err.is_terminal
    )


def _stated(rate: float | None, unit: str | None, leads: str | None) -> "Stated":
    from analysis.formats.common import MILLIVOLTS
    from analysis.formats.content import Stated

    if unit is not None and unit not in MILLIVOLTS:
        raise Stop("--unit is one of nV, uV, mV and V.", USAGE)
    names = tuple(name.strip() for name in leads.split(",")) if leads else None
    return Stated(sampling_frequency=rate, unit=unit, leads=names)


def _study(into: Path | None, patient_id: str | None, study_uid: str | None) -> "Study | None":
    from dicom_node.offline import Study, Unusable

    try:
        return Study.of(into, patient_id, study_uid)
    except Unusable as error:
        raise Stop(str(error), USAGE) from None


# The queue


@app.command()
def queue(
    state: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show where every received object stands, and why; and what was refused."""
    from dicom_node import operate

    try:
        view = operate.Queue.read(_settings(config), state or [], limit)
    except ValueError as error:
        raise Stop(str(error), USAGE) from None
    if as_json:
        for row in view.rows:
            _print_json({"kind": "object"} | row)
        for row in view.refused:
            _print_json({"kind": "refusal"} | row)
        for row in view.models:
            _print_json({"kind": "model"} | row)
        for line in view.stranded:
            _print_json({"kind": "stranded", "message": line})
        return
    _out.print(_table(view.rows, ("id", "received", "from", "state", "reason", "message")))
    if view.refused:
        _out.print(_table(view.refused, ("at", "from", "address", "reason", "message")))
    _out.print("  ".join(f"{name} {count}" for name, count in view.counts.items() if count))
    for line in view.stranded:
        _err.print(line, highlight=False, markup=False)
    for row in view.models:
        said = f"{row['slot']}: {row['name']} {row['version']} ({row['digest'][:12]})"
        _out.print(said, highlight=False, markup=False)


@app.command()
def quarantine(
    config: Config = None,
    as_json: Json = False,
    export: Annotated[
        tuple[int, Path] | None, typer.Option(help="Write the bytes of row ID to FILE.")
    ] = None,
) -> None:
    """Show what was set aside, or write its bytes to a file."""
    from dicom_node import operate

    if export is not None:
        try:
            operate.export(_settings(config), *export)
        except LookupError as error:
            raise Stop(str(error), REFUSED) from None
        return
    queue(state=["QUARANTINED"], limit=1000, config=config, as_json=as_json)


@app.command()
def retry(
    ids: Annotated[list[int] | None, typer.Argument(help="Row numbers from `queue`.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed deliveries.")] = False,
    config: Config = None,
) -> None:
    """Set quarantined objects and failed deliveries going again."""
    from dicom_node import operate

    if not ids and not failed:
        raise Stop("Name row numbers, or --failed.", USAGE)
    going, refused = operate.retry(_settings(config), ids or [], failed=failed)
    for number in going:
        _out.print(f"{number}: tried again", highlight=False)
    for number in refused:
        _err.print(f"{number}: nothing to try again", highlight=False)
    raise typer.Exit(REFUSED if refused else OK)


@app.command()
def redirect(
    destination: Annotated[str, typer.Argument(help="One that the settings no longer name.")],
    to: Annotated[str | None, typer.Option(help="A destination of the settings.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Give its results up instead.")] = False,
    config: Config = None,
) -> None:
    """Send elsewhere what waits for a destination that is gone, or give it up."""
    from dicom_node import operate

    if (to is None) is not drop:
        raise Stop("Say where to: --to NAME, or --drop.", USAGE)
    try:
        count = operate.redirect(_settings(config), destination, to)
    except ValueError as error:
        raise Stop(str(error), REFUSED) from None
    what = "given up" if to is None else f"sent to {to}"
    _out.print(f"{count} results for {destination}: {what}", highlight=False, markup=False)


@app.command()
def backfill(
    source: Annotated[
        str | None, typer.Argument(help="A source of the settings; by default the only one.")
    ] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DATE, help="First study date.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=_DATE, help="Last one; by default today.")
    ] = None,
    station: Annotated[str | None, typer.Option(help="Only of this Station Name; * and ?.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Only of this Manufacturer's Model Name; * and ?.")
    ] = None,
    retrieve_ae: Annotated[
        str | None, typer.Option(help="Only what this AE title retrieves; * and ?.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report/--archive-only", help="Deliver results too; by default none is."),
    ] = False,
    count: Annotated[bool, typer.Option("--count", help="Only count; fetch nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last one.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Stop the run that is under way.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fetch past ECGs of a PACS, gently and each once; the node must be running."""
    from dicom_node import logs, retrieve

    logs.silence_libraries()
    settings = _settings(config)
    named = {"StationName": station, "ManufacturerModelName": model, "RetrieveAETitle": retrieve_ae}
    filters = {key: value for key, value in named.items() if value}
    try:
        if pause:
            _show_step(_step_document(retrieve.pause(settings, source)), as_json)
            return
        if resume:
            raise typer.Exit(_follow(retrieve.resume(settings, source), as_json))
        chosen, days = retrieve.source_named(settings, source), _days(first, last)
        if count:
            _show_counts(retrieve.count(settings, chosen, *days, filters), days, as_json)
            return
        order = retrieve.order(settings, chosen, *days, filters, report=report)
        raise typer.Exit(_follow(retrieve.begin(settings, chosen, order), as_json))
    except retrieve.Unavailable as error:
        raise Stop(str(error), UNREACHABLE) from None
    except retrieve.Stopped as error:
        raise Stop(str(error), REFUSED) from None


def _days(first: datetime | None, last: datetime | None) -> tuple[date, date]:
    end = last or datetime.now()  # noqa: DTZ005 - a study date is local
    if first is None or first > end:
        raise Stop("Name the study dates: --from YYYY-MM-DD, and --to not before it.", USAGE)
    return first.date(), end.date()


def _show_counts(
    counted: "Iterator[tuple[date, Counts]]", days: tuple[date, date], as_json: bool
) -> None:
    """Print what each study date holds, and all of them together."""
    found = known = 0
    for day, counts in counted:
        found, known = found + counts.found, known + counts.known
        if as_json:
            _print_json({"day": str(day), "found": counts.found, "known": counts.known})
        elif counts.found:
            _out.print(f"{day}  {counts.found}", highlight=False)
    if as_json:
        _print_json({"from": str(days[0]), "to": str(days[1]), "found": found, "known": known})
    else:
        _out.print(f"{found} ECGs, {known} of them here already.", highlight=False)


def _follow(steps: "Generator[Step]", as_json: bool) -> int:
    """Return the exit status of a back-fill, after showing how it went on.

    A bar on standard error where someone looks, with --json a line for each step.
    """
    from contextlib import closing

    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    bar = Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal)
    task = bar.add_task("", total=None, said="")
    document: dict[str, Any] = {}
    try:
        with bar, closing(steps):
            for step in steps:
                document = _step_document(step)
                done, total = step.counts.settled, step.counts.found
                said = step.said or f"study date {step.run.cursor}"
                bar.update(task, description=f"{done}/{total}", completed=done, total=total,
                           said=said)  # fmt: skip
                if as_json:
                    _print_json(document)
    except KeyboardInterrupt:
        raise Stop("Interrupted; go on with `sinusnode backfill --resume`.", REFUSED) from None
    if not as_json:
        _show_step(document, as_json)
    return REFUSED if document["failed"] or document["state"] != "DONE" else OK


def _show_step(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(document)
        return
    words = ("found", "arrived", "known", "failed", "skipped")
    _out.print("  ".join(f"{word} {document[word]}" for word in words), highlight=False)
    if document["failed"] and document["message"]:
        _err.print(document["message"], highlight=False, markup=False)
    if document["state"] == "PAUSED":
        _err.print("Paused; go on with `sinusnode backfill --resume`.", highlight=False)


def _step_document(step: "Step") -> dict[str, Any]:
    from dataclasses import asdict

    run = step.run
    return {
        "run": run.id,
        "source": run.order.source,
        "state": str(run.state),
        "archive_only": run.order.archive_only,
        "day": run.cursor,
        **asdict(step.counts),
        "message": step.said or run.message,
    }


@app.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """Say in sentences what is wrong with this installation, if anything is."""
    from dicom_node import logs
    from dicom_node.check import check as checked

    logs.silence_libraries()
    lines = checked(_settings(config))
    for ok, sentence in lines:
        if as_json:
            _print_json({"ok": ok, "message": sentence})
        else:
            _out.print(f"{'ok ' if ok else 'NOT'}  {sentence}", highlight=False)
    raise typer.Exit(OK if all(ok for ok, _ in lines) else REFUSED)


@app.command()
def settings(
    config: Config = None,
    as_json: Json = False,
    template: Annotated[
        bool, typer.Option("--template", help="A commented sinusnode.toml with the defaults.")
    ] = False,
    origin: Annotated[
        bool, typer.Option("--origin", help="Each value, and where it comes from.")
    ] = False,
) -> None:
    """Print the settings in force, or a commented file to start from."""
    from sqlalchemy.exc import SQLAlchemyError

    from dicom_node import live, operate

    if template:
        print(operate.template(), end="")  # noqa: T201 - data goes to stdout
        return
    stated = _settings(config)
    try:
        found, changes = live.in_force(stated)
    except SQLAlchemyError:
        _err.print("! The ledger cannot be read: what was changed there is not shown.")
        found, changes = stated, ()
    document = found.model_dump(mode="json")
    if origin:
        _show_origins(live.with_origins(found, changes), as_json)
    elif as_json:
        _print_json(document)
    else:
        _out.print_json(data=document)


def _show_origins(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print each value with where it comes from."""
    if not as_json:
        _out.print(_table(rows, ("key", "value", "origin")))
        return
    for row in rows:
        _print_json(row)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    return table


def _version(wanted: bool) -> None:
    if wanted:
        print(version("sinusnode"))  # noqa: T201 - data goes to stdout
        raise typer.Exit


@app.callback()
def _common(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of the command itself."""


def _add_commands() -> None:
    for point in entry_points(group="sinusnode.commands"):
        register: Callable[[typer.Typer], None] = point.load()
        register(app)


def main() -> None:
    """Run the command; the one place where the terminal is spared a traceback."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # processes share the cores, threads fight for them
    _add_commands()
    try:
        app()
    except Stop as stop:
        _err.print(stop.message, highlight=False, markup=False)
        sys.exit(stop.status)
    except KeyboardInterrupt:
        sys.exit(REFUSED)
    except Exception as error:  # noqa: BLE001 - a person is reading
        _err.print(_last_words(error), highlight=False)
        sys.exit(REFUSED)


def _last_words(error: Exception) -> str:
    from sqlalchemy.exc import SQLAlchemyError

    from dicom_node.ledger import SchemaMismatch

    if isinstance(error, SchemaMismatch):
        return f"The ledger cannot be used: {error}."
    if isinstance(error, SQLAlchemyError):
        return f"The ledger cannot be used ({type(error).__name__}); see `storage.database`."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return f"Sinusnode failed unexpectedly ({type(error).__name__}). Please report it."
