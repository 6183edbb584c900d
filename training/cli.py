"""The commands of `training`: they join `sinusnode` through the entry points of the package.

Everything heavy is imported where a command needs it, so that the node's commands start as fast
with this package as without.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dicom_node.cli import (
    _DATE,
    OK,
    REFUSED,
    UNREACHABLE,
    USAGE,
    Config,
    Json,
    Leads,
    Rate,
    Stop,
    Unit,
    _days,
    _settings,
)
from training import admin_cli, study_cli
from training.model_cli import models
from training.run_cli import evaluate, train

if TYPE_CHECKING:
    from analysis.formats.content import Stated
    from dicom_node.archive import Archive
    from training.corpus import Corpus
    from training.importing import Outcome
    from training.label_maps import LabelMap
    from training.labels import LabelTable, Origin, Rows

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)
_LARGEST_REPORT = 16 * 2**20  # bytes
_SHOWN = 20
"""Refusals and problems that are printed one by one where no --json is asked for."""

corpora = typer.Typer(no_args_is_help=True, help="The recordings that models learn from.")
labels = typer.Typer(no_args_is_help=True, help="What is known of the recordings.")

CorpusFolder = Annotated[Path, typer.Option("--corpus", help="Folder of the corpus.")]
_CORPUS = Path("sinusnode-data/corpus")
Site = Annotated[str | None, typer.Option(help="Coarse code of the site.")]
Processes = Annotated[int | None, typer.Option(min=1, help="By default one for each processor.")]
Origins = Annotated[
    list[str] | None, typer.Option("--origin", help="over-read, reviewer, vendor or code.")
]
Map = Annotated[
    Path | None, typer.Option("--map", help="Your own words: a CSV of scheme, code, key.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `sinusnode`."""
    app.add_typer(corpora, name="corpus")
    app.add_typer(labels, name="labels")
    app.add_typer(models, name="models")
    admin_cli.register(app)
    app.add_typer(train, name="train")
    app.command()(evaluate)
    study_cli.register(app)


# The corpus


@corpora.command("import")
def import_(
    sources: Annotated[list[Path], typer.Argument(help="Folders of ECG files, or data sets.")],
    corpus: CorpusFolder = _CORPUS,
    archive: Annotated[bool, typer.Option("--archive", help="They are a node's archive.")] = False,
    site: Site = None,
    rate: Rate = None,
    unit: Unit = None,
    leads: Leads = None,
    processes: Processes = None,
    as_json: Json = False,
) -> None:
    """Import ECGs of any encoding; the known public databases bring their labels along."""
    from dicom_node.offline import Unusable
    from training.corpus import Corpus
    from training.importing import counts

    folders = [folder for source in sources for folder in _folders(source, site)]
    into = Corpus.create(corpus)
    outcomes = []
    stated = _stated(rate, unit, leads)
    try:
        for folder in folders:
            for outcome in _importing(into, folder, archive, site, stated, processes):
                outcomes.append(outcome)
                if as_json:
                    _print_json({"kind": "file", **asdict(outcome), "file": str(outcome.file)})
    except Unusable as error:
        raise Stop(str(error), REFUSED) from None
    summary = counts(outcomes)
    if as_json:
        _print_json({"kind": "counts", **summary})
    else:
        _show_import(outcomes, summary)
    raise typer.Exit(REFUSED if summary["refused"] or not summary["files"] else OK)


def _folders(source: Path, site: str | None) -> list[Path]:
    """Return the folders to import one by one: the known databases below a folder of them."""
    from training.databases import DATABASES

    if not source.is_dir():
        raise Stop(f"{source} is no folder.", USAGE)
    below = [source / name for name in DATABASES if (source / name).is_dir()]
    return below if below and site is None else [source]


def _importing(
    corpus: "Corpus",
    folder: Path,
    archive: bool,
    site: str | None,
    stated: "Stated",
    processes: int | None,
) -> "Iterator[Outcome]":
    from training import databases, importing

    ways = {"processes": processes, "track": _track(folder.name)}
    if archive:
        return importing.import_archive(corpus, folder, **ways)
    items = databases.items(folder) if site is None else None
    if items is not None:
        return importing.import_items(corpus, list(items), folder, **ways)
    return importing.import_folder(corpus, folder, site=site or "here", stated=stated, **ways)


def _show_import(outcomes: "Sequence[Outcome]", summary: dict[str, Any]) -> None:
    odd = [item for item in outcomes if item.reason]
    for item in odd[:_SHOWN]:
        _out.print(f"{item.file}: {item.reason}: {item.message}", highlight=False, markup=False)
    if len(odd) > _SHOWN:
        _out.print(f"… and {len(odd) - _SHOWN} more; --json lists all.", highlight=False)
    words = ("stored", "duplicate", "known", "skipped", "refused")
    _out.print("  ".join(f"{word} {summary[word]}" for word in words), highlight=False)


@corpora.command("report")
def report_(
    corpus: CorpusFolder = _CORPUS,
    origin: Origins = None,
    as_json: Json = False,
) -> None:
    """Say what a corpus holds, and what a model could learn from it by mistake."""
    from training.corpus_report import describe, report

    opened = _corpus(corpus)
    table = opened.labels.select(origins=_origins(origin)) if origin else None
    found = report(opened, table)
    if as_json:
        _print_json(found.to_mapping())
    else:
        _out.print(describe(found), highlight=False, markup=False)


@corpora.command()
def withdraw(
    patients: Annotated[list[str] | None, typer.Argument(help="Pseudonyms.")] = None,
    patient_id: Annotated[
        list[str] | None, typer.Option(help="Patient IDs instead, as files or tables state them.")
    ] = None,
    site: Annotated[str, typer.Option(help="Where these IDs were given.")] = "here",
    issuer: Annotated[str, typer.Option(help="Issuer of the IDs, for --archive.")] = "",
    archive: Annotated[
        Path | None, typer.Option(help="The node's archive: its recordings go too.")
    ] = None,
    corpus: CorpusFolder = _CORPUS,
    as_json: Json = False,
) -> None:
    """Remove patients: recordings, labels, caches, embeddings, splits; and mark the models."""
    opened = _corpus(corpus)
    names = [*(patients or ())]
    names += [opened.pseudonyms("patient", site, item) for item in patient_id or ()]
    archived = 0
    if archive is not None:
        more, archived = _withdraw_archived(archive, names, patient_id or [], issuer)
        names += more
    if not names:
        raise Stop("Name pseudonyms, or --patient-id.", USAGE)
    done = [asdict(opened.withdraw(name)) for name in names]
    removed = sum(item["recordings"] for item in done)
    if as_json:
        for item in done:
            _print_json(item)
    else:
        models = sorted({model for item in done for model in item["models"]})
        _out.print(f"{removed} recordings of the corpus, {archived} of the archive removed.")
        for model in models:
            _out.print(f"The model {model} learned from them: train it anew.", highlight=False)
    raise typer.Exit(OK if removed or archived else REFUSED)


def _withdraw_archived(
    folder: Path, names: list[str], patient_ids: list[str], issuer: str
) -> tuple[list[str], int]:
    """Return the pseudonyms that a node's archive gave to Patient IDs, and how many files went."""
    from pydicom.dataset import Dataset

    from dicom_node.pipeline import patient_key

    kept = _archive(folder)
    more = []
    for item in patient_ids:
        source = Dataset()
        source.PatientID, source.IssuerOfPatientID = item, issuer
        more.append(kept.pseudonyms("patient", patient_key(source) or ""))
    try:
        return more, sum(kept.withdraw(name) for name in [*names, *more])
    except ValueError as error:
        raise Stop(f"No such patient: {error}.", USAGE) from None


# Labels


@labels.command("import")
def import_labels(
    files: Annotated[list[Path], typer.Argument(help="CSV tables, or verified reports (SR).")],
    corpus: CorpusFolder = _CORPUS,
    origin: Annotated[str, typer.Option(help="Where a table does not say it.")] = "reviewer",
    author: Annotated[str, typer.Option(help="Where a table does not say it.")] = "",
    site: Site = None,
    own_map: Map = None,
    archive: Annotated[
        Path | None, typer.Option(help="The node's archive, for reports on what came from there.")
    ] = None,
    ai_visible: Annotated[
        bool, typer.Option("--ai-visible", help="The authors could see AI results.")
    ] = False,
    exclusive: Annotated[
        bool | None,
        typer.Option(
            "--exclusive/--several",
            help="One class for each file; by default in ExChanGeAI's form alone.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import labels: `file_name,label,ICD-10`, a richer table, or reports that were signed."""
    from training.labels import Reading, read_csv
    from training.over_reads import read_over_reads

    opened = _corpus(corpus)
    words = _map(own_map)
    (said,) = _origins([origin])
    reading = Reading(
        resolve=opened.resolver(site),
        origin=said,
        author=author,
        ai_visible=ai_visible,
        exclusive=exclusive,
        map=words,
    )
    tables = [file for file in files if file.suffix.lower() in {".csv", ".tsv", ".txt"}]
    reports = [file for file in files if file not in tables]
    found = []
    try:
        found += [(str(file), read_csv(file, reading)) for file in tables]
    except ValueError as error:
        raise Stop(f"{error}.", REFUSED) from None
    if reports:
        kept = _archive(archive).pseudonyms if archive else None
        signed = read_over_reads(reports, opened, words=words, archive=kept)
        found.append((f"{len(reports)} reports", signed))
    taken = [_take(opened, name, rows, as_json) for name, rows in found]
    raise typer.Exit(OK if all(taken) else REFUSED)


@labels.command("fetch")
def fetch_labels(
    source: Annotated[str | None, typer.Argument(help="A DICOMweb source of the settings.")] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DATE, help="First study date.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=_DATE, help="Last one; by default today.")
    ] = None,
    corpus: CorpusFolder = _CORPUS,
    own_map: Map = None,
    archive: Annotated[
        Path | None, typer.Option(help="The node's archive, for reports on what came from there.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fetch over-reads from the PACS: reports beside the ECGs that a physician signed."""
    from dicom_node.dicomweb import Client
    from dicom_node.link import Unreachable
    from dicom_node.retrieve import Stopped, source_named
    from dicom_node.settings import WebSource
    from training.over_reads import find_reports, read_reports

    opened, words, days = _corpus(corpus), _map(own_map), _days(first, last)
    settings = _settings(config)
    try:
        chosen = source_named(settings, source)
    except Stopped as error:
        raise Stop(str(error), REFUSED) from None
    if not isinstance(chosen, WebSource):
        raise Stop(f"{chosen.name} sends reports by C-MOVE alone: name one with a url.", REFUSED)
    keys = _archive(archive).pseudonyms if archive else None
    with closing(Client(chosen)) as client:
        found = chain.from_iterable(
            find_reports(client, f"{days[0] + timedelta(number):%Y%m%d}", _LARGEST_REPORT)
            for number in range((days[1] - days[0]).days + 1)
        )
        try:
            rows = read_reports(found, opened, words=words, archive=keys)
        except Unreachable as error:
            raise Stop(f"{error}.", UNREACHABLE) from None
    _take(opened, chosen.name, rows, as_json)


def _take(corpus: "Corpus", name: str, rows: "Rows", as_json: bool) -> bool:
    """Store what a table holds, say what, and return whether every row of it counts."""
    from training.labels import TAKEN

    new = corpus.add_labels(rows.labels)
    corpus.regroup(rows.patients)
    counts = {str(fault): count for fault, count in rows.counts.items()}
    summary = {"file": name, "rows": rows.rows, "labels": len(rows.labels), "new": new}
    if as_json:
        sentences = [problem.sentence for problem in rows.problems]
        _print_json({**summary, "problems": counts, "sentences": sentences})
    else:
        for problem in rows.problems[:_SHOWN]:
            _out.print(problem.sentence, highlight=False, markup=False)
        if len(rows.problems) > _SHOWN:
            _out.print(f"… and {len(rows.problems) - _SHOWN} more; --json lists all.")
        line = "  ".join(f"{key} {value}" for key, value in {**summary, **counts}.items())
        _out.print(line, highlight=False, markup=False)
    return rows.counts.keys() <= TAKEN


@labels.command("map")
def map_(
    words: Annotated[list[str] | None, typer.Argument(help="By default the whole table.")] = None,
    scheme: Annotated[
        str | None, typer.Option("--from", help="SCT, MDC, SCP, ICD10, AHA or NAME.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="A scheme, for its codes.")] = None,
    own_map: Map = None,
    as_json: Json = False,
) -> None:
    """Say what words of other lists mean here, and what the findings are called there."""
    found = _map(own_map)
    for named in (scheme, to):
        _check_scheme(named)
    rows = [(word, _meant(found, word, scheme)) for word in words or ()]
    if not words:
        listed = [row for row in found.rows if scheme is None or row[0] == scheme.upper()]
        rows = [(f"{row[0]} {row[1]}", (row[2],)) for row in listed]
    for word, keys in rows:
        codes = {key: found.codes(key, to.upper()) for key in keys} if to else {}
        if as_json:
            _print_json({"word": word, "keys": keys, "codes": codes})
        else:
            meant = [f"{key} {' '.join(codes.get(key, ()))}".strip() for key in keys]
            _out.print(f"{word}: {', '.join(meant) or 'nothing known'}", highlight=False)
    raise typer.Exit(OK if all(keys for _, keys in rows) else REFUSED)


def _meant(words: "LabelMap", word: str, scheme: str | None) -> tuple[str, ...]:
    return words.keys(scheme.upper(), word) if scheme else words.keys_of_word(word)


def _check_scheme(scheme: str | None) -> None:
    from training.label_maps import SCHEMES

    if scheme is not None and scheme.upper() not in SCHEMES:
        raise Stop(f"{scheme} is none of {', '.join(SCHEMES)}.", USAGE)


@labels.command("report")
def report_labels(
    corpus: CorpusFolder = _CORPUS, origin: Origins = None, as_json: Json = False
) -> None:
    """Count each label: present, absent, unknown, contradictory, and who says so."""
    from training.corpus_report import label_counts

    opened = _corpus(corpus)
    table = _table(opened, origin)
    counts = [asdict(item) for item in label_counts(opened.records, table)]
    for item in counts:
        if as_json:
            _print_json(item)
        else:
            numbers = "  ".join(
                f"{word} {item[word]}" for word in ("present", "absent", "unknown", "contradictory")
            )
            _out.print(f"{item['key']}: {numbers}", highlight=False, markup=False)
    raise typer.Exit(OK if counts else REFUSED)


@labels.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="The CSV to write, in the richer form.")],
    corpus: CorpusFolder = _CORPUS,
    origin: Origins = None,
    as_json: Json = False,
) -> None:
    """Write the labels as a table, with record ids and pseudonyms alone."""
    from training.labels import write_csv

    opened = _corpus(corpus)
    table = _table(opened, origin)
    write_csv(out, table.labels, {record.id: record.patient for record in opened.records})
    if as_json:
        _print_json({"file": str(out), "labels": len(table.labels)})
    else:
        _out.print(f"{len(table.labels)} labels written.", highlight=False)


# What the commands share


def _corpus(folder: Path) -> "Corpus":
    from training.corpus import Corpus

    try:
        return Corpus(folder)
    except FileNotFoundError as error:
        raise Stop(f"{str(error)[:1].upper()}{str(error)[1:]}.", REFUSED) from None


def _archive(folder: Path) -> "Archive":
    """Return a node's archive, whose key lies beside it."""
    from dicom_node.archive import KEY, Archive, Pseudonyms

    key = folder.parent / KEY
    if not key.is_file():
        raise Stop(f"The archive's key {key} is not there.", REFUSED)
    try:
        return Archive(folder=folder, pseudonyms=Pseudonyms.of(key), site="")
    except (OSError, ValueError) as error:
        raise Stop(f"The archive's key cannot be used: {error}.", REFUSED) from None


def _table(corpus: "Corpus", origins: list[str] | None) -> "LabelTable":
    table = corpus.labels
    return table.select(origins=_origins(origins)) if origins else table


def _origins(names: Sequence[str]) -> "tuple[Origin, ...]":
    from training.labels import Origin

    try:
        return tuple(map(Origin, names))
    except ValueError:
        raise Stop(f"An origin is one of {', '.join(Origin)}; AI is none.", USAGE) from None


def _map(own: Path | None) -> "LabelMap":
    from training.label_maps import read_map, standard_map

    try:
        return standard_map().with_rows(read_map(own)) if own else standard_map()
    except ValueError as error:
        raise Stop(f"The map cannot be used: {error}.", REFUSED) from None


def _stated(rate: float | None, unit: str | None, leads: str | None) -> "Stated":
    from analysis.formats.content import Stated

    names = tuple(name.strip() for name in leads.split(",")) if leads else None
    return Stated(sampling_frequency=rate, unit=unit, leads=names)


def _track(title: str) -> Any:
    """Return what shows a bar on standard error, where that is a terminal."""
    from rich.progress import track

    def tracked(items: Iterable[Any], total: int) -> Iterable[Any]:
        hidden = not _err.is_terminal
        return track(items, title, total, console=_err, transient=True, disable=hidden)

    return tracked


def _print_json(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False), flush=True)  # noqa: T201 - data goes to stdout
