"""The DAG `roll_pool` of the compose shape: a form, and one task that takes a serving pool to its other colour.

`make roll` makes the other colour's container from the new image and starts a run; the run's note is its progress.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from evergreen import wiring
from evergreen.core.errors import EvergreenError, FoundProblem
from evergreen.core.pool_roll import POOL
from evergreen.orchestration.forms import form_dag, reason_field, who_asked
from evergreen.orchestration.run_notes import tell
from evergreen.steps.roll_pool import Outside, Patience, Rolled, roll_pool

if TYPE_CHECKING:
    from airflow.sdk import Context

ABOUT = """\
### Roll of a serving pool

Takes the pool to its other colour: starts it beside the one that answers, waits until it is ready and answers the
golden rows of every live release, sends callers to it, drains and stops the other one. No request is lost. What goes
wrong is undone by itself: the colour before answers, the new one is stopped, and the run is red and says why.

For a new image use **`make roll`** on the host: it builds the image, makes the stopped colour's container from it, and
starts a run of this DAG. **Trigger** here takes the pool to what the stopped colour was made from before: after a
roll, that is the image before it, so this is the way back.

Clearing a red run rolls once more. A run that was broken off is gone on with by its next try, or by another run.
"""


def roll_dag() -> DAG | None:
    """The DAG where EVERGREEN_EDGE_URL names an edge; none where serving does not run in slots."""
    return build_roll_dag() if os.environ.get("EVERGREEN_EDGE_URL") else None


def build_roll_dag() -> DAG:
    """The DAG: a form with pool, reason and patience."""
    description = "Takes a serving pool to its other colour, start-first, with a way back"
    with form_dag("roll_pool", description, ABOUT, _form()) as dag:
        _roll_pool()
    dag.max_active_runs = 1
    return dag


def _form() -> dict[str, Param]:
    return {
        "pool": Param(POOL, type="string", enum=[POOL], title="Pool", description="Which serving pool."),
        "reason": reason_field("in `make status`"),
        "ready_within": Param(
            int(Patience.ready),
            type="integer",
            minimum=5,
            maximum=3600,
            title="Ready within",
            description="Seconds in which the other colour must be ready; many models take longer.",
        ),
    }


def _roll_pool() -> None:
    @task(task_id="roll_pool", doc_md=ABOUT, retries=8, retry_delay=timedelta(seconds=5))
    def run_roll_pool() -> str:
        context = get_current_context()
        try:
            done = roll(context)
        except EvergreenError as error:
            tell(context, str(error))
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from error
        told = f"rolled from {done.before} to {done.active}, image revision {done.revision}"
        tell(context, told)
        return told

    run_roll_pool()


def roll(context: Context) -> Rolled:
    """What the form asked for. A task that is run again goes on with the same roll."""
    settings, run, asked = wiring.Settings.load(), context["dag_run"], context["params"]
    edge = wiring.edge(settings)
    if edge is None:
        raise FoundProblem(
            "EVERGREEN_EDGE_URL",
            found="none",
            allowed="the runtime API of the edge",
            do="Only the compose shape has a pool to roll; in the embedded one, `evergreen down` and `evergreen up`.",
        )
    outside = Outside(wiring.slot_containers(settings), edge, wiring.serving_client(), wiring.store(settings))
    return roll_pool(
        wiring.ledger(settings),
        outside,
        by=who_asked(context),
        reason=asked["reason"].strip(),
        act=run.run_id,
        since=run.start_date,
        pool=asked["pool"],
        patience=Patience(ready=asked["ready_within"]),
        tell=lambda told: tell(context, told),
    )
