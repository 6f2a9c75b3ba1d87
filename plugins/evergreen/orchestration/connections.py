"""Airflow connections as SQLAlchemy URLs."""

from __future__ import annotations

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException


def airflow_connection_url(name: str) -> str | None:
    """The URL of an Airflow connection, none where there is no such connection."""
    try:
        return url_of(BaseHook.get_connection(name))
    except AirflowNotFoundException:
        return None


async def airflow_connection_url_async(name: str) -> str | None:
    """The same from an event loop, as a trigger needs it."""
    try:
        return url_of(await BaseHook.aget_connection(name))
    except AirflowNotFoundException:
        return None


def url_of(connection: Connection) -> str:
    """Connection type, host, port, login, password and schema as a URL; a SQLite file stands in `host`."""
    if connection.conn_type == "sqlite":
        return f"sqlite:///{connection.host}"
    return connection.get_uri()
