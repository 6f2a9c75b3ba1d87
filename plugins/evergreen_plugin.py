"""What Evergreen adds to Airflow itself: it hears of every failed run, also of one that a person marked failed."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Close what the run has left open. Called in the scheduler and in the API server."""
    try:
        from evergreen import wiring  # here, so that no process that forks tasks holds Evergreen from its start
        from evergreen.orchestration.closing import close_failed_run

        close_failed_run(wiring.ledger(wiring.Settings.load()), dag_run.dag_id, dag_run.run_id)
    except Exception:
        logging.getLogger(__name__).exception("The request of run %s could not be closed", dag_run.run_id)


class EvergreenPlugin(AirflowPlugin):
    """Registers the listener above."""

    name = "evergreen"
    listeners = [sys.modules[__name__]]  # noqa: RUF012  (as Airflow asks)
