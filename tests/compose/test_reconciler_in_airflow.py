"""The reconciler in a real Airflow: what waits becomes a run, what a hand moved is put back, what is overtaken ends."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mlflow import MlflowClient

from airflow_world import PATIENCE, STEADY, World, within
from asking import command, ended_without_release, states
from evergreen import wiring
from evergreen.core.ports import Runs
from evergreen.core.reconciling import RECONCILER, persisting
from evergreen.core.records import ApprovalState, CandidateState, Cause, Heartbeat, RequestState, TriggerRequest
from records import make_request_args
from runs_contract import Rig, RunsContract
from training_data import AS_OF, SPEC

METRIC, ASKED, DOZING = "drifting", "runs", "dozing"
ALIASES = PATIENCE  # seconds: they are looked at every 30, and later where a look took long
NEW_DATA, MANUAL, AUTO = {"new_data": {"min_rows": 100}}, {"mode": "manual", "timeout": "5m"}, {"mode": "auto"}
MODELS: dict[str, dict[str, Any]] = {
    "newer": {**STEADY, "approval": MANUAL},
    "refused": {**STEADY, "approval": AUTO, "gates": [{"metric": "auc", "min": 0.999}]},
    "drifting": {**STEADY, "approval": AUTO},
    "sourceless": {"source": {**SPEC["source"], "table": "nowhere"}, "triggers": [NEW_DATA], "approval": AUTO},
    **{name: {**STEADY, "approval": MANUAL} for name in ("runs", "dozing")},
}


@pytest.fixture(scope="module")
def world(embedded: World) -> World:
    embedded.declare(MODELS)
    return embedded


@pytest.fixture(scope="module")
def drifted(world: World) -> TriggerRequest:
    """The request of a metric, which waits in the ledger: no event of Airflow's tells of it."""
    return world.ledger.requests.open(
        **make_request_args(
            model=METRIC,
            source="w/steady/at",
            cause=Cause.METRIC,
            dedupe_key="drift",
            run_id=None,
            watermark=AS_OF,
            as_of=AS_OF,
            detail={"metric": "drift.psi.max", "value": 0.31, "threshold": 0.2, "direction": "above",
                    "window": "7d", "rows": 12_000},
            now=datetime.now(UTC),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(world: World, drifted: TriggerRequest) -> TriggerRequest:
    """The same, once its run has ended; then a hand takes the alias of its version away."""
    request = within(PATIENCE, lambda: _closed(world, drifted.id))
    world.finished(METRIC, request.run_id)
    client = MlflowClient(world.stack.mlflow_url, world.stack.mlflow_url)
    within(ALIASES, lambda: _seen_in_order(world))
    client.delete_registered_model_alias(METRIC, "champion")
    return request


def _seen_in_order(world: World) -> bool | None:
    """Whether the reconciler has seen the alias where the ledger has it: what differs then was moved by a hand."""
    seen = world.ledger.heartbeats.last(f"aliases of {METRIC}")
    return True if seen and "champion" in seen.detail else None


def _closed(world: World, request_id: str) -> TriggerRequest | None:
    found = world.ledger.requests.get(request_id)
    return found if found.closed_at else None


def test_a_request_that_waits_becomes_the_run_of_its_id_which_says_why_it_is(
    world: World, served: TriggerRequest
) -> None:
    assert (served.run_id, served.state) == (served.id, RequestState.SERVED), served.reason
    assert served.reason.startswith("released version 1")
    assert "drift.psi.max is 0.31, above 0.2, over 7d and 12,000 rows" in world.api.run(METRIC, served.run_id)["note"]


@pytest.fixture(scope="module")
def rig(world: World, drifted: TriggerRequest) -> Rig:
    stack = world.stack
    world.api._ask("PATCH", f"dags/{DOZING}", {"is_paused": True})

    def goes_on(run_id: str) -> None:
        assert world.finished(ASKED, run_id)["state"] == "success"
        assert world.ledger.releases.history(ASKED) == []

    return Rig(
        _runs(world),
        ASKED,
        DOZING,
        lambda run_id: world.api.run(ASKED, run_id)["conf"],
        lambda run_id: world.asked(ASKED, run_id),
        goes_on,
        wiring.airflow("http://127.0.0.1:1", stack.user, stack.password),
    )


def _runs(world: World) -> Runs:
    stack = world.stack
    return wiring.airflow(stack.airflow_url, stack.user, stack.password)


class TestRuns(RunsContract):
    """Airflow keeps the contract."""


def test_an_alias_that_a_hand_took_away_is_put_back_and_reported(world: World, served: TriggerRequest) -> None:
    aliases = wiring.aliases(world.settings)
    assert within(ALIASES, lambda: aliases.aliases(METRIC).get("champion")) == 1
    told = within(
        10, lambda: [e.detail for e in world.ledger.events.history(METRIC) if e.what == "alias moved"] or None
    )
    assert "champion was gone" in told[0]


def test_a_source_that_cannot_be_asked_stops_nothing_and_its_watchdog_turns_red_over_it(world: World) -> None:
    """The model `sourceless` reads a table that nobody makes."""
    beat = within(PATIENCE, lambda: _failing_for_long(world))
    assert [one.part for one in persisting(beat, datetime.now(UTC))] == ["watermarks"]
    run_id = world.api.trigger("reconciler")
    assert world.finished("reconciler", run_id)["state"] == "failed"
    assert world.api.tasks("reconciler", run_id) == {"watch": "failed", "send_notices": "success"}
    note = world.api.run("reconciler", run_id)["note"]
    assert "watermarks fails since" in note
    assert "table 'nowhere'" in note


def _failing_for_long(world: World) -> Heartbeat | None:
    """The reconciler's heartbeat, while it is a moment old and tells so."""
    now, beat = datetime.now(UTC), world.ledger.heartbeats.last(RECONCILER)
    fresh = beat is not None and now - beat.at < timedelta(seconds=30)
    return beat if fresh and persisting(beat, now) else None


# ---------------------------------------------------------------- approvals that something overtakes


@pytest.fixture(scope="module")
def stories(world: World) -> Iterator[dict[str, Future[None]]]:
    told = {"newer": newer, "refused": overridden}
    with ThreadPoolExecutor(len(told)) as pool:
        runs = {model: world.api.trigger(model) for model in told}
        yield {model: pool.submit(story, world.again(), model, runs[model]) for model, story in told.items()}


def test_a_newer_candidate_ends_the_question_about_an_older_one(stories: dict[str, Future[None]]) -> None:
    stories["newer"].result()


def test_a_version_that_its_gates_refused_is_released_by_an_override(stories: dict[str, Future[None]]) -> None:
    stories["refused"].result()


def newer(world: World, model: str, run_id: str) -> None:
    """Nobody has answered when a newer candidate is asked about: the older run ends by itself, and says why."""
    world.asked(model, run_id)
    later = world.api.trigger(model, {"window_train": "15d"})
    told = "version 1: superseded: version 2 came before an answer"
    assert told in ended_without_release(world, model, run_id)
    assert world.request(model, run_id).reason == told
    assert states(world, model) == [ApprovalState.SUPERSEDED, ApprovalState.OPEN]
    assert world.ledger.models.candidate(model, 1).state is CandidateState.PASSED
    world.decide(model, later, "Approve")
    assert world.finished(model, later)["state"] == "success"
    [release] = world.ledger.releases.history(model)
    assert (release.version, release.released_by) == (2, "oncall")
    world.answers_with(model, 2)


def overridden(world: World, model: str, run_id: str) -> None:
    """Refused by its gates; a person wants it all the same: judged once more, asked about, released, and told so."""
    assert world.finished(model, run_id)["state"] == "success"
    assert world.ledger.models.candidate(model, 1).state is CandidateState.REJECTED
    told = command(
        world, "approve", model, "--override", "--version", "1", "--reason", "JFK is shut", patience=PATIENCE
    )
    assert "version 1 of refused, whatever its gates say, as oncall" in told.stdout, told.stderr
    world.answers_with(model, 1)
    [asked] = world.ledger.approvals.history(model)
    [release] = within(PATIENCE, lambda: world.ledger.releases.history(model) or None)
    assert asked.overrides.startswith("auc ≥ 0.999 (")
    assert release.reason == f"version 1: approved by oncall, overriding {asked.overrides}: JFK is shut"
    [event] = world.ledger.events.history(model)
    assert (event.what, event.by, event.detail) == ("override", "oncall", release.reason)
