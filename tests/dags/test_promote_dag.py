"""The DAG `promote`: its form, as Airflow's DAG processor reads it, and what its task does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger
from evergreen.core.records import RolloutPlan, RolloutState
from evergreen.orchestration.promote import promote_release
from evergreen.steps.promote import NotPromoted
from ledgers import passed, prepare, release
from read_dag import read
from records import NOW
from spec_project import make_project, write_spec

GOOD = {"model": "delay", "reason": "wrong fares"}


def test_the_form_offers_the_valid_models_and_wants_a_reason(tmp_path: Path) -> None:
    root = make_project(tmp_path, "delay", "airtime", "broken")
    write_spec(root, "broken", ("task:", "tsk:"))
    wrong = [{"model": "broken"}, {"reason": ""}, {"reason": "no"}]
    found = read(root, "promote", GOOD, {"model": "delay"}, *({**GOOD, **change} for change in wrong))
    assert found["params"]["model"]["enum"] == ["airtime", "delay"]
    assert found["found"][0] == GOOD
    assert all(str(refused).startswith("ParamValidationError") for refused in found["found"][1:]), found["found"]
    assert (found["tags"], found["tasks"]) == (["evergreen"], ["promote"])
    assert "trip" in found["doc"]


def test_without_a_valid_model_the_dag_still_loads(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    write_spec(root, "delay", ("task:", "tsk:"))
    assert "enum" not in read(root, "promote")["params"]["model"]


# ---------------------------------------------------------------- the task

PLAN = RolloutPlan(timedelta(hours=1), (), timedelta(0), timedelta(0), 200)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Version 2 of the model is on trial."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_AIRFLOW_USER", "evergreen")
    made = wiring.ledger(wiring.Settings.load())
    release(made, passed(made, 1, seen=0, model="delay"))
    prepared = prepare(made, passed(made, 2, seen=1, model="delay"), plan=PLAN)
    made.releases.enter(prepared, RolloutState.SHADOW, 0, reason="", now=NOW)
    return made


def run(user: str | None = "anna", **asked: Any) -> str:
    context: Any = {"dag_run": SimpleNamespace(triggering_user_name=user), "params": {**GOOD, **asked}}
    return promote_release(context)


def test_it_promotes_in_the_name_of_whoever_started_it_and_run_again_says_the_same(ledger: Ledger) -> None:
    told = run()
    assert told == "delay: version 2 is champion, generation 2; its trial is over"
    [live] = [e for e in ledger.releases.events("delay") if e.version == 2 and e.state is RolloutState.LIVE]
    assert (live.by, live.reason) == ("anna", "wrong fares")
    assert run() == told


def test_where_nothing_is_on_trial_it_is_refused(ledger: Ledger) -> None:
    run()
    with pytest.raises(NotPromoted, match="found version 2, which is live"):
        run(reason="another")


def test_the_platforms_own_account_promotes_nothing(ledger: Ledger) -> None:
    with pytest.raises(FoundProblem, match="the platform's own account"):
        run("evergreen")
    assert [release.version for release in ledger.releases.on_trial()] == [2]
