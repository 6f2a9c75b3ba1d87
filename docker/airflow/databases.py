"""The databases of the stack, each with a user of its own that may connect to nothing else.

Made where they are missing, and put right where they are there: a run that was killed half-way is no trouble, and a
password that was changed in .env becomes the user's.
"""

from __future__ import annotations

import os
from contextlib import closing

from psycopg2 import connect
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection
from psycopg2.sql import SQL, Identifier, Literal

OWNED = {
    "airflow": "AIRFLOW_DB_PASSWORD",
    "mlflow": "MLFLOW_DB_PASSWORD",
    "evergreen": "EVERGREEN_DB_PASSWORD",
    "warehouse": "WAREHOUSE_DB_PASSWORD",
}
SERVING = "evergreen_serving"  # reads the ledger, and writes its heartbeat and what it sees of releases on trial
SERVING_RIGHTS = (
    "USAGE ON SCHEMA public",
    "SELECT ON ALL TABLES IN SCHEMA public",
    "INSERT, UPDATE ON replica, arm_count",
    "INSERT ON trip",
)


def make_databases() -> None:
    """Users and databases, as the superuser."""
    with closing(_superuser("postgres")) as server:
        for name, variable in OWNED.items():
            _user(server, name, os.environ[variable])
            _database(server, name)
        _user(server, SERVING, os.environ["SERVING_DB_PASSWORD"])
        _do(server, "GRANT CONNECT ON DATABASE evergreen TO {}", SERVING)


def grant_serving() -> None:
    """What the slots may do in the ledger, whose tables must be there."""
    with closing(_superuser("evergreen")) as ledger:
        for right in SERVING_RIGHTS:
            _do(ledger, f"GRANT {right} TO {{}}", SERVING)


def _superuser(database: str) -> connection:
    opened = connect(host="postgres", user="postgres", password=os.environ["POSTGRES_PASSWORD"], dbname=database)
    opened.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)  # CREATE DATABASE knows no transaction
    return opened


def _user(server: connection, name: str, password: str) -> None:
    if not _there(server, "SELECT 1 FROM pg_roles WHERE rolname = %s", name):
        _do(server, "CREATE ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE", name)
    with server.cursor() as cursor:
        cursor.execute(SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(Identifier(name), Literal(password)))


def _database(server: connection, name: str) -> None:
    if not _there(server, "SELECT 1 FROM pg_database WHERE datname = %s", name):
        _do(server, "CREATE DATABASE {0} OWNER {0}", name)
    _do(server, "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", name)


def _there(server: connection, query: str, name: str) -> bool:
    with server.cursor() as cursor:
        cursor.execute(query, (name,))
        return cursor.fetchone() is not None


def _do(server: connection, statement: str, name: str) -> None:
    with server.cursor() as cursor:
        cursor.execute(SQL(statement).format(Identifier(name)))
