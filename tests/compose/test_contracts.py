"""The contract tests of ledger, sources and registry, against this stack's Postgres and MLflow server."""

from __future__ import annotations

import os
import subprocess
import sys

from compose_stack import ROOT, ComposeStack

FILES = [f"tests/contract/test_{name}.py" for name in ("source", "registry", "ledger", "ledger_models")]
LEDGER = ("fences", "people", "queue", "races", "releases", "rollouts", "told", "watermark")
FILES += [f"tests/contract/test_ledger_{name}.py" for name in LEDGER]
FILES += [
    "tests/contract/test_promotion_races.py",
    "tests/unit/test_kill_everywhere.py",
    "tests/unit/test_migrations.py",  # from every earlier revision, with rows
]


def test_postgres_and_mlflow_keep_the_contracts(stack: ComposeStack) -> None:
    stack.sql("DROP DATABASE IF EXISTS contracts WITH (FORCE)")
    stack.sql("CREATE DATABASE contracts")
    url = f"postgresql+psycopg2://postgres:{stack.env['POSTGRES_PASSWORD']}@{stack.address('postgres')}/contracts"
    servers = {"EVERGREEN_TEST_POSTGRES": url, "EVERGREEN_TEST_MLFLOW": f"http://{stack.address('mlflow')}:5000"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES],
        cwd=ROOT,
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
