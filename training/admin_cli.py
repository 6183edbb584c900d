"""The commands `sinusnode admin` and `sinusnode schedule`."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from dicom_node.cli import REFUSED, USAGE, Config, Json, Stop, _settings

if TYPE_CHECKING:
    from dicom_node.settings import Role
    from training.admin.accounts import Accounts
    from training.admin.schedule import Schedules

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)
_MISSING = "The admin service needs {}: pip install 'sinusnode[admin]'."

admin = typer.Typer(help="The admin service: its API and pages, and who may use them.")
users = typer.Typer(no_args_is_help=True, help="People who sign in by password.")
keys = typer.Typer(no_args_is_help=True, help="API keys, for programs.")
schedule = typer.Typer(no_args_is_help=True, help="Plans that are run by themselves.")
admin.add_typer(users, name="user")
admin.add_typer(keys, name="key")

Roles = Annotated[
    list[str],
    typer.Option("--role", help="viewer, operator, reviewer, trainer or admin; or several."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `sinusnode`."""
    app.add_typer(admin, name="admin")
    app.add_typer(schedule, name="schedule")


@admin.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    attended: Annotated[bool, typer.Option("--attended", hidden=True)] = False,
    config: Config = None,
) -> None:
    """Serve the API and the pages until SIGTERM."""
    if context.invoked_subcommand is not None:
        return
    from dicom_node import companions, logs
    from dicom_node.settings import bracketed

    settings = _settings(config)
    logs.configure(settings.log)
    if attended:
        companions.attend()
    with _extra():
        from training.admin import app

    with _accounts(config) as accounts:
        key = accounts.first_key(time.time())
    scheme = "https" if settings.admin.certificate else "http"
    _err.print(
        f"The admin service: {scheme}://{bracketed(settings.admin.host)}:{settings.admin.port}/",
        highlight=False,
    )
    if key is not None:
        _err.print(
            "The first key, for the role admin, for one day, shown this once. Sign in with it and "
            f"make users:\n  {key}",
            highlight=False,
        )
    try:
        app.serve(settings)
    except app.CannotServe as error:
        raise Stop(f"The admin service cannot start: {error}.", REFUSED) from None


# People and keys


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="What the audit trail calls them.")],
    roles: Roles,
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)],
    config: Config = None,
) -> None:
    """Add somebody who signs in by password."""
    from dicom_node.ledger import Event

    with _accounts(config) as accounts:
        from training.admin.accounts import SHORTEST_PASSWORD, NameTaken

        if len(password) < SHORTEST_PASSWORD:
            raise Stop(f"A password has at least {SHORTEST_PASSWORD} characters.", USAGE)
        try:
            made = accounts.add_user(name, _roles(roles), time.time(), password=password)
        except NameTaken as error:
            raise Stop(str(error), REFUSED) from None
        accounts.ledger.record(Event(event="user-create", detail=_by(user=name)), time.time())
    _out.print(f"{made.name}: {' '.join(roles)}", highlight=False)


@users.command("list")
def list_users(config: Config = None, as_json: Json = False) -> None:
    """List everybody who may sign in."""
    with _accounts(config) as accounts:
        rows = [
            {
                "id": item.id,
                "name": item.name,
                "roles": sorted(item.roles),
                "active": item.active,
                "by_provider": item.by_provider,
            }
            for item in accounts.users()
        ]
    _show(rows, as_json)


@keys.command("add")
def add_key(
    label: Annotated[str, typer.Argument(help="What the audit trail calls it.")],
    roles: Roles,
    days: Annotated[int | None, typer.Option(min=1, max=365)] = None,
    config: Config = None,
) -> None:
    """Make a key and print it, this once."""
    from dicom_node.ledger import Event

    with _accounts(config) as accounts:
        made, text = accounts.add_key(label, _roles(roles), time.time(), days=days)
        detail = _by(key=made.prefix, roles=" ".join(roles))
        accounts.ledger.record(Event(event="key-create", detail=detail), time.time())
    print(text)  # noqa: T201 - data goes to stdout


@keys.command("list")
def list_keys(config: Config = None, as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    with _accounts(config) as accounts:
        rows = [
            {
                "prefix": item.prefix,
                "label": item.label,
                "roles": sorted(item.roles),
                "expires": _moment(item.expires_at),
                "revoked": _moment(item.revoked_at),
                "used": _moment(item.used_at),
            }
            for item in accounts.every_key()
        ]
    _show(rows, as_json)


@keys.command("revoke")
def revoke_key(
    prefix: Annotated[str, typer.Argument(help="As `key list` shows it.")], config: Config = None
) -> None:
    """Revoke a key, and end its sessions."""
    from dicom_node.ledger import Event

    with _accounts(config) as accounts:
        try:
            accounts.revoke(prefix, time.time())
        except LookupError as error:
            raise Stop(str(error), REFUSED) from None
        accounts.ledger.record(Event(event="key-revoke", detail=_by(key=prefix)), time.time())
    _out.print(f"{prefix}: revoked", highlight=False)


# The audit trail


@admin.command("audit")
def audit(
    after: Annotated[int, typer.Option(min=0, help="Only rows after this one.")] = 0,
    syslog: Annotated[
        bool, typer.Option("--syslog", help="With the header of a syslog message.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only say whether it is whole, and where it ends.")
    ] = False,
    known: Annotated[
        str | None, typer.Option(help="An end that the log said before; nothing may be gone since.")
    ] = None,
    config: Config = None,
) -> None:
    """Print the audit trail as DICOM audit messages, one on each line, the oldest first."""
    settings = _settings(config)
    with _accounts(config) as accounts:
        from training.admin import audit_messages

        if verify or known is not None:
            _verify(accounts, known)
            return
        form = audit_messages.syslog if syslog else audit_messages.message
        broken = list(accounts.ledger.broken_chain())
        for row in accounts.ledger.trail():
            if row["id"] > after:
                print(form(row, settings.dicom.ae_title))  # noqa: T201 - data goes to stdout
    if broken:
        raise Stop(f"The chain is broken: {broken[0]}.", REFUSED)


def _verify(accounts: "Accounts", known: str | None) -> None:
    from dicom_node.ledger import End

    try:
        noted = End.from_text(known) if known is not None else None
    except ValueError:
        raise Stop(
            "An end is a number of rows, a colon and a hash, as the log says it.", USAGE
        ) from None
    if broken := accounts.ledger.broken_chain(noted):
        raise Stop(f"The chain is broken: {broken[0]}.", REFUSED)
    _out.print(f"{accounts.ledger.end()}", highlight=False)


# Schedules


@schedule.command("list")
def list_schedules(config: Config = None, as_json: Json = False) -> None:
    """List the schedules, and when each comes due next."""
    with _schedules(config) as found:
        from training.admin.schedule import next_due

        rows = [
            {
                "id": item.id,
                "name": item.order.name,
                "cron": item.order.cron,
                "every": item.order.every,
                "new_labelled": item.order.new_labelled,
                "window": item.order.window,
                "active": item.order.active,
                "by": item.by,
                "next": _moment(next_due(item, time.time())),
            }
            for item in found.list()
        ]
    _show(rows, as_json)


@schedule.command("add")
def add_schedule(
    name: str,
    plan: Annotated[Path, typer.Argument(help="A plan, TOML or JSON.")],
    cron: Annotated[str | None, typer.Option(help="Local time, as in '30 2 * * mon'.")] = None,
    every: Annotated[float | None, typer.Option(help="Hours, instead.")] = None,
    new_labelled: Annotated[
        int | None, typer.Option(min=1, help="Only when so many recordings were labelled.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="In which a run may begin, as in 20:00-06:00.")
    ] = None,
    config: Config = None,
) -> None:
    """Keep a schedule; the admin service that runs makes its runs."""
    with _schedules(config) as found:
        from training.admin.schedule import NotASchedule, Order
        from training.plan import Plan

        try:
            order = Order(
                name=name,
                plan=Plan.load(plan).to_json(),
                cron=cron,
                every=None if every is None else every * 3600.0,
                new_labelled=new_labelled,
                window=window,
            )
            made = found.add(order, "the command line", time.time())
        except NotASchedule as error:
            raise Stop(str(error), USAGE) from None
        except ValueError as error:
            raise Stop(f"The plan cannot be used: {error}", REFUSED) from None
    _out.print(f"{made.id}: {name}", highlight=False)


@schedule.command("remove")
def remove_schedule(
    number: Annotated[int, typer.Argument(help="As `schedule list` shows it.")],
    config: Config = None,
) -> None:
    """Forget a schedule; its runs stay."""
    with _schedules(config) as found:
        try:
            found.remove(number)
        except LookupError as error:
            raise Stop(str(error), REFUSED) from None
    _out.print(f"{number}: removed", highlight=False)


# What the commands share


@contextmanager
def _extra() -> Iterator[None]:
    """Say in a sentence which package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Stop(_MISSING.format(error.name), USAGE) from None


@contextmanager
def _accounts(config: Path | None) -> "Iterator[Accounts]":
    from dicom_node.operate import opened

    settings = _settings(config)
    with _extra():
        from training.admin import tables
        from training.admin.accounts import Accounts
    with opened(settings) as ledger:
        tables.create(ledger)
        yield Accounts(ledger, settings.admin)


@contextmanager
def _schedules(config: Path | None) -> "Iterator[Schedules]":
    from dicom_node.operate import opened

    settings = _settings(config)
    with _extra():
        from training.admin import tables
        from training.admin.access import Office
        from training.admin.api.schedules import schedules_of
    with opened(settings) as ledger:
        tables.create(ledger)
        yield schedules_of(Office(settings=settings, ledger=ledger))


def _roles(names: list[str]) -> "list[Role]":
    from dicom_node.settings import Role

    try:
        return [Role(name) for name in names]
    except ValueError:
        raise Stop(f"A role is one of {', '.join(Role)}.", USAGE) from None


def _by(**words: str) -> str:
    return json.dumps({"by": "the command line", **words}, sort_keys=True)


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False), flush=True)  # noqa: T201 - data
        return
    if rows:
        table = Table(*(Column(name, overflow="fold") for name in rows[0]))
        for row in rows:
            table.add_row(*map(_cell, row.values()))
        _out.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(value) if isinstance(value, list) else str(value)
