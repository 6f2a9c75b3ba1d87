"""The DAG `hold`: its form, as Airflow's DAG processor reads it, and what its task does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET
from evergreen.orchestration.hold import hold_or_lift
from read_dag import read
from spec_project import make_project, write_spec

GOOD = {"act": "hold", "model": "delay", "reason": "wrong fares"}


def test_the_form_offers_the_valid_models_and_all_and_wants_a_reason(tmp_path: Path) -> None:
    root = make_project(tmp_path, "delay", "airtime", "broken")
    write_spec(root, "broken", ("task:", "tsk:"))
    right = [GOOD, {**GOOD, "act": "lift", "model": FLEET}]
    wrong = [{"model": "broken"}, {"reason": ""}, {"reason": "no"}, {"act": "stop"}]
    found = read(root, "hold", *right, {"model": "delay"}, *({**GOOD, **change} for change in wrong))
    assert found["params"]["model"]["enum"] == ["airtime", "delay", FLEET]
    assert found["found"][:2] == right
    assert all(str(refused).startswith("ParamValidationError") for refused in found["found"][2:]), found["found"]
    assert (found["tags"], found["tasks"]) == (["evergreen"], ["hold"])


# ---------------------------------------------------------------- the task


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    return wiring.ledger(wiring.Settings.load())


def run(user: str | None = "anna", **asked: Any) -> str:
    context: Any = {"dag_run": SimpleNamespace(triggering_user_name=user), "params": {**GOOD, **asked}}
    return hold_or_lift(context)


def test_it_holds_and_lifts_in_the_name_of_whoever_started_it(ledger: Ledger) -> None:
    told = run()
    assert told.startswith("delay: held since ")
    assert told.endswith(" by anna: wrong fares; lifted by evergreen release-hold delay")
    assert ledger.holds.applying("delay")
    assert run(user="bert", reason="again") == told  # run again, it changes nothing
    assert run(act="lift", reason="repaired") == "delay: the hold is lifted"
    assert run(act="lift", reason="repaired") == "delay: was not held"
    assert ledger.holds.applying("delay") is None


def test_a_hold_on_all_models_is_lifted_by_itself(ledger: Ledger) -> None:
    run(model=FLEET, reason="migration")
    run()
    told = run(act="lift", reason="repaired")
    assert told.startswith("delay: the hold is lifted; but all models are held since ")
    assert run(act="lift", model=FLEET, reason="done") == "all models: the hold is lifted"


def test_somebody_without_a_name_is_said_to_be_so(ledger: Ledger) -> None:
    assert "by somebody whom Airflow does not name" in run(user=None)
