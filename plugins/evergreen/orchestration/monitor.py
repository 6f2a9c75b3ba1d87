"""The DAG `monitor`: one task that makes a pass of the monitor over all models whose turn it is.

An alert that opened or closed is an event of the asset `alerts of <model>`: DAGs of one's own can start from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    AssetOrTimeSchedule,
    AssetWatcher,
    CronTriggerTimetable,
    get_current_context,
    task,
)
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from evergreen import wiring
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import FoundProblem
from evergreen.core.watching import MONITOR, next_turn
from evergreen.orchestration.connections import airflow_connection_url
from evergreen.orchestration.own_thread import OwnThread
from evergreen.orchestration.pages import addresses
from evergreen.orchestration.passes import Specs
from evergreen.orchestration.run_notes import tell
from evergreen.steps.monitor import Labels, Outside, Report, Turns, monitor

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.ports import Ledger, Source
    from evergreen.core.records import Alert
    from evergreen.core.spec_monitoring import LabelSource

ALERTS = AssetAlias(name="alerts")
AT_LEAST = "*/10 * * * *"
LOOK = 5.0  # seconds between two looks at whose turn it is
PATIENCE = timedelta(minutes=5)  # for a run to begin, before another is asked for
NEVER = datetime.min.replace(tzinfo=UTC)
ABOUT = """\
### The monitor

Looks at what serving has logged since its last pass, at labels that have come since, and at the rules of every model
whose turn it is (`monitoring.every`): volume, errors, latency, missing and unseen values, drift, estimated and realised
quality, age. A rule that is broken for long enough opens an alert; a rule among a model's `triggers` also asks for a
retrain, whose run says which metric it was. `evergreen alerts` and the Models pages show what is open.

| the note says | do |
|---|---|
| could not be watched: a model | The message says why: a store or a ledger that does not answer is tried again by the next run. |
| nothing to do | No model's turn had come. |

A red run needs no clearing: the next one goes on where this one ended. While this DAG is paused, no metric is watched:
`evergreen status` says so, and people are told.
"""  # noqa: E501 -- a table
log = logging.getLogger(__name__)


def build_monitor_dag() -> DAG:
    """The DAG: run when a model's turn has come, and every ten minutes, whatever became of the triggerer."""
    turns = Asset(name="monitor", watchers=[AssetWatcher(name="monitor", trigger=MonitorTrigger())])
    with DAG(
        dag_id="monitor",
        description="Watches every model: drift, quality, volume; opens alerts and asks for retrains",
        doc_md=ABOUT,
        schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable(AT_LEAST, timezone="UTC"), assets=[turns]),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["evergreen"],
    ) as dag:

        @task(doc_md=ABOUT, outlets=[ALERTS], execution_timeout=timedelta(minutes=30))
        def watch() -> str:
            return _watch(get_current_context())

        watch()
    return dag


# ---------------------------------------------------------------- in the triggerer


class MonitorTrigger(BaseEventTrigger):
    """Fires when a model's turn has come, for ever, whatever fails. The pass itself is a task: it computes."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments: what makes two triggers the same."""
        return f"{__name__}.MonitorTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each pass that is due."""
        fired = NEVER
        with OwnThread(_NextTurn().look, log, "When to watch models cannot be told") as look:
            while True:
                next_turn, heard = await look() or (None, NEVER)
                now = datetime.now(UTC)
                if next_turn and next_turn <= now and (heard > fired or now - fired >= PATIENCE):
                    fired = now
                    yield TriggerEvent({"due": next_turn.isoformat()})
                await asyncio.sleep(LOOK)


class _NextTurn:
    """When the next model's turn comes, and when the monitor was last heard of. Blocking."""

    def __init__(self) -> None:
        self._settings = wiring.Settings.load()
        self._specs = Specs(self._settings.root)
        self._ledger: Ledger | None = None

    def look(self) -> tuple[datetime | None, datetime]:
        """Raises where the ledger is away."""
        self._ledger = self._ledger or wiring.ledger(self._settings)
        beat = self._ledger.heartbeats.last(MONITOR)
        return next_turn(self._specs.now(), beat), beat.at if beat else NEVER


# ---------------------------------------------------------------- the task


def _watch(context: Any) -> str:
    settings, began = wiring.Settings.load(), datetime.now(UTC)
    ledger = wiring.ledger(settings)
    report = monitor(ledger, _outside(settings), Turns(), lambda: datetime.now(UTC))
    for alert in _changed(ledger, began):
        context["outlet_events"][ALERTS].add(asset_of(alert), extra=facts_of(alert))
    for sentence in report.done:
        log.info("%s", sentence)
    note = _note(report)
    tell(context, note)
    if report.failures:
        raise FoundProblem(
            "the monitor",
            found="; ".join(map(str, report.failures.values())),
            allowed="every model can be watched",
            do="The documentation of this DAG says what to do.",
        )
    return note


def _outside(settings: wiring.Settings) -> Outside:
    return Outside(
        specs=load_catalog(settings.root, kept=settings.kept_specs).specs,
        store=wiring.store(settings),
        log=wiring.logged_parts(settings),
        addresses=addresses(),
        counters=wiring.serving_counters(),
        expected=_expected_losses,
        labels=Labels(_source_of_labels, wiring.part_writer()),
    )


def _source_of_labels(described: LabelSource) -> Source:
    return wiring.source(described.as_source, airflow_connection_url)


def _expected_losses(files: Mapping[str, bytes], rows: pl.DataFrame, prediction: np.ndarray) -> np.ndarray:
    """Trainer.expected_losses. Its libraries are loaded where a regression has new rows, not in every pass."""
    return wiring.trainer(pictures=False).expected_losses(files, rows, prediction)


def _changed(ledger: Ledger, began: datetime) -> list[Alert]:
    """Alerts that this pass has opened or closed."""
    recent = ledger.alerts.history(since=began)
    return [alert for alert in recent if max(alert.opened_at, alert.closed_at or alert.opened_at) >= began]


def asset_of(alert: Alert) -> Asset:
    """What DAGs of one's own name as their schedule: `Asset("alerts of flight-delay")`."""
    return Asset(name=f"alerts of {alert.model}")


def facts_of(alert: Alert) -> dict[str, Any]:
    """What such a DAG is told of the alert: the value by which it opened, or closed, and why it closed."""
    return {
        "alert": alert.id,
        "model": alert.model,
        "rule": alert.rule,
        "metric": alert.metric,
        "slice": alert.slice,
        "severity": str(alert.severity),
        "value": alert.closed_value if alert.closed_at else alert.value,
        "limit": alert.limit,
        "state": "closed" if alert.closed_at else "open",
        "why": alert.closed_why,
    }


def _note(report: Report) -> str:
    if not report.models and not report.failures:
        return "nothing to do: no model's turn had come"
    counted = f"models watched: {report.models}; new answers: {report.rows:,}; new labels: {report.labels:,}"
    return ". ".join([counted, *report.done, *(f"could not be watched: {one}" for one in report.failures.values())])
