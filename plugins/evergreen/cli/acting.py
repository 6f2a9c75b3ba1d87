"""As whom a command acts in Airflow: in the compose shape as the environment says, else as a user of what runs here."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from evergreen import wiring
from evergreen.cli.screen import console, running_stack
from evergreen.core.errors import ServiceFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evergreen.adapters.airflow_api import AirflowApi

ENDED = frozenset({"success", "failed"})
UNDER_WAY = frozenset({"running", "queued", "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule"})
POLL = 1.0  # seconds
WithoutAirflow = Annotated[
    bool, typer.Option("--without-airflow", help="Compose: at once, in the ledger itself, asking for no role.")
]


@dataclass(frozen=True)
class Acting:
    """A signed-in user. `pages` is Airflow's address for people."""

    api: AirflowApi
    user: str
    pages: str

    def page_of(self, dag_id: str, run_id: str) -> str:
        """A run's page."""
        return f"{self.pages}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"


def compose_user() -> Acting | None:
    """Who EVERGREEN_AIRFLOW_USER is, in the compose shape; none where no Airflow is named: then it is embedded."""
    api = wiring.airflow_api()
    if api is None:
        return None
    pages = os.environ.get("AIRFLOW__API__BASE_URL") or os.environ["EVERGREEN_AIRFLOW_URL"]
    return Acting(api, os.environ["EVERGREEN_AIRFLOW_USER"], pages)


def embedded_user(settings: wiring.Settings, *, oncall: bool) -> Acting:
    """On-call, or the admin, of the stack that runs here. Raises ServiceFailed where none does."""
    stack = running_stack(settings)
    user, password = (stack.oncall, stack.oncall_password) if oncall else (stack.user, stack.password)
    return Acting(wiring.airflow(stack.airflow_url, user, password), user, stack.airflow_url)


def act(acting: Acting, dag_id: str, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Start a run of one of the DAGs that act at once, and wait: {"run_id", "state", "outcome"}.

    Raises ServiceFailed with what the run says where it does not succeed.
    """
    run_id = acting.api.trigger(dag_id, conf)
    state = follow(acting.api, dag_id, run_id)
    note = str(acting.api.run(dag_id, run_id).get("note") or "").split("\n\n")[0]
    if state != "success":
        raise ServiceFailed(f"{note or 'The run failed'}. See {acting.page_of(dag_id, run_id)}")
    return {"run_id": run_id, "state": state, "outcome": note}


def follow(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Wait until the run has ended; its state. The progress goes to stderr."""
    began = time.monotonic()
    with console(stderr=True).status("waiting for Airflow") as line:
        while (state := str(api.run(dag_id, run_id)["state"])) not in ENDED:
            now = [task for task, state in api.tasks(dag_id, run_id).items() if state in UNDER_WAY]
            line.update(f"{', '.join(now) or state} ({time.monotonic() - began:.0f} s)")
            time.sleep(POLL)
    return state
