"""What is a service that is away, and what is an error that comes again."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from evergreen.core.errors import EvergreenError
from evergreen.orchestration.outage import as_outage


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def raised(act: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever the library raises)
        act()
    return caught.value


def test_a_database_that_does_not_answer() -> None:
    engine = sa.create_engine(f"postgresql+psycopg2://u:p@127.0.0.1:{free_port()}/d")
    error = raised(engine.connect)
    outage = as_outage(error)
    assert outage is not None
    assert outage.retryable
    assert "OperationalError" in str(outage)
    assert len(str(outage).splitlines()) == 1


def test_an_mlflow_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    assert as_outage(raised(lambda: client.get_experiment_by_name("m"))) is not None


@pytest.mark.parametrize(("status", "away"), [(500, True), (503, True), (404, False), (400, False)])
def test_an_answer_of_mlflow(status: int, away: bool) -> None:
    from mlflow.exceptions import RestException

    codes = {500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE", 404: "NOT_FOUND", 400: "INVALID_PARAMETER_VALUE"}
    assert (as_outage(RestException({"error_code": codes[status], "message": "m"})) is not None) is away


class Told(Exception):
    """As psycopg2 raises it."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"code {code}")
        self.pgcode = code


@pytest.mark.parametrize(
    ("code", "away"),
    [(None, True), ("57P01", True), ("57P03", True), ("08006", True), ("53300", True), ("55P03", False)],
)
def test_what_postgres_says(code: str | None, away: bool) -> None:
    assert (as_outage(sa.exc.OperationalError("SELECT 1", {}, Told(code))) is not None) is away
    assert as_outage(sa.exc.ProgrammingError("SELECT 1", {}, Told(code))) is None


def test_what_led_to_an_error_counts() -> None:
    def wrap() -> None:
        try:
            raise ConnectionResetError("reset")
        except ConnectionResetError as cause:
            raise KeyError("wrapped") from cause

    assert as_outage(raised(wrap)) is not None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no number"),
        EvergreenError("bad data"),
        FileNotFoundError("part"),
        sa.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table: m")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_none(error: Exception) -> None:
    assert as_outage(error) is None
