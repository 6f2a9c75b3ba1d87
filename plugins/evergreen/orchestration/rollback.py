"""The DAG `rollback`: a form that ops start from the UI, and one task that does what `evergreen rollback` does."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from evergreen import wiring
from evergreen.core.errors import EvergreenError
from evergreen.orchestration.forms import form_dag, reason_field, who_asked
from evergreen.orchestration.run_notes import tell
from evergreen.steps.rehearse import golden_rows_pass
from evergreen.steps.roll_back import RolledBack, roll_back

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.catalog import Catalog

log = logging.getLogger(__name__)

ABOUT = """\
### Rollback

Makes an earlier version of a model answer again. **Trigger** opens the form.

It checks first that the version is whole and still gives the answers that it gave when it was trained; then it changes
the champion, and ends green once serving answers with the version. No request is lost. The same at a shell, also while
Airflow is down: `evergreen rollback <model> --reason …`.

The version that was champion does not come back: its data and settings are blocked, and the model is **held**: nothing
of it is released without a person, until `evergreen release-hold <model> --reason …`.

**A red run** says in its note why. Either nothing was changed, or the champion was changed and serving has not
followed: then see serving's `/v2/health/ready`. Clearing the task goes on with the same rollback; it never rolls back
twice.
"""


def build_rollback_dag(catalog: Catalog) -> DAG:
    """The DAG, whose form offers the models with a valid spec."""
    description = "Makes an earlier version of a model answer again, and holds the model"
    with form_dag("rollback", description, ABOUT, _form(sorted(catalog.specs))) as dag:
        _roll_back()
    return dag


def _form(models: list[str]) -> dict[str, Param]:
    choice: dict[str, Any] = {"enum": models} if models else {}
    return {
        "model": Param(type="string", title="Model", description="Which model to roll back.", **choice),
        "to_version": Param(
            None,
            type=["integer", "null"],
            minimum=1,
            title="To version",
            description="Empty: the version that was champion before this one. The Models page lists all.",
        ),
        "reason": reason_field("on the hold that keeps the version away"),
    }


def _roll_back() -> None:
    @task(task_id="roll_back", doc_md=ABOUT, retries=8, retry_delay=timedelta(seconds=5))
    def run_roll_back() -> str:
        context = get_current_context()
        try:
            done = _do(context)
        except EvergreenError as error:
            tell(context, str(error))
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from error
        tell(context, _told(done))
        return done.release.id

    run_roll_back()


def _do(context: Context) -> RolledBack:
    """Run the step under the run's id: a task that is run again is the same rollback."""
    settings, run, asked = wiring.Settings.load(), context["dag_run"], context["params"]
    client, store, slots = wiring.serving_client(), wiring.store(settings), wiring.slots(settings)
    return roll_back(
        asked["model"],
        wiring.ledger(settings),
        lambda: wiring.hasty_registry(settings),
        client,
        store,
        rehearse=lambda candidate: golden_rows_pass(slots, client, store, candidate),
        to=asked["to_version"],
        by=who_asked(context),
        reason=asked["reason"],
        act=run.run_id,
        now=datetime.now(UTC),
        tell=log.info,
    )


def _told(done: RolledBack) -> str:
    release = done.release
    what = f"{release.model}: rolled back from version {done.from_version} to version {release.version}"
    how = [str(done.serving)] if done.serving and done.serving.answers else []
    lift = f"held until `evergreen release-hold {release.model}`"
    return "; ".join([what, *how, *(f"warning: {warning}" for warning in done.warnings), lift])
