"""The DAG `housekeeping`: each night it removes old records of Airflow, old task logs, and what the store may lose."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, task
from airflow.sdk.configuration import conf

from evergreen import wiring
from evergreen.core.catalog import load_catalog, without_a_valid_spec
from evergreen.core.errors import FoundProblem
from evergreen.orchestration.old_logs import remove_old
from evergreen.steps.housekeep import housekeep

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

NIGHTLY = "30 4 * * *"  # UTC
RETRIES: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(minutes=2)}
DATABASE = "EVERGREEN_AIRFLOW_DB_URL"
# Not `trigger`: Airflow removes unused ones itself, and one that watches a source may be old. Not `dag`: history.
TABLES = (
    "asset_event", "callback", "dag_run", "dag_version", "deadline", "import_error", "job", "log", "revoked_token",
    "task_instance", "task_instance_history", "task_reschedule", "xcom",
)  # fmt: skip
ABOUT = """\
### Housekeeping

Removes what is no longer needed, each night at 04:30 UTC, and says in each task's log how much it was:

- **airflow_records**: Airflow's own records of runs, tasks and events older than `EVERGREEN_KEEP_DAYS` (30), by
  `airflow db clean`; never of a run that may still wait for its approval. The control ledger keeps the history.
- **task_logs**: log files that were last written before that.
- **store**: bundles, snapshots, evidence and rows set aside, as `retention` in each `model.yaml` says, and old
  values of metrics (two years of what rules look at and of all quality are kept). It never touches what the live or the
  previous release needs, an open question, a run at work, a model that is held, or anything younger than a day.

**A red task** may be cleared at any time: all three can be repeated.
"""

log = logging.getLogger(__name__)


def build_housekeeping_dag() -> DAG:
    """The DAG: three tasks that do not depend on each other."""
    with DAG(
        dag_id="housekeeping",
        description="Removes old records, logs, and files of the store that no release needs",
        doc_md=ABOUT,
        schedule=NIGHTLY,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["evergreen"],
    ) as dag:
        for step in (_airflow_records, _task_logs, _store):
            task(task_id=step.__name__.lstrip("_"), doc_md=ABOUT, **RETRIES)(step)()
    return dag


def _airflow_records() -> None:
    settings = wiring.Settings.load()
    specs = load_catalog(settings.root).specs.values()
    clean_records(keep_since(settings.keep_days, specs, datetime.now(UTC)), os.environ)


def _task_logs() -> None:
    settings, now = wiring.Settings.load(), datetime.now(UTC)
    folder = Path(conf.get("logging", "base_log_folder"))
    log.info("Removed %s", remove_old(folder, before=now - timedelta(days=settings.keep_days), now=now))


def _store() -> None:
    settings = wiring.Settings.load()
    specs = load_catalog(settings.root).specs
    done = housekeep(
        wiring.ledger(settings),
        wiring.store(settings),
        {name: spec.retention for name, spec in specs.items()},
        now=datetime.now(UTC),
        watched={name: {rule.name for rule in spec.rules} for name, spec in specs.items()},
        recalls={name: spec.recall.versions for name, spec in specs.items() if spec.recall},
        leave=without_a_valid_spec(settings.root, specs),
    )
    log.info("Removed: %s", done)


def keep_since(days: int, specs: Iterable[ModelSpec], now: datetime) -> datetime:
    """From when on Airflow's records are kept: a run may have to wait for its approval for longer than `days`."""
    longest = max((spec.approval.timeout for spec in specs), default=timedelta(0))
    return now - max(timedelta(days=days), longest + timedelta(days=1))


def clean_records(before: datetime, environment: Mapping[str, str]) -> None:
    """Run `airflow db clean`. Raises FoundProblem where nobody says which database, CalledProcessError if it fails."""
    command = [sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat()]
    command += ["--tables", ",".join(TABLES), "--skip-archive", "--error-on-cleanup-failure", "--yes"]
    done = subprocess.run(
        command,
        env=with_database(environment),
        stdin=subprocess.DEVNULL,  # a task's own is its line to Airflow
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log.info("%s\n%s", " ".join(command[3:]), done.stdout)
    done.check_returncode()


def with_database(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that may open Airflow's database, which Airflow hides from tasks."""
    url = environment.get(DATABASE)
    if not url:
        raise FoundProblem(
            DATABASE,
            found="nothing",
            allowed="the URL of Airflow's database, as in AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
            do="Set it where the scheduler is started. Airflow hides its own setting from tasks.",
        )
    hidden = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
    kept = {name: value for name, value in environment.items() if not name.startswith(("_", *hidden))}
    return {**kept, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
