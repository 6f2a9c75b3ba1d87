"""Twenty models are asked to retrain at once on the stack in containers: each is served once, and answers.

Eighteen are one owner's, who may have four runs at work at a time; two are another's, who need not wait for them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import polars as pl
import pytest
import sqlalchemy as sa
import yaml

from airflow_world import SUITE
from compose_stack import ROOT, ComposeStack
from evergreen.adapters.airflow_api import AirflowApi
from training_data import SPEC, make_rows

MODELS = [f"twenty-{at:02}" for at in range(20)]
MANY, FEW = MODELS[:18], MODELS[18:]
TABLE = "twenty"
PATIENCE = 900.0  # seconds; on two processors a retrain takes ten, and rehearsals go one by one


@pytest.fixture(scope="module")
def api(stack: ComposeStack) -> AirflowApi:
    return AirflowApi(stack.airflow_url, "admin", stack.env["EVERGREEN_ADMIN_PASSWORD"])


@pytest.fixture(scope="module")
def models(stack: ComposeStack, api: AirflowApi) -> Iterator[None]:
    """In this checkout's `models/`, which the containers read, for the time of the test; and rows in the warehouse."""
    _fill(stack)
    suite = ROOT / "expectations" / f"{TABLE}.json"
    try:
        suite.write_text(json.dumps({**SUITE, "name": TABLE}))
        for name in MODELS:
            (ROOT / "models" / name).mkdir()
            (ROOT / "models" / name / "model.yaml").write_text(yaml.safe_dump(_spec(name)))
        _within(300, lambda: set(MODELS) <= set(api.dags()) or None)
        yield
    finally:
        for name in MODELS:
            shutil.rmtree(ROOT / "models" / name, ignore_errors=True)
        suite.unlink(missing_ok=True)


def _spec(name: str) -> dict[str, Any]:
    return {
        **SPEC,
        "name": name,
        "owner": "few@example.com" if name in FEW else "many@example.com",
        "source": {**SPEC["source"], "table": TABLE},
        "validation": {"suite": TABLE},
        "approval": {"mode": "auto"},
        "limits": {"owner": 4},
    }


def _fill(stack: ComposeStack) -> None:
    secret, address = stack.env["WAREHOUSE_DB_PASSWORD"], stack.address("postgres")
    engine = sa.create_engine(f"postgresql+psycopg2://warehouse:{secret}@{address}/warehouse")
    rows = make_rows().select("id", "at", "x", "carrier", "count", "y")
    columns = "id TEXT PRIMARY KEY, at TIMESTAMPTZ, x FLOAT8, carrier TEXT, count BIGINT, y BIGINT"
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {TABLE}"))
        connection.execute(sa.text(f"CREATE TABLE {TABLE} ({columns})"))
        insert = sa.text(f"INSERT INTO {TABLE} VALUES (:id, :at, :x, :carrier, :count, :y)")
        connection.execute(insert, rows.with_columns(pl.col("x").fill_nan(None)).to_dicts())
    engine.dispose()


def test_twenty_models_retrain_at_once_and_nothing_is_lost(stack: ComposeStack, api: AirflowApi, models: None) -> None:
    with ThreadPoolExecutor(8) as threads:
        runs = dict(zip(MODELS, threads.map(api.trigger, MODELS), strict=True))
    served = _within(PATIENCE, lambda: _served(stack))
    for name, run_id in runs.items():
        (request,) = served[name]
        assert request["state"] == "served", request
        assert request["reason"].startswith("released version 1"), request
        assert request["first_run"] == run_id
        assert _version(stack, name) == "1"
    last_of_few = max(served[name][0]["closed_at"] for name in FEW)
    before = [name for name in MANY if served[name][0]["closed_at"] < last_of_few]
    assert len(before) < len(MANY), "the two waited for all eighteen"
    for one in stack.containers().values():
        assert not one["State"]["OOMKilled"], one["Name"]


def _served(stack: ComposeStack) -> dict[str, list[dict[str, Any]]] | None:
    """All requests of each model, once none is under way."""
    columns = "model, state, reason, first_run, closed_at"
    ask = f"SELECT json_agg(t) FROM (SELECT {columns} FROM trigger_request WHERE model LIKE 'twenty-%') t"
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in MODELS}
    for one in json.loads(stack.sql(ask, "evergreen") or "[]"):
        found[one["model"]].append(one)
    ended = all(requests and all(one["closed_at"] for one in requests) for requests in found.values())
    return found if ended else None


def _version(stack: ComposeStack, model: str) -> str:
    """Which version answers, once one does."""
    url, token = f"{stack.serving_url}/models/{model}/predict", stack.env["EVERGREEN_SERVING_TOKEN"]
    record = {"x": 0.5, "carrier": "AA", "count": 3}

    def ask() -> str | None:
        try:
            answer = httpx.post(
                url, json={"records": [record]}, headers={"Authorization": f"Bearer {token}"}, timeout=10
            )
        except httpx.HTTPError:
            return None
        return str(answer.json()["version"]) if answer.is_success else None

    return _within(60, ask)


def _within(seconds: float, look: Any) -> Any:
    """What `look` finds, asked again until then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(1)
    raise AssertionError(f"not within {seconds:.0f} s")
