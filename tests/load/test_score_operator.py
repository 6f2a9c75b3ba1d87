"""The operator that scores tables: in the documented DAG, and run as Airflow runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.bundles import CARRIERS, release

from evergreen import wiring
from evergreen.core.ports import Ledger

DOCS = Path(__file__).parents[2] / "docs" / "batch-scoring.md"
ROWS = pl.DataFrame({"id": range(4), "distance": [1.0, None, 3.0, 4.0], "hour": 9, "carrier": [*CARRIERS, "ZZ"]})
READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
from evergreen.orchestration.score import ScoreOperator
task = bag.dags["score-flights"].task_dict["score"]
assert isinstance(task, ScoreOperator) and task.retries == 6
DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["score-flights"]))
assert "evergreen.scoring" not in sys.modules
"""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """With a champion."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    settings = wiring.Settings.load()
    ledger = wiring.ledger(settings)
    release(ledger, wiring.store(settings), version=1)
    ROWS.write_parquet(tmp_path / "2013-06-01.parquet")
    return ledger


RUN = """
import json, sys
from datetime import UTC, datetime
from types import SimpleNamespace
from airflow.sdk import DAG
from evergreen.orchestration.score import ScoreOperator

def away(*_):
    raise ConnectionRefusedError("bucket does not answer")

arguments, is_away = json.loads(sys.argv[1]), sys.argv[2] == "away"
with DAG("mine", schedule=None, start_date=datetime(2013, 1, 1, tzinfo=UTC)):
    task = ScoreOperator(task_id="score", **arguments)
run = SimpleNamespace(dag_id="mine", run_id="r1")
context = {"ds": "2013-06-01", "params": {"model": "flight-delay"}, "dag_run": run}
if is_away:
    import evergreen.scoring.tables
    evergreen.scoring.tables.storage_of = away
task.render_template_fields(context)
try:
    told = task.execute(context)
except Exception as error:
    told = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def run(tmp_path: Path, *, away: bool = False, **arguments: Any) -> Any:
    """What the operator returns, or what it raises, in words.

    In a process of its own, as Airflow's is: threads that this one's XGBoost has started would not survive the fork.
    """
    files = {"input_files": f"{tmp_path}/{{{{ ds }}}}.parquet", "output_file": f"{tmp_path}/out.parquet"}
    given = json.dumps({"model": "{{ params.model }}", **files, **arguments})
    line = [sys.executable, "-c", RUN, given, "away" if away else ""]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_documented_dag_is_read_without_the_libraries_of_scoring(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "score_flights.py").write_text(example)
    environment = {**os.environ, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_scores_what_its_templates_name_and_may_be_run_again(tmp_path: Path, ledger: Ledger) -> None:
    told = run(tmp_path, keep=["id"], version="")
    assert told == run(tmp_path, keep=["id"], version=1)
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert scored.columns == ["id", "prediction", "version"]
    assert (told["model"], told["version"], told["rows"], told["files"]) == ("flight-delay", 1, 4, 1)
    assert told["unseen"]["carrier"]["first"] == "ZZ"
    assert [(one.what, one.by) for one in ledger.events.history("flight-delay")] == [("scored", "mine, r1")] * 2


def test_rows_that_do_not_fit_fail_at_once_and_a_storage_that_is_away_is_tried_again(
    tmp_path: Path, ledger: Ledger
) -> None:
    ROWS.with_columns(distance=float("inf")).write_parquet(tmp_path / "2013-06-01.parquet")
    told = run(tmp_path)
    assert told.startswith("AirflowFailException: ")
    assert "row 0, feature 'distance'" in told
    assert run(tmp_path, away=True).startswith("Outage: A service does not answer: ConnectionRefusedError: bucket")


def test_it_is_stopped_at_the_memory_limit_and_says_what_to_do(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_TRAINING_MEMORY_MB", "1")
    told = run(tmp_path)
    assert told.startswith("AirflowFailException: step score: found ")
    assert "Either give it fewer columns (keep)" in told
    assert not (tmp_path / "out.parquet").exists()
