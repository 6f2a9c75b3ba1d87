"""Brings the ledger's tables up to the newest revision. Alembic is imported only where there is work."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, column, select, table, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from evergreen.adapters.ledger.engine import Database
from evergreen.adapters.ledger.tables import HEAD, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x45564752  # any number that nobody else locks in this database
_ONE_THREAD = Lock()  # Alembic keeps the connection in a global, whichever ledger a thread opens


def upgrade(database: Database) -> None:
    """Upgrade to HEAD; where the tables are there already, one short read.

    One transaction under a lock, so that several processes can open an empty ledger at once and a
    killed one leaves nothing half done.
    """
    if _revision(database) == HEAD:
        return
    with _ONE_THREAD, database.write() as connection:
        if not database.is_sqlite:  # on SQLite the transaction itself is the lock
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        run_alembic(connection, HEAD)


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
        if VERSION_TABLE in str(error.orig):  # no such table: an empty database
            return None
        raise
