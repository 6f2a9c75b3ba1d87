"""The task roll_out: it waits deferred while a version is on trial, and ends as the ledger says; and its trigger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from evergreen import wiring
from evergreen.core import refitting
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    CandidateState,
    Release,
    RequestState,
    RolloutState,
    Trip,
    TripKind,
)
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.orchestration import release_trigger
from evergreen.orchestration.release_trigger import ReleaseTrigger
from evergreen.orchestration.roll_out import RollOut
from evergreen.orchestration.task_run import TaskRun
from evergreen.steps.advance_rollouts import advance_rollouts
from evergreen.steps.promote import promote
from ledgers import LATER, release
from records import NOW, make_candidate, make_request_args, make_spec, make_verdict

TRIED = {"approval": {"mode": "auto"}, "rollout": {"shadow": "1h", "canary": [], "bake": "0s"}}


class Task:
    """What the operator sees of Airflow's task instance."""

    try_number, max_tries = 1, 6

    def __init__(self, request_id: str) -> None:
        approved = {"version": 2, "by": "auto", "reason": "gates passed"}
        self.handed_on = {"admit": request_id, "train": 2, "approve": approved}
        self.pushed: dict[str, Any] = {}

    def xcom_pull(self, task_ids: str) -> Any:
        return self.handed_on[task_ids]

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class Played:
    """A run that has come to its release: of version 2, where version 1 is live."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.ledger, self.spec, registry = in_memory_ledger(), make_spec(**{**TRIED, **changes}), FakeRegistry()
        monkeypatch.setattr(TaskRun, "ledger", self.ledger)
        monkeypatch.setattr(wiring, "registry", lambda settings: registry)
        for version in (1, 2):
            run = registry.start_run("m", f"run-{version}", {})
            registry.register("m", run, {}, {})
            opened = self.ledger.requests.open(**make_request_args(run_id=f"run-{version}", dedupe_key=f"k{version}"))
            made = make_candidate(version=version, request_id=opened.id, mlflow_run=run)
            self.ledger.models.add_candidate(made)
            passed = {"verdict": make_verdict(request_id=opened.id), "state": CandidateState.PASSED}
            judged = self.ledger.models.judge("m", version, generation_seen=version - 1, **passed)
            if version == 1:
                release(self.ledger, judged)
        self.request_id, self.task = opened.id, Task(opened.id)
        self.context: Any = {"ti": self.task, "dag_run": SimpleNamespace(run_id="run-2", dag_id="m")}

    def execute(self) -> str:
        operator = RollOut(spec=self.spec, task_id="roll_out")
        made: str = type(operator).execute.__wrapped__(operator, self.context)  # type: ignore[attr-defined]
        return made

    def resume(self) -> str:
        event = {"release": "any", "state": "any"}
        return RollOut(spec=self.spec, task_id="roll_out").execute_complete(self.context, event)

    @property
    def release(self) -> Release:
        [found] = [one for one in self.ledger.releases.on_trial() if one.version == 2]
        return found

    @property
    def request(self) -> Any:
        return self.ledger.requests.get(self.request_id)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def test_without_a_rollout_it_is_live_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, rollout=None)
    made = played.execute()
    assert played.ledger.releases.champion("m").release_id == made
    assert played.task.pushed["reason"].startswith("released version 2")


def test_of_what_was_fitted_again_that_version_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, rollout=None)
    first = played.ledger.models.candidate("m", 2)
    made_with = {refitting.REFIT_OF: "2"}
    played.ledger.models.add_candidate(
        replace(first, version=3, train_key=refitting.train_key(first), made_with=made_with)
    )
    wiring.registry(None).register("m", first.mlflow_run, {}, {"evergreen.refit_of": "2"})  # type: ignore[arg-type]
    refitted = {"verdict": first.verdict, "state": CandidateState.REFITTED, "generation_seen": 1}
    played.ledger.models.judge("m", 2, **refitted)
    with pytest.raises(AirflowFailException, match="did not let version 3 through"):
        played.execute()
    played.task.handed_on["approve"] = {"version": 3, "by": "auto", "reason": "gates passed"}
    made = played.execute()
    assert played.ledger.releases.get(made).version == 3
    assert played.execute() == made


def test_with_one_it_waits_in_the_triggerer_and_says_so(played: Played) -> None:
    for _ in range(2):  # killed or cleared, it finds the release where it is
        with pytest.raises(TaskDeferred) as deferred:
            played.execute()
        assert deferred.value.method_name == "execute_complete"
        assert deferred.value.timeout is None
        assert deferred.value.trigger.serialize()[1] == {"release_id": played.release.id}
    assert (played.request.state, played.request.step) == (RequestState.CLAIMED, "roll_out")
    assert played.request.reason == "version 2 is on trial: shadow"
    assert played.release.stage == "shadow"
    assert len([e for e in played.ledger.releases.events("m") if e.version == 2]) == 2


def test_it_ends_with_the_release_when_that_is_live(played: Played) -> None:
    with pytest.raises(TaskDeferred):
        played.execute()
    live = promote(played.ledger, "m", by="eve", reason="few callers", now=LATER)
    assert played.resume() == live.id
    assert played.task.pushed["reason"] == "released version 2: promoted by eve: few callers"


def test_it_is_skipped_with_the_reason_when_a_guard_rolled_it_back(played: Played) -> None:
    with pytest.raises(TaskDeferred):
        played.execute()
    played.ledger.trials.trip(Trip(played.release.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", NOW))
    advance_rollouts(played.ledger, now=LATER)
    told = "version 2 was rolled back in shadow by its guard: 5 of 5 requests failed"
    for again in (played.resume, played.execute):  # a person may clear it: it stays as it is
        with pytest.raises(AirflowSkipException, match=told):
            again()
    assert played.task.pushed["reason"] == told
    assert played.ledger.releases.champion("m").generation == 1


def test_resumed_too_early_it_waits_on(played: Played) -> None:
    with pytest.raises(TaskDeferred):
        played.execute()
    with pytest.raises(TaskDeferred):
        played.resume()


# ---------------------------------------------------------------- the trigger


@pytest.fixture
def looked(played: Played, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the trigger's looks at the ledger came to; the first finds it away."""
    found: list[str] = []

    def opened(settings: Any) -> Ledger:
        found.append("away" if not found else "there")
        if len(found) == 1:
            raise ConnectionError("the ledger is away")
        return played.ledger

    monkeypatch.setattr(wiring, "ledger", opened)
    monkeypatch.setattr(release_trigger, "LOOK_EVERY", 0.01)
    release_trigger._ledger.cache_clear()
    yield found
    release_trigger._ledger.cache_clear()


def test_the_trigger_fires_when_the_release_waits_for_nothing_any_more(played: Played, looked: list[str]) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        played.execute()
    path, arguments = deferred.value.trigger.serialize()
    assert path == "evergreen.orchestration.release_trigger.ReleaseTrigger"

    async def fired() -> Any:
        events = ReleaseTrigger(**arguments).run()
        first = asyncio.ensure_future(anext(events))
        while looked != ["away", "there"]:
            await asyncio.sleep(0.005)
        done, _ = await asyncio.wait([first], timeout=0.1)
        assert not done, "it is still on trial"
        promote(played.ledger, "m", by="eve", reason="few callers", now=NOW + timedelta(minutes=1))
        return (await asyncio.wait_for(first, 5)).payload

    assert asyncio.run(fired()) == {"release": arguments["release_id"], "state": RolloutState.LIVE.value}
