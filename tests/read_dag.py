"""What a serialised DAG of dags/forms.py says, in a fresh interpreter as Airflow's DAG processor reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
dag = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[sys.argv[2]]))
found = []
for conf in json.loads(sys.argv[3]):
    try:
        found.append(dict(dag.params.deep_merge(conf).validate()))
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}".splitlines()[0])
params = {name: dag.params.get_param(name).schema for name in dag.params}
told = {"schedule": dag.timetable.summary, "tags": sorted(dag.tags), "tasks": list(dag.task_ids), "doc": dag.doc_md}
print(json.dumps({"params": params, "found": found, **told}))
"""


def read(root: Path, dag: str, *confs: dict[str, Any]) -> dict[str, Any]:
    """What the DAG says, and what it makes of these configurations of a run. Airflow's home is that of the tests."""
    shutil.copy(REPO / "dags" / "forms.py", root / "dags")
    env = {**os.environ, "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins")}
    line = [sys.executable, "-c", READ, str(root / "dags"), dag, json.dumps(confs)]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
