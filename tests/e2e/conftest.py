"""One real Airflow, MLflow and serving for all test files that ask for `world`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_world import STEADY, World, land, make_project
from evergreen import supervisor, wiring
from training_data import make_rows

NEW_DATA = {"new_data": {"min_rows": 100}}
MANUAL, AUTO = {"mode": "manual", "timeout": "5m"}, {"mode": "auto"}
MODELS: dict[str, dict[str, Any]] = {
    # test_retraining.py: one source, and so one watcher
    "toy": {"triggers": [NEW_DATA], "approval": AUTO},
    "asked": {"triggers": [NEW_DATA], "approval": MANUAL},
    "broken": {"triggers": [NEW_DATA], "coolddown": "6h"},
    "clock": {**STEADY, "triggers": [{"schedule": "* * * * *"}], "approval": AUTO},
    # test_approval.py
    **{name: {**STEADY, "approval": MANUAL} for name in ("yes", "no", "held")},
    "late": {**STEADY, "approval": {"mode": "manual", "timeout": "6s"}},
    # test_rollback.py
    "back": {**STEADY, "approval": AUTO},
}
NOTIFIER = '''
"""Fails, once it has said that it was called."""
from pathlib import Path

def tell(context):
    with Path(__file__).with_name("told.txt").open("a") as file:
        file.write(context["dag_run"].run_id + "\\n")
    raise RuntimeError("no mail server")
'''


_LAST, _SETTINGS = pytest.StashKey[str](), pytest.StashKey[wiring.Settings]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember the last test that asks for the stack."""
    asking = [item.nodeid for item in items if "world" in getattr(item, "fixturenames", ())]
    config.stash[_LAST] = asking[-1] if asking else ""


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop the stack after it: the tests that follow need the processors."""
    if item.nodeid == item.config.stash[_LAST] and _SETTINGS in item.config.stash:
        supervisor.down(item.config.stash[_SETTINGS])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """The stack, up; its table `steady` is filled."""
    root = tmp_path_factory.mktemp("project")
    make_project(root, MODELS)
    (root / "failing_notifier.py").write_text(NOTIFIER)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "AIRFLOW"))]:
            patch.delenv(name)
        patch.setenv("EVERGREEN_PROJECT", str(root))
        patch.setenv("EVERGREEN_WATCH_SECONDS", "1")
        patch.setenv("EVERGREEN_NOTIFIERS", "failing_notifier.tell")
        patch.setenv("PYTHONPATH", str(root))
        settings = request.config.stash[_SETTINGS] = wiring.Settings.load()
        warehouse = settings.home / "warehouse.db"
        settings.home.mkdir()
        land(warehouse, make_rows(), "steady")
        stack = supervisor.up(settings)
    try:
        yield _world(settings, stack, warehouse)
    finally:
        supervisor.down(settings)


def _world(settings: wiring.Settings, stack: supervisor.Stack, warehouse: Path) -> World:
    admin = wiring.airflow(stack.airflow_url, stack.user, stack.password)
    oncall = wiring.airflow(stack.airflow_url, stack.oncall, stack.oncall_password)
    return World(settings, stack, admin, oncall, wiring.ledger(settings), warehouse)
