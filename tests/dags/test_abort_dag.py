"""The DAG `abort`: its form, as Airflow's DAG processor reads it, and what its task does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import RolloutState
from evergreen.orchestration.abort import abort_release
from evergreen.steps.abort import NothingToAbort
from ledgers import passed, prepare
from read_dag import read
from spec_project import make_project, write_spec

GOOD = {"model": "delay", "reason": "wrong fares"}


def test_the_form_offers_the_valid_models_and_wants_a_reason(tmp_path: Path) -> None:
    root = make_project(tmp_path, "delay", "airtime", "broken")
    write_spec(root, "broken", ("task:", "tsk:"))
    wrong = [{"model": "broken"}, {"reason": ""}, {"reason": "no"}]
    found = read(root, "abort", GOOD, {"model": "delay"}, *({**GOOD, **change} for change in wrong))
    assert found["params"]["model"]["enum"] == ["airtime", "delay"]
    assert found["found"][0] == GOOD
    assert all(str(refused).startswith("ParamValidationError") for refused in found["found"][1:]), found["found"]
    assert (found["tags"], found["tasks"]) == (["evergreen"], ["abort"])
    assert "rollback" in found["doc"]


def test_without_a_valid_model_the_dag_still_loads(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    write_spec(root, "delay", ("task:", "tsk:"))
    assert "enum" not in read(root, "abort")["params"]["model"]


# ---------------------------------------------------------------- the task


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    return wiring.ledger(wiring.Settings.load())


def run(user: str | None = "anna", **asked: Any) -> str:
    context: Any = {"dag_run": SimpleNamespace(triggering_user_name=user), "params": {**GOOD, **asked}}
    return abort_release(context)


def test_it_aborts_in_the_name_of_whoever_started_it_and_run_again_says_the_same(ledger: Ledger) -> None:
    prepare(ledger, passed(ledger, 1, seen=0, model="delay"))
    told = run()
    assert told == "delay: the release of version 1 is aborted and the version declined; the champion stays"
    last = ledger.releases.events("delay")[-1]
    assert (last.state, last.by, last.reason) == (RolloutState.ABORTED, "anna", "wrong fares")
    assert run() == told


def test_where_nothing_is_on_its_way_it_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NothingToAbort, match="found no release"):
        run()
