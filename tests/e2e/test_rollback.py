"""Rollback on a real Airflow, MLflow and serving, under load: no request is lost, and what was rolled back stays back.

One model with two versions: the command goes back to the first one, and the form then to the second one again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml

from airflow_world import PATIENCE, STEADY, World, within
from evergreen.core.errors import FoundProblem
from evergreen.core.records import CandidateState, RequestState
from evergreen.demo.caller import Caller
from training_data import SPEC

RECORD = {"x": 0.5, "carrier": "AA", "count": 3}
REASON = "too many false alarms"
SECOND = {**SPEC["training"], "params": {"max_depth": 4, "learning_rate": 0.3}}


@pytest.fixture(scope="module")
def released(world: World) -> World:
    """Versions 1 and 2, the second one made with other parameters."""
    within(60, lambda: "back" in world.api.dags() or None)
    retrain(world, 1)
    spec = {**SPEC, **STEADY, "name": "back", "approval": {"mode": "auto"}, "training": SECOND}
    (world.settings.root / "models" / "back" / "model.yaml").write_text(yaml.safe_dump(spec))
    retrain(world, 2)
    return world


def retrain(world: World, version: int) -> None:
    run_id = world.api.trigger("back")
    assert world.finished("back", run_id)["state"] == "success"
    assert world.request("back", run_id).reason == f"released version {version}, which answers"


def command(world: World, *arguments: str) -> Any:
    """What an `evergreen` command prints as JSON; it must succeed."""
    line = [sys.executable, "-m", "evergreen.cli", *arguments, "--json"]
    env = {**os.environ, "EVERGREEN_PROJECT": str(world.settings.root)}
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def caller(world: World) -> Caller:
    return Caller(f"{world.stack.serving_url}/models/back/predict", RECORD)


def test_rollback_under_load_fails_no_request_and_the_old_version_answers(released: World) -> None:
    world = released
    with caller(world) as calls:
        assert calls.wait_for(2, 10)
        done = command(world, "rollback", "back", "--reason", REASON)
        assert int(world.answer("back")["version"]) == 1
        time.sleep(0.2)  # a request that was under way when it returned
        of_version_2 = calls.answers[2]
        time.sleep(1)
    assert calls.failures == []
    assert calls.answers[2] == of_version_2
    assert calls.answers[1] > 5
    assert (done["from_version"], done["version"], done["answers"], done["warnings"]) == (2, 1, True, [])
    hold = world.ledger.holds.applying("back")
    assert hold
    assert hold.reason == REASON


def test_what_was_rolled_back_does_not_return(released: World) -> None:
    world = released
    under_hold = world.api.trigger("back")
    world.finished("back", under_hold)
    request = world.request("back", under_hold)
    assert (request.state, request.queued) == (RequestState.OPEN, True)  # it waits for the hold's end
    assert "held since" in request.reason
    assert REASON in request.reason
    assert command(world, "release-hold", "back", "--reason", "the alarms were right")["lifted"] is True
    # One after another: of two that are open at once, one takes the other along.
    within(PATIENCE, lambda: world.ledger.requests.get(request.id).closed_at)
    without_hold = world.api.trigger("back")
    world.finished("back", without_hold)
    served = world.request("back", without_hold)
    assert served.state is RequestState.SERVED
    assert "made version 2, which was rolled back" in served.reason
    assert [release.version for release in world.ledger.releases.history("back")] == [1, 2, 1]
    assert int(world.answer("back")["version"]) == 1


def test_the_form_does_the_same(released: World) -> None:
    world = released
    with caller(world) as calls:
        assert calls.wait_for(1, 10)
        run_id = world.oncall.trigger("rollback", {"model": "back", "to_version": 2, "reason": "it was right"})
        assert world.finished("rollback", run_id)["state"] == "success"
        assert int(world.answer("back")["version"]) == 2
    assert calls.failures == []
    release = world.ledger.releases.history("back")[-1]
    assert (release.version, release.act, release.reason) == (2, run_id, "it was right")
    assert release.released_by == world.stack.oncall
    assert world.ledger.models.candidate("back", 1).state is CandidateState.ROLLED_BACK
    assert world.ledger.holds.applying("back")
    assert "back: rolled back from version 1 to version 2" in world.api.run("rollback", run_id)["note"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"model": "nobody", "reason": REASON},
        {"model": "back"},
        {"model": "back", "reason": REASON, "to_version": 0},
    ],
)
def test_the_form_takes_nothing_that_is_wrong(released: World, asked: dict[str, Any]) -> None:
    with pytest.raises(FoundProblem, match="400"):
        released.oncall.trigger("rollback", asked)


def test_a_rollback_that_cannot_be_done_is_a_red_run_that_says_why(released: World) -> None:
    world = released
    run_id = world.api.trigger("rollback", {"model": "back", "to_version": 2, "reason": REASON})
    assert world.finished("rollback", run_id)["state"] == "failed"
    assert "found the version that is champion now" in world.api.run("rollback", run_id)["note"]
    assert world.ledger.releases.history("back")[-1].version == 2
