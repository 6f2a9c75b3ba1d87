"""Airflow connections as SQLAlchemy URLs."""

from __future__ import annotations

import pytest
from airflow.sdk import Connection

from evergreen.core.errors import SourceError
from evergreen.orchestration.connections import airflow_connection_url, url_of
from evergreen.wiring import connection_url


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (Connection(conn_id="w", conn_type="sqlite", host="/data/w.db"), "sqlite:////data/w.db"),
        (
            Connection(
                conn_id="w", conn_type="postgres", host="db", port=5432, login="u", password="p/w", schema="sales"
            ),
            "postgres://u:p%2Fw@db:5432/sales",
        ),
    ],
)
def test_a_connection_is_a_url(connection: Connection, url: str) -> None:
    assert url_of(connection) == url


def test_an_airflow_connection_is_found_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", "postgres://u@db/sales")
    assert connection_url("lake", airflow_connection_url) == "postgres://u@db/sales"
    monkeypatch.setenv("EVERGREEN_CONN_LAKE", "sqlite:////lake.db")
    assert connection_url("lake", airflow_connection_url) == "sqlite:////lake.db"


def test_a_connection_that_nobody_knows_is_named() -> None:
    with pytest.raises(SourceError, match="'nowhere'"):
        connection_url("nowhere", airflow_connection_url)
