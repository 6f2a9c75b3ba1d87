"""The DAG files, read in a fresh interpreter as Airflow's DAG processor reads them."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from evergreen.core.catalog import TAKEN, load_catalog

sys.path.append(str(Path(__file__).parent))
from parse_dags import parse

from spec_project import make_project, write_spec

REPO = Path(__file__).parents[2]
OF_NO_MODEL = ["abort", "hold", "housekeeping", "monitor", "promote", "reconciler", "rollback"]
SEVEN = ["admit", "pull", "validate", "train", "judge", "approve", "roll_out"]


def project(root: Path, *names: str) -> Path:
    made = make_project(root, *names)
    shutil.copytree(REPO / "dags", made / "dags", dirs_exist_ok=True)
    return made


def test_the_projects_own_dags_load_without_error_and_without_a_heavy_library(tmp_path: Path) -> None:
    found = parse(REPO, tmp_path)
    assert found["errors"] == {}
    assert found["heavy"] == []
    assert sorted(found["dags"]) == sorted([*load_catalog(REPO).specs, *OF_NO_MODEL])
    assert "flight-delay" in found["dags"]
    assert set(OF_NO_MODEL) <= TAKEN


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good spec between two bad ones."""
    root = project(tmp_path_factory.mktemp("project"), "delay", "another", "third")
    write_spec(root, "another", ("gates:", "gatez:"))
    write_spec(root, "third", ("task: binary_classification", "task: guessing"))
    return root


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def found(broken: Path, airflow_home: Path) -> dict[str, Any]:
    return parse(broken, airflow_home, PYTHONHASHSEED="1")


def test_every_model_has_the_seven_tasks_in_a_row_each_described(found: dict[str, Any]) -> None:
    dag = found["dags"]["delay"]
    assert dag["tasks"] == SEVEN
    assert dag["docs"] == [True] * 7
    assert [dag["upstream"][task] for task in SEVEN] == [[], *([task] for task in SEVEN[:-1])]
    assert dag["catchup"] is False
    for told in ("ops@example.com", "table `flights`", "5,000 new rows", "`0 3 * * *`", "auc ≥ 0.6", "manual"):
        assert told in dag["doc"]


def test_a_bad_spec_is_an_import_error_that_names_it_and_the_good_ones_load(found: dict[str, Any]) -> None:
    assert sorted(found["dags"]) == sorted(["delay", *OF_NO_MODEL])
    assert list(found["errors"]) == ["model_spec_errors.py"]
    for told in ("SpecError", "models/another/model.yaml", "gatez", "models/third/model.yaml", "guessing"):
        assert told in found["errors"]["model_spec_errors.py"]


def test_reading_the_same_spec_again_makes_no_new_dag_version(
    broken: Path, found: dict[str, Any], airflow_home: Path
) -> None:
    again = parse(broken, airflow_home, PYTHONHASHSEED="2")
    assert again["dags"]["delay"]["hash"] == found["dags"]["delay"]["hash"]


def test_a_running_task_builds_only_its_own_dag(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    root = project(tmp_path / "p", "delay", "another")
    found = parse(root, tmp_path, _AIRFLOW_PARSING_CONTEXT_DAG_ID="another", _AIRFLOW_PARSING_CONTEXT_TASK_ID="pull")
    assert sorted(found["dags"]) == sorted(["another", *OF_NO_MODEL])


def test_dag_files_hold_the_words_without_which_airflow_skips_them_and_import_nothing_else() -> None:
    for file in (REPO / "dags").glob("*.py"):
        text = file.read_text()
        docstring = text.split('"""')[1].lower()
        assert {"airflow", "dag"} <= set(re.findall(r"[a-z]+", docstring)), file.name
        assert len(text.splitlines()) < 30, file.name
        imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
        allowed = ("from __future__", "from pathlib", "from evergreen.orchestration", "from evergreen.core.catalog")
        assert all(line.startswith(allowed) for line in imports), file.name
