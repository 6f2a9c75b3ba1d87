"""The DAG `hold`: a form that ops start from the UI, and one task that does what `evergreen hold` does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Param, get_current_context, task

from evergreen import wiring
from evergreen.core.holds import held, how_to_lift
from evergreen.core.records import FLEET
from evergreen.orchestration.forms import form_dag, reason_field, who_asked
from evergreen.orchestration.run_notes import tell

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.catalog import Catalog

HOLD, LIFT = "hold", "lift"
ABOUT = """\
### Hold

**Trigger** opens the form: hold a model, or all, or lift a hold.

While a model is held nothing of it is released without a person: runs that the schedule, new data or the API start are
skipped; what passes in a person's run waits for an approval. The champion goes on answering. A rollback holds its model
by itself.

A hold on all models and one on a model are lifted each by itself. The same at a shell: `evergreen hold`,
`evergreen release-hold`.
"""


def build_hold_dag(catalog: Catalog) -> DAG:
    """The DAG, whose form offers all models at once, and each that has a valid spec."""
    description = "Holds a model, or all, or lifts a hold"
    with form_dag("hold", description, ABOUT, _form(sorted(catalog.specs))) as dag:
        _hold()
    return dag


def _form(models: list[str]) -> dict[str, Param]:
    return {
        "act": Param(
            HOLD,
            type="string",
            enum=[HOLD, LIFT],
            values_display={HOLD: "hold", LIFT: "lift the hold"},
            title="What to do",
            description="Hold, or lift a hold. Doing it twice changes nothing.",
        ),
        "model": Param(
            type="string",
            enum=[*models, FLEET],
            values_display={FLEET: "all models"},
            title="Model",
            description="Which model, or all of them, also those that come later.",
        ),
        "reason": reason_field("where others see the hold"),
    }


def _hold() -> None:
    @task(task_id="hold", doc_md=ABOUT, retries=8, retry_delay=timedelta(seconds=5))
    def run_hold() -> str:
        context = get_current_context()
        told = hold_or_lift(context)
        tell(context, told)
        return told

    run_hold()


def hold_or_lift(context: Context) -> str:
    """What the form asked for, done; in words what became of it. A task that is run again changes nothing more."""
    ledger, asked = wiring.ledger(wiring.Settings.load()), context["params"]
    model, name = asked["model"], "all models" if asked["model"] == FLEET else asked["model"]
    about = {"by": who_asked(context), "reason": asked["reason"].strip(), "now": datetime.now(UTC)}
    if asked["act"] == HOLD:
        placed = ledger.holds.place(model, **about)
        return f"{name}: {held(placed)}; lifted by {how_to_lift(placed)}"
    lifted, still = ledger.holds.lift(model, **about), ledger.holds.applying(model)
    told = f"{name}: {'the hold is lifted' if lifted else 'was not held'}"
    return f"{told}; but {held(still)}" if still else told
