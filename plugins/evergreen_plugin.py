"""What Evergreen adds to Airflow itself: the Models pages, and an ear for every failed run, marked so by a person too.

Loaded by every component of Airflow, so Evergreen is imported where something is asked of it: no process that forks
tasks holds it from its start, and a fault in the pages cannot take the listener away.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

PAGES = "/evergreen"
log = logging.getLogger(__name__)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Close what the run has left open. Called in the scheduler and in the API server."""
    try:
        from evergreen import wiring
        from evergreen.orchestration.closing import close_failed_run

        close_failed_run(wiring.ledger(wiring.Settings.load()), dag_run.dag_id, dag_run.run_id)
    except Exception:
        log.exception("The request of run %s could not be closed", dag_run.run_id)


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The Models pages, an ASGI app that is built at its first request. Only the API server is ever asked."""
    await _built()(scope, receive, send)


@cache
def _built() -> Any:
    from evergreen import wiring
    from evergreen.ui.app import build_app
    from evergreen.ui.platform import Platform

    return build_app(Platform.of(wiring.Settings.load()))


class EvergreenPlugin(AirflowPlugin):
    """Registers the above. Addresses have no slash in front: they follow the path of `[api] base_url`."""

    name = "evergreen"
    listeners = [sys.modules[__name__]]  # noqa: RUF012  (as Airflow asks)
    fastapi_apps = [{"app": pages, "url_prefix": PAGES, "name": "Evergreen"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Models", "href": "evergreen/", "destination": "nav", "nav_top_level": True, "url_route": "models"},
        {"name": "Model", "href": "evergreen/models/{DAG_ID}", "destination": "dag", "url_route": "model"},
    ]
