"""The database behind one URL, and how its two kinds of transaction are made of plain functions.

A room of the ledger is a module of functions whose first argument is an open connection;
:func:`reads` and :func:`writes` make of each a method that opens the transaction it needs.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from dicom_node.ledger import chain
from dicom_node.ledger.schema import SCHEMA_VERSION, meta, metadata

P = ParamSpec("P")
T = TypeVar("T")


class SchemaMismatch(RuntimeError):
    """Another version of Sinusnode wrote this ledger; nothing was changed."""


class Database:
    """The database behind one URL; safe for threads, opened anew in each process.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, hide_parameters=True)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        self._reader = self._engine.execution_options(reading=True)
        self._relaxed = self._engine.execution_options(relaxed=True)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def create(self) -> None:
        """Create what is missing.

        Raises
        ------
        SchemaMismatch
            If another schema version wrote the ledger.
        """
        metadata.create_all(self._engine)
        with self.transaction() as connection:
            found = connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema"))
            if found is None:
                connection.execute(meta.insert().values(key="schema", value=str(SCHEMA_VERSION)))
            elif int(found) != SCHEMA_VERSION:
                raise SchemaMismatch(
                    f"the ledger has schema {found}, this version needs {SCHEMA_VERSION}"
                )
            chain.begin(connection)

    @contextmanager
    def transaction(self, *, relaxed: bool = False) -> Iterator[Connection]:
        """Yield a transaction that writes.

        A relaxed one survives a crash and may be lost in a power cut, for what would then be
        done again with the same outcome; a later strict one makes it durable too.
        """
        with (self._relaxed if relaxed else self._engine).begin() as connection:
            if relaxed and connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that only reads, and so waits for nobody."""
        with self._reader.connect() as connection:
            yield connection

    def query(self, statement: sa.Executable) -> list[tuple[Any, ...]]:
        """Return the rows of a read-only question (metrics ask some)."""
        with self.reading() as connection:
            return [tuple(row) for row in connection.execute(statement)]


def reads(ask: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[Database, P], T]:
    """Return a method that asks a question."""

    @functools.wraps(ask)
    def method(database: Database, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with database.reading() as connection:
            return ask(connection, *args, **kwargs)

    return method


def writes(
    change: Callable[Concatenate[Connection, P], T], *, relaxed: bool = False
) -> Callable[Concatenate[Database, P], T]:
    """Return a method that makes a change, whole or not at all (see `Database.transaction`)."""

    @functools.wraps(change)
    def method(database: Database, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with database.transaction(relaxed=relaxed) as connection:
            return change(connection, *args, **kwargs)

    return method


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "busy_timeout=30000",  # first: even asking for the journal mode waits for a lock
        "journal_mode=WAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a deferred one could fail half-way through."""
    options = connection.get_execution_options()
    if options.get("reading"):
        connection.exec_driver_sql("BEGIN")
        return
    level = "NORMAL" if options.get("relaxed") else "FULL"
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
