"""The runs in memory keep the contract that tests/e2e/test_reconciler.py holds a real Airflow to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evergreen.core.ports import RunState
from evergreen.fakes.runs import InMemoryRuns
from runs_contract import Rig, RunsContract


@pytest.fixture(scope="class")
def rig() -> Rig:
    runs, away = InMemoryRuns(), InMemoryRuns()
    runs.refusing.update({"dozing": "paused", "no-such-model": "no such DAG"})
    runs.heard_at, away.away = datetime.now(UTC), True

    def goes_on(run_id: str) -> None:
        assert not runs.waits("m", run_id)
        assert runs.dismissed == {("m", run_id): "answered in the ledger: superseded"}

    return Rig(
        runs, "m", "dozing", lambda run_id: runs.started["m", run_id], lambda r: runs.wait("m", r), goes_on, away
    )


class TestRuns(RunsContract):
    """In memory."""


def test_a_test_plays_airflow() -> None:
    runs = InMemoryRuns()
    runs.start("m", "one", {})
    runs.put("m", "one", RunState.SUCCESS)
    assert runs.state("m", "one") is RunState.SUCCESS
    runs.put("m", "one", None)
    assert runs.state("m", "one") is None
