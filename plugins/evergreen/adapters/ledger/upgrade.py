"""Brings the ledger's tables up to the newest revision. Alembic is imported only where there is work."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, column, select, table, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from evergreen.adapters.ledger.engine import Database, LedgerRefused
from evergreen.adapters.ledger.tables import HEAD, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x45564752  # any number that nobody else locks in this database
_ONE_THREAD = Lock()  # Alembic keeps the connection in a global, whichever ledger a thread opens
_INSUFFICIENT_PRIVILEGE = "42501"  # Postgres


def upgrade(database: Database) -> None:
    """Upgrade to HEAD; where the tables are there already, one short read.

    One transaction under a lock, so that several processes can open an empty ledger at once and a
    killed one leaves nothing half done. Raises LedgerRefused where this user may not upgrade (serving's may not),
    where the program has no Alembic, and where a newer program has upgraded the ledger.
    """
    found = _revision(database)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise _not_ours(found, "Start a program of that version here: an older one could misread the ledger.")
    try:
        with _ONE_THREAD, database.write() as connection:
            if not database.is_sqlite:  # on SQLite the transaction itself is the lock
                _check_rights(connection, found)
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            run_alembic(connection, HEAD)
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise _not_ours(found, _RUN_INIT) from error
    except ModuleNotFoundError as error:  # the serving image has no Alembic
        raise _not_ours(found, _RUN_INIT) from error


_RUN_INIT = (
    "Run the init step as the ledger's owner (`make up` does; any `evergreen` command with the owner's "
    "EVERGREEN_LEDGER_URL does too). This program may not, or cannot, upgrade the ledger itself."
)


def _not_ours(found: str | None, do: str) -> LedgerRefused:
    revision = f"tables of revision {found}" if found else "no tables that this user may read"
    return LedgerRefused("the control ledger", found=revision, allowed=f"tables of revision {HEAD}", do=do)


def _check_rights(connection: Connection, found: str | None) -> None:
    """Before Alembic is imported: a program that may only read need not have it."""
    if not connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")):
        raise _not_ours(found, _RUN_INIT)


def run_alembic(connection: Connection, revision: str) -> None:
    """Upgrade within the connection's transaction; nothing happens where the revision is reached."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(database: Database) -> str | None:
    try:
        with database.read() as connection:
            return connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    except (OperationalError, ProgrammingError) as error:
        if VERSION_TABLE in str(error.orig):  # no such table: an empty database; or one that we may not read
            return None
        raise
