"""One DAG for each valid model spec."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, AssetOrTimeSchedule, MultipleCronTriggerTimetable, get_parsing_context
from airflow.sdk.definitions.param import ParamsDict

from evergreen.core.errors import SpecError
from evergreen.orchestration.descriptions import describe
from evergreen.orchestration.run_fields import run_fields
from evergreen.orchestration.tasks import seven_tasks

if TYPE_CHECKING:
    from evergreen.core.catalog import Catalog
    from evergreen.core.spec import ModelSpec

ACTIVE_RUNS = 3  # of one model; the lease lets one at a time work, an approval may wait meanwhile


def wanted() -> str | None:
    """The one model whose task is about to run in this process; none while all DAGs are being read."""
    return get_parsing_context().dag_id


def build_dags(catalog: Catalog) -> list[DAG]:
    """The DAG of each valid spec, or only that of the task that is about to run."""
    only = wanted()
    return [build_dag(spec) for name, spec in catalog.specs.items() if only in (None, name)]


def refuse(catalog: Catalog) -> None:
    """Raise one SpecError that names every bad spec, so that the UI shows it as an import error."""
    from evergreen.core.catalog import render

    if catalog.problems:
        raise SpecError(render(catalog.problems))


def build_dag(spec: ModelSpec) -> DAG:
    """The DAG of one model: its seven tasks, started as `triggers` says, by the API and by hand."""
    with DAG(
        dag_id=spec.name,
        description=f"Keeps {spec.name} fresh ({spec.task})",
        doc_md=describe(spec),
        schedule=schedule_of(spec),
        catchup=False,
        max_active_runs=ACTIVE_RUNS,
        is_paused_upon_creation=False,
        # Of many runs at once those go on first that have come furthest: else all would hold data and lease for hours.
        default_args={"owner": spec.owner, "weight_rule": "upstream"},
        tags=["evergreen", str(spec.task), f"source:{spec.source.place}", f"pool:{spec.serving.pool}"],
    ) as dag:
        seven_tasks(spec)
    # Once the tasks are there: each would be given a copy of its own, which a run merges with the DAG's anyway.
    dag.params = ParamsDict(run_fields())
    return dag


def schedule_of(spec: ModelSpec) -> Any:
    """Cron lines (UTC), the source's asset, both or none."""
    lines = _cron(spec.schedule) if spec.schedule else None
    if spec.new_data is None:
        return lines
    from evergreen.orchestration.watchers import asset_of

    asset = asset_of(spec.source)
    return AssetOrTimeSchedule(timetable=lines, assets=[asset]) if lines else [asset]


def _cron(lines: list[str]) -> MultipleCronTriggerTimetable:
    """From its next time on: a model that is new runs when it is asked, not for a time that went by before it came.

    Airflow takes False for "if the last time is not long ago", a tenth of the way to the next.
    """
    return MultipleCronTriggerTimetable(*lines, timezone="UTC", run_immediately=timedelta(0))
