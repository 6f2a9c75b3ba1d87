"""The DAG `rollback`: its form, in a fresh interpreter as Airflow's DAG processor reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spec_project import make_project, write_spec

REPO = Path(__file__).parents[2]
READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
dag = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["rollback"]))
found = []
for conf in json.loads(sys.argv[2]):
    try:
        found.append(dict(dag.params.deep_merge(conf).validate()))
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}".splitlines()[0])
params = {name: dag.params.get_param(name).schema for name in dag.params}
told = {"schedule": dag.timetable.summary, "tags": sorted(dag.tags), "tasks": list(dag.task_ids), "doc": dag.doc_md}
print(json.dumps({"params": params, "found": found, **told}))
"""
GOOD = {"model": "delay", "to_version": None, "reason": "false alarms"}


def read(root: Path, home: Path, *confs: dict[str, Any]) -> dict[str, Any]:
    """What the serialised DAG says, and what it makes of these configurations of a run."""
    shutil.copy(REPO / "dags" / "rollback.py", root / "dags")
    env = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins")}
    line = [sys.executable, "-c", READ, str(root / "dags"), json.dumps(confs)]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


def test_the_form_offers_the_valid_models_and_wants_a_reason(tmp_path: Path, home: Path) -> None:
    root = make_project(tmp_path, "delay", "airtime", "broken")
    write_spec(root, "broken", ("task:", "tsk:"))
    wrong = [{"model": "broken"}, {"reason": ""}, {"reason": "no"}, {"to_version": 0}, {"to_version": "2"}]
    found = read(root, home, GOOD, {**GOOD, "to_version": 3}, {}, *({**GOOD, **change} for change in wrong))
    assert found["params"]["model"]["enum"] == ["airtime", "delay"]
    assert found["found"][:2] == [GOOD, {**GOOD, "to_version": 3}]
    assert all(str(refused).startswith("ParamValidationError") for refused in found["found"][2:]), found["found"]
    assert found["tags"] == ["evergreen"]
    assert found["tasks"] == ["roll_back"]
    assert "release-hold" in found["doc"]


def test_without_a_valid_model_the_dag_still_loads(tmp_path: Path, home: Path) -> None:
    root = make_project(tmp_path)
    write_spec(root, "delay", ("task:", "tsk:"))
    assert "enum" not in read(root, home)["params"]["model"]
