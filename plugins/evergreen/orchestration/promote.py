"""The DAG `promote`: a form that approvers start from the UI, and one task that does what `evergreen promote` does."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from evergreen import wiring
from evergreen.core.errors import EvergreenError, FoundProblem
from evergreen.orchestration.forms import form_dag, reason_field, who_asked
from evergreen.orchestration.run_notes import tell
from evergreen.steps.promote import promote, told_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.catalog import Catalog

ABOUT = """\
### Promote

Makes a version that is on trial champion **now**, without waiting until the trial's stages are over. **Trigger** opens
the form. Needs the right to answer approvals (role Approver).

What would roll the version back cannot be promoted over: a guard's trip, a limit of `rollback_if` that it does not
keep, a hold since it was let through, another champion. The same at a shell: `evergreen promote <model> --reason …`.

**A red run** says in its note why, and nothing was changed.
"""


def build_promote_dag(catalog: Catalog) -> DAG:
    """The DAG, whose form offers the models with a valid spec."""
    description = "Makes a version on trial champion at once"
    with form_dag("promote", description, ABOUT, _form(sorted(catalog.specs))) as dag:
        _promote()
    return dag


def _form(models: list[str]) -> dict[str, Param]:
    choice: dict[str, Any] = {"enum": models} if models else {}
    return {
        "model": Param(type="string", title="Model", description="Whose version on trial to promote.", **choice),
        "reason": reason_field("on the run that made the version"),
    }


def _promote() -> None:
    @task(task_id="promote", doc_md=ABOUT, retries=8, retry_delay=timedelta(seconds=5))
    def run_promote() -> str:
        context = get_current_context()
        try:
            told = promote_release(context)
        except EvergreenError as error:
            tell(context, str(error))
            raise AirflowFailException(str(error)) from error
        tell(context, told)
        return told

    run_promote()


def promote_release(context: Context) -> str:
    """What the form asked for, done; in words what became of it. The platform's own account promotes nothing."""
    ledger, asked, by = wiring.ledger(wiring.Settings.load()), context["params"], who_asked(context)
    if by == os.environ.get("EVERGREEN_AIRFLOW_USER"):
        raise FoundProblem(
            f"promote of {asked['model']}",
            found=f"{by}, the platform's own account",
            allowed="a person",
            do="Start the DAG as yourself: set EVERGREEN_AIRFLOW_USER and EVERGREEN_AIRFLOW_PASSWORD.",
        )
    return told_of(promote(ledger, asked["model"], by=by, reason=asked["reason"], now=datetime.now(UTC)))
