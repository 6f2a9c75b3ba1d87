"""Reads a dags folder as Airflow's DAG processor does, in a fresh interpreter, and prints what it found as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HEAVY = ("great_expectations", "mlflow", "xgboost", "pandas", "polars", "pyarrow", "sklearn", "matplotlib", "alembic")


def parse(root: Path, home: Path, **environment: str) -> dict[str, Any]:
    """Import errors, DAGs and heavy libraries after reading `root/dags`."""
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(Path(__file__).parents[2] / "plugins"),
        **environment,
    }
    command = [sys.executable, __file__, str(root / "dags")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(folder: str) -> None:
    """Print one line of JSON."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(folder)
    dags = {
        dag.dag_id: {
            "tasks": [task.task_id for task in dag.topological_sort()],
            "docs": [bool(task.doc_md) for task in dag.tasks],
            "upstream": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
            "doc": dag.doc_md,
            "catchup": dag.catchup,
            "hash": SerializedDagModel.hash(DagSerialization.to_dict(dag)),  # another one is a new DAG version
        }
        for dag in bag.dags.values()
    }
    errors = {Path(file).name: text for file, text in bag.import_errors.items()}
    print(json.dumps({"errors": errors, "dags": dags, "heavy": [name for name in HEAVY if name in sys.modules]}))


if __name__ == "__main__":
    main(sys.argv[1])
