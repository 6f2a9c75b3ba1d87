"""Connections: SQLite in WAL mode with immediate write transactions, or Postgres."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from evergreen.core.errors import FoundProblem

_BUSY_SECONDS = 10  # how long SQLite itself waits for a lock
_TRIES = 4  # how often a lock is asked for where SQLite gives up without waiting
_PAUSE_SECONDS = 0.05
# Seconds to connect, and milliseconds until data that nobody acknowledges counts as lost: a host that has gone
# without a word must not hold a caller for the quarter of an hour that the kernel would wait.
_PATIENCE = {"connect_timeout": 10, "tcp_user_timeout": 20_000}
_Result = TypeVar("_Result")


class LedgerRefused(FoundProblem):
    """Raised when a URL or a database cannot be the control ledger."""


class Database:
    """One ledger database. Every write is one short transaction."""

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._engine = _sqlite(parsed) if self.is_sqlite else _postgres(parsed)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the ledger."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds SQLite's write lock from its start; committed unless the block raises."""
        with retry_while_locked(self._begin) as connection:
            yield connection
            connection.commit()

    def _begin(self) -> Connection:
        connection = self._engine.connect().execution_options(evergreen_write=True)
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection


def insert_if_absent(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert the row unless one has a unique key of it; whether it was inserted."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(values).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def insert_or_replace(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows, each in place of the one that has its primary key; no two may have the same."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table)
    new = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new), rows)


def retry_while_locked(act: Callable[[], _Result]) -> _Result:
    """Do it again, a few times, while SQLite says that the database is locked."""
    for attempt in range(1, _TRIES + 1):
        try:
            return act()
        except (OperationalError, sqlite3.OperationalError) as error:
            if "locked" not in str(error) or attempt == _TRIES:
                raise
            time.sleep(_PAUSE_SECONDS * attempt)
    raise AssertionError("unreachable")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _refused("no database URL") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise _refused(f"a {parsed.get_backend_name()} URL")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise _refused("an SQLite URL without a file")
    return parsed.set(drivername="postgresql+psycopg2") if parsed.drivername == "postgresql" else parsed


def _refused(found: str) -> LedgerRefused:
    return LedgerRefused(
        "EVERGREEN_LEDGER_URL",
        found=found,
        allowed="sqlite:////folder/ledger.db, or postgresql+psycopg2://user:password@host/database",
        do="Set it to one of these, or unset it for an SQLite file in .evergreen/.",
    )


def _postgres(url: URL) -> Engine:
    return create_engine(url, pool_pre_ping=True, json_serializer=_to_json, connect_args=_PATIENCE)


def _sqlite(url: URL) -> Engine:
    _make_private_file(Path(str(url.database)))
    # No pool: a connection that a fork inherits must not be used, and opening one costs under 1 ms.
    engine = create_engine(url, poolclass=NullPool, json_serializer=_to_json, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin_transaction)
    return engine


# Strict JSON: Postgres refuses NaN, so SQLite must not take it either.
_to_json = partial(json.dumps, allow_nan=False)


def _make_private_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        # O_EXCL: opening and closing a file that is in use would drop this process's locks on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred, and late
    # The first switch to WAL may find the file locked without SQLite waiting for it.
    retry_while_locked(lambda: connection.execute("PRAGMA journal_mode=WAL"))
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_transaction(connection: Connection) -> None:
    writes = connection.get_execution_options().get("evergreen_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
