"""The DAG `abort`: a form that ops start from the UI, and one task that does what `evergreen abort` does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from evergreen import wiring
from evergreen.core.errors import EvergreenError
from evergreen.orchestration.forms import form_dag, reason_field, who_asked
from evergreen.orchestration.run_notes import tell
from evergreen.steps.abort import abort, told_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.catalog import Catalog

ABOUT = """\
### Abort

Ends a release that has not gone live: one that is prepared, and one that is on trial. **Trigger** opens the form.

The champion answers all callers from then on, and the version is declined: it is not trained again from the same data,
spec and code.
A version that waits for approval is refused on its approval page instead; one that is live is taken back with the DAG
`rollback`. The same at a shell: `evergreen abort <model> --reason …`.

**A red run** says in its note why: no release of the model is on its way, and nothing was changed.
"""


def build_abort_dag(catalog: Catalog) -> DAG:
    """The DAG, whose form offers the models with a valid spec."""
    description = "Ends a release that has not gone live"
    with form_dag("abort", description, ABOUT, _form(sorted(catalog.specs))) as dag:
        _abort()
    return dag


def _form(models: list[str]) -> dict[str, Param]:
    choice: dict[str, Any] = {"enum": models} if models else {}
    return {
        "model": Param(type="string", title="Model", description="Whose release to end.", **choice),
        "reason": reason_field("on the run that made the version"),
    }


def _abort() -> None:
    @task(task_id="abort", doc_md=ABOUT, retries=8, retry_delay=timedelta(seconds=5))
    def run_abort() -> str:
        context = get_current_context()
        try:
            told = abort_release(context)
        except EvergreenError as error:
            tell(context, str(error))
            raise AirflowFailException(str(error)) from error
        tell(context, told)
        return told

    run_abort()


def abort_release(context: Context) -> str:
    """What the form asked for, done; in words what became of it."""
    ledger, asked = wiring.ledger(wiring.Settings.load()), context["params"]
    ended = abort(ledger, asked["model"], by=who_asked(context), reason=asked["reason"], now=datetime.now(UTC))
    return told_of(ended)
