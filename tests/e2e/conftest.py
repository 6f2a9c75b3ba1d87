"""One real Airflow, MLflow and serving for all test files that ask for `world`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_world import STEADY, World, running
from evergreen import supervisor, wiring

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
        file.write(context["notice"].link + "\\n")
    raise RuntimeError("no mail server")
'''


_LAST, _SETTINGS = pytest.StashKey[str](), pytest.StashKey[wiring.Settings]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember the last test here that asks for the stack; a `world` of tests elsewhere is another."""
    here = [item for item in items if item.nodeid.startswith("tests/e2e/")]
    asking = [item.nodeid for item in here if "world" in getattr(item, "fixturenames", ())]
    config.stash[_LAST] = asking[-1] if asking else ""


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop the stack after it: the tests that follow need the processors."""
    if item.nodeid == item.config.stash[_LAST] and _SETTINGS in item.config.stash:
        supervisor.down(item.config.stash[_SETTINGS])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """The stack, up; its table `steady` is filled."""
    root = tmp_path_factory.mktemp("project")
    (root / "failing_notifier.py").write_text(NOTIFIER)
    environment = {
        "EVERGREEN_WATCH_SECONDS": "1", "EVERGREEN_NOTIFIERS": "failing_notifier.tell", "PYTHONPATH": str(root),
    }  # fmt: skip
    with running(root, MODELS, **environment) as world:
        request.config.stash[_SETTINGS] = world.settings
        yield world
