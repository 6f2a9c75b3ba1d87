"""What serving needs at import: its image holds neither the training libraries nor Airflow or MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ABSENT = {
    "airflow", "alembic", "docker", "duckdb", "fastapi", "great_expectations", "httpx", "jinja2", "matplotlib",
    "mlflow", "pandas", "polars", "psutil", "pyarrow", "pydantic", "rich", "sklearn", "typer", "yaml",
}  # fmt: skip
OURS = {"evergreen", "__mp_main__"}
# What docker/serving must install, with what these need: requirements-serving.in holds the same names.
SUPERVISOR = {"fsspec", "msgspec", "sqlalchemy"}
WORKER = {"anyio", "httptools", "msgspec", "numpy", "starlette", "uvicorn"}

LOADED = """
import json, sys
outside = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
outside = {name for name in outside if name not in sys.stdlib_module_names and not name.startswith("_")}
print(json.dumps(sorted(outside)))
"""
SUPERVISES = """
import sys
for name in json_absent: sys.modules[name] = None
import evergreen.serving.__main__
from evergreen import wiring
settings = wiring.Settings.load()
ledger, store = wiring.ledger(settings), wiring.store(settings)
assert ledger.releases.live("default") == ledger.tokens.active() == store.keys("bundles") == []
"""
WORKS = """
import sys
for name in json_absent: sys.modules[name] = None
import evergreen.serving.worker
"""


def loaded(program: str, absent: set[str], home: Path) -> set[str]:
    """The outside packages that a program has imported; importing one of `absent` is an error there."""
    code = f"json_absent = {sorted(absent)!r}\n{program}\n{LOADED}"
    environment = {"EVERGREEN_HOME": str(home), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout)) - OURS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a ledger that is up to date: the serving image has no Alembic."""
    code = "from evergreen import wiring; wiring.ledger(wiring.Settings.load())"
    subprocess.run([sys.executable, "-c", code], check=True, env={"EVERGREEN_HOME": str(tmp_path), "PATH": ""})
    return tmp_path


def test_the_supervisor_imports_nothing_of_training(home: Path) -> None:
    found = loaded(SUPERVISES, ABSENT | {"xgboost", "numpy", "uvicorn", "starlette"}, home)
    assert found & ABSENT == set()
    assert found >= SUPERVISOR


def test_a_worker_imports_no_ledger_no_store_and_nothing_of_training(home: Path) -> None:
    absent = ABSENT | {"sqlalchemy", "fsspec", "psycopg2", "scipy", "xgboost"}  # of XGBoost, only its library is loaded
    found = loaded(WORKS, absent, home)
    assert found & absent == set()
    assert found >= WORKER
