"""The processes of the embedded shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from evergreen.supervisor.components import components, environment, new_stack
from evergreen.wiring import Settings

DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
API, WAITING = "api-server", ("scheduler", "dag-processor", "triggerer")


def test_who_waits_for_airflows_database_does_so_longer_than_its_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All use one file; that server may stand still until it gives up, and whoever gave up with it would end."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_PROJECT", str(tmp_path))
    stack, settings = new_stack(tmp_path), Settings.load()
    shared = environment(settings, stack)
    found = {
        one.name: make_url({**shared, **one.environment}[DATABASE])
        for one in components(stack, tmp_path)
        if one.name in (API, *WAITING)
    }
    assert {url.database for url in found.values()} == {str(tmp_path / "airflow" / "airflow.db")}
    assert {name: url.query["timeout"] for name, url in found.items()} == {API: "5", **dict.fromkeys(WAITING, "30")}
