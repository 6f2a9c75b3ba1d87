"""The monitor in a real Airflow: what callers send moves, or labels say that answers are wrong; a new version mends it.

Both stories are told at once, each of a model and a
table of its own: callers are answered, rows are logged, a pass of the monitor finds the metric beyond its limit, asks
for a retrain, and closes its alert once the new version answers well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest

from airflow_world import PATIENCE, World, land, within
from asking import command
from evergreen.core.records import Alert, Cause, RequestState
from evergreen.core.watching import MONITOR, watched_at
from training_data import AS_OF, SPEC, make_rows

SENSOR, CONCEPT = "sensor", "concept"  # of the one the inputs move, of the other what follows from them
DRIFT, LOSS, LABELLED = "drift.psi.x", "quality.realised_loss.auc", "labels.fraction"
TOLD = "told"  # the table that holds labels of the one: id is the key of a request, y its label, at when it was written
ROWS = 300  # of a request: as many as a rule looks at
LABELS = {"connection": SPEC["source"]["connection"], "table": TOLD, "key": "id", "label": "y", "told_at": "at"}
MODELS: dict[str, dict[str, Any]] = {
    name: {
        "source": {**SPEC["source"], "table": name},
        "triggers": [{"metric": {"name": metric, "above": limit, "for": passes}}],
        "monitoring": {"every": "2s", "window": "2h", "min_rows": ROWS, **more},
        "approval": {"mode": "auto"},
        "cooldown": "1s",
    }
    for name, metric, limit, passes, more in (
        (SENSOR, DRIFT, 0.2, 2, {"labels": LABELS, "alerts": [{"name": LABELLED, "above": 0, "severity": "info"}]}),
        (CONCEPT, LOSS, 0.1, 1, {"alerts": [{"name": LABELLED, "below": 0.5, "severity": "info"}]}),
    )
}
REACTS = '''
"""An Airflow DAG of somebody's own, which reacts to alerts."""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset

with DAG("reacts", schedule=Asset("alerts of sensor"), is_paused_upon_creation=False):
    EmptyOperator(task_id="react")
'''


@pytest.fixture(scope="module")
def world(embedded: World) -> World:
    (embedded.settings.root / "dags" / "reacts.py").write_text(REACTS)
    for table in MODELS:
        land(embedded.warehouse, make_rows(), table)
    land(embedded.warehouse, _label_of("nobody-asked-this"), TOLD)
    embedded.declare(MODELS)
    within(PATIENCE, lambda: "reacts" in embedded.api.dags() or None)
    return embedded


@pytest.fixture(scope="module")
def stories(world: World) -> Iterator[dict[str, Future[None]]]:
    with ThreadPoolExecutor(2) as pool:
        first = {model: world.api.trigger(model) for model in MODELS}
        for model, run_id in first.items():
            assert world.finished(model, run_id)["state"] == "success"
            world.answers_with(model, 1)
        yield {SENSOR: pool.submit(inputs_move, world.again()), CONCEPT: pool.submit(labels_come_late, world.again())}


def test_a_drift_of_what_callers_send_is_mended_by_a_new_version(stories: dict[str, Future[None]]) -> None:
    stories[SENSOR].result()


def test_answers_that_late_labels_tell_to_be_wrong_are_mended_by_a_new_version(
    stories: dict[str, Future[None]],
) -> None:
    stories[CONCEPT].result()


def test_each_alert_is_an_event_that_dags_of_ones_own_start_from(
    world: World, stories: dict[str, Future[None]]
) -> None:
    stories[SENSOR].result()
    opened, over = within(PATIENCE, lambda: _events_with_runs(world, SENSOR))
    (alert,) = alerts(world, SENSOR, DRIFT)
    assert (opened["state"], over["state"]) == ("open", "closed")
    assert opened["alert"] == over["alert"] == alert.id
    assert (opened["metric"], opened["value"], over["value"]) == (DRIFT, alert.value, alert.closed_value)
    assert over["why"] == alert.closed_why


def test_labels_are_read_from_a_source(world: World, stories: dict[str, Future[None]]) -> None:
    stories[SENSOR].result()
    assert alerts(world, SENSOR, LABELLED) == [], "of no answer is the label known yet"
    ask(world, SENSOR, _callers().head(1), key="order-4711")
    land(world.warehouse, _label_of("order-4711"), TOLD)
    (alert,) = within(PATIENCE, lambda: alerts(world, SENSOR, LABELLED) or None)
    assert alert.version == 2
    assert 0 < alert.value < 0.01, "one of the hundreds"


def _label_of(key: str) -> pl.DataFrame:
    """A row of the table of labels, as written now."""
    return _callers().head(1).with_columns(id=pl.lit(key), at=pl.lit(datetime.now(UTC)))


def test_status_tells_of_a_monitor_that_is_silent_and_of_no_other(
    world: World, stories: dict[str, Future[None]]
) -> None:
    for story in stories.values():
        story.result()
    beat = world.ledger.heartbeats.last(MONITOR)
    assert watched_at(beat).keys() >= MODELS.keys()
    assert "monitor" not in command(world, "status").stdout
    world.api._ask("PATCH", "dags/monitor", {"is_paused": True})
    at_work = "dags/monitor/dagRuns/~/taskInstances?state=running&state=queued"
    within(PATIENCE, lambda: not world.api._ask("GET", at_work)["task_instances"] or None)
    world.ledger.heartbeats.beat(MONITOR, beat.detail, datetime.now(UTC) - timedelta(minutes=11))
    assert "Nothing heard from the monitor since" in command(world, "status").stdout


def inputs_move(world: World) -> None:
    """A sensor was changed: its numbers lie elsewhere, in what callers send and in the data that has landed since."""
    world.land(_new_data(pl.col("x") + 3), SENSOR)
    ask(world, SENSOR, _callers().with_columns(pl.col("x") + 3))
    mended(world, SENSOR, DRIFT)
    ask(world, SENSOR, _callers().with_columns(pl.col("x") + 3))
    closed(world, SENSOR, DRIFT)


def labels_come_late(world: World) -> None:
    """The inputs are as ever, and mean the opposite: no one can know before the labels are there."""
    world.land(_new_data(y=1 - pl.col("y")), CONCEPT)
    rows = _callers().with_columns(y=1 - pl.col("y"))
    ids = ask(world, CONCEPT, rows)
    within(PATIENCE, lambda: [a for a in world.ledger.alerts.history(CONCEPT) if a.metric == LABELLED] or None)
    assert alerts(world, CONCEPT, LOSS) == [], "no label is there yet"
    tell(world, CONCEPT, ids, rows)
    mended(world, CONCEPT, LOSS)
    tell(world, CONCEPT, ask(world, CONCEPT, rows), rows)
    closed(world, CONCEPT, LOSS)


def mended(world: World, model: str, metric: str) -> None:
    """The alert opens and asks for a retrain, whose run names the metric, and whose version answers."""
    request = world.ended(model, Cause.METRIC, RequestState.SERVED)
    assert request.reason.startswith("released version 2")
    (alert,) = alerts(world, model, metric)
    assert (alert.version, alert.request_id, alert.closed_at) == (1, request.id, None)
    note = world.finished(model, request.run_id)["note"]
    assert f"Caused by: metric {metric} is {alert.value:.6g}, above {alert.limit:g}, over 2h and" in note
    world.answers_with(model, 2)


def closed(world: World, model: str, metric: str) -> None:
    """The alert closes, and its record says that the metric recovered; no second retrain was asked for."""
    within(PATIENCE, lambda: [a for a in alerts(world, model, metric) if a.closed_at] or None)
    (alert,) = alerts(world, model, metric)
    assert "with version 2, which it asked for" in alert.closed_why
    assert alert.closed_value is not None
    assert alert.closed_value < alert.limit < alert.worst
    assert len([r for r in world.ledger.requests.latest(model, limit=9) if r.cause is Cause.METRIC]) == 1


def alerts(world: World, model: str, metric: str) -> list[Alert]:
    """All that there were, of this metric."""
    return [alert for alert in world.ledger.alerts.history(model) if alert.metric == metric]


def _events_with_runs(world: World, model: str) -> list[dict[str, Any]] | None:
    """What the two events of the model's alert say, once each has started a run of `reacts`."""
    found = world.api._ask("GET", "assets/events?source_dag_id=monitor&order_by=timestamp")["asset_events"]
    ours = [event for event in found if event["name"] == f"alerts of {model}"]
    started = [run["dag_id"] for event in ours for run in event["created_dagruns"]]
    return [event["extra"] for event in ours] if started == ["reacts", "reacts"] else None


# ---------------------------------------------------------------- callers, and the data


def _new_data(*changes: pl.Expr, **named: pl.Expr) -> pl.DataFrame:
    """Rows after those that version 1 saw: more than the whole window that the next one is trained on."""
    rows = make_rows(700, until=AS_OF + timedelta(hours=700), seed=2).with_columns(*changes, **named)
    return rows.with_columns(id=pl.format("new-{}", "id"))


def _callers() -> pl.DataFrame:
    return make_rows(ROWS, seed=3)


def ask(world: World, model: str, rows: pl.DataFrame, key: str = "") -> list[str]:
    """One request with these rows, and with this key if any; their inference ids."""
    columns = {name: rows[name].to_list() for name in SPEC["features"]["columns"]}
    url, headers = f"{world.stack.serving_url}/models/{model}/predict", {"x-request-key": key} if key else {}
    answer = httpx.post(url, json={"columns": columns}, headers=headers, timeout=10)
    return list(answer.raise_for_status().json()["inference_ids"])


def tell(world: World, model: str, ids: Sequence[str], rows: pl.DataFrame) -> None:
    """What was true, once it is known."""
    at = datetime.now(UTC).isoformat()
    records = [{"inference_id": one, "label": y, "at": at} for one, y in zip(ids, rows["y"], strict=True)]
    url = f"{world.stack.serving_url}/models/{model}/ground-truth"
    httpx.post(url, json={"records": records}, timeout=10).raise_for_status()
