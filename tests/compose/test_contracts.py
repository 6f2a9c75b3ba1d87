"""The contract tests of ledger, sources and registry, against this stack's Postgres and MLflow server.

Of memory and SQLite `make test` has held them already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from compose_stack import ROOT, ComposeStack

CONTRACT = ROOT / "tests" / "contract"
AT_ONCE = {  # each on a database of its own, and about as long as the other
    "records": [
        *(str(path.relative_to(ROOT)) for path in sorted(CONTRACT.glob("test_ledger*.py"))),
        *(f"tests/contract/test_{name}.py" for name in ("source", "registry", "promotion_races", "studies")),
        "tests/unit/test_migrations.py",  # from every earlier revision, with rows
    ],
    "kills": ["tests/unit/test_kill_everywhere.py"],
}
HERE = "postgres or server"  # and no file, no folder, no twin


def test_postgres_and_mlflow_keep_the_contracts(stack: ComposeStack) -> None:
    with ThreadPoolExecutor(len(AT_ONCE)) as threads:
        passed = sum(threads.map(lambda name: _passed(stack, name), AT_ONCE))
    assert passed > 300


def _passed(stack: ComposeStack, name: str) -> int:
    """How many tests of these files have passed; none may fail, or be skipped."""
    stack.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    stack.sql(f"CREATE DATABASE {name}")
    stack.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")  # it is clients that are killed here
    url = f"postgresql+psycopg2://postgres:{stack.env['POSTGRES_PASSWORD']}@{stack.address('postgres')}/{name}"
    servers = {"EVERGREEN_TEST_POSTGRES": url, "EVERGREEN_TEST_MLFLOW": f"http://{stack.address('mlflow')}:5000"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=1200", "-k", HERE, *AT_ONCE[name]],
        cwd=ROOT,
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    told = done.stdout.splitlines()[-1]
    assert "skipped" not in told
    return int(told.split(" passed")[0].split()[-1])
