"""The contract tests of ledger, sources and registry, against this stack's Postgres and MLflow server.

Of memory and SQLite `make test` has held them already.
"""

from __future__ import annotations

import os
import subprocess
import sys

from compose_stack import ROOT, ComposeStack

CONTRACT = ROOT / "tests" / "contract"
FILES = [
    *(str(path.relative_to(ROOT)) for path in sorted(CONTRACT.glob("test_ledger*.py"))),
    *(f"tests/contract/test_{name}.py" for name in ("source", "registry", "promotion_races")),
    "tests/unit/test_kill_everywhere.py",
    "tests/unit/test_migrations.py",  # from every earlier revision, with rows
]

HERE = "not memory and not sqlite and not fake"


def test_postgres_and_mlflow_keep_the_contracts(stack: ComposeStack) -> None:
    stack.sql("DROP DATABASE IF EXISTS contracts WITH (FORCE)")
    stack.sql("CREATE DATABASE contracts")
    url = f"postgresql+psycopg2://postgres:{stack.env['POSTGRES_PASSWORD']}@{stack.address('postgres')}/contracts"
    servers = {"EVERGREEN_TEST_POSTGRES": url, "EVERGREEN_TEST_MLFLOW": f"http://{stack.address('mlflow')}:5000"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", HERE, *FILES],
        cwd=ROOT,
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    told = done.stdout.splitlines()[-1]
    assert "skipped" not in told
    assert int(told.split(" passed")[0].split()[-1]) > 150, told
