"""DAGs that ops start from a form in the UI: what all of them have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

if TYPE_CHECKING:
    from airflow.sdk import Context

NOBODY = "somebody whom Airflow does not name"


def form_dag(dag_id: str, description: str, about: str, params: dict[str, Param]) -> DAG:
    """A DAG that has no schedule: **Trigger** opens its form."""
    return DAG(
        dag_id=dag_id,
        description=description,
        doc_md=about,
        schedule=None,
        catchup=False,
        is_paused_upon_creation=False,
        params=params,
        tags=["evergreen"],
    )


def reason_field(where: str) -> Param:
    """The field for why; `where` says in which places the reason will stand."""
    described = f"Why, in a sentence. It stands in the history, and {where}."
    return Param(type="string", minLength=3, title="Reason", description=described)


def who_asked(context: Context) -> str:
    """The user who started the run."""
    run: Any = context["dag_run"]
    return run.triggering_user_name or NOBODY
