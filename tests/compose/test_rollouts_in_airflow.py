"""Trials in a real Airflow: the task is deferred while a version is on trial, and ends as the trial does.

What callers ask is written into the ledger, as a
replica's supervisor does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_world import PATIENCE, STEADY, World, within
from asking import command
from evergreen.core.records import (
    CHALLENGER,
    LATENCY_BOUNDS,
    PREDICTION_BINS,
    ArmCount,
    CandidateState,
    NoticeKind,
    Release,
    RequestState,
    RolloutState,
    Trip,
    TripKind,
)

WON, LOST, SHORT = "won", "lost", "short"
ENOUGH = 20
ROLLOUT = {"shadow": "2s", "canary": [10, 50], "step": "2s", "bake": "2s", "min_requests": ENOUGH}
MODELS: dict[str, dict[str, Any]] = {
    name: {**STEADY, "approval": {"mode": "auto"}, "rollout": ROLLOUT} for name in (WON, LOST, SHORT)
}
STAGES = ["shadow", "canary-10", "canary-50", "bake"]


@pytest.fixture(scope="module")
def world(embedded: World) -> World:
    embedded.declare(MODELS)
    return embedded


@pytest.fixture(scope="module")
def runs(world: World) -> dict[str, str]:
    """The run of each model whose version 2 has come on trial; version 1 was the first, and live at once."""
    first = {model: world.api.trigger(model) for model in MODELS}
    for model, run_id in first.items():
        assert world.finished(model, run_id)["state"] == "success"
        world.answers_with(model, 1)
    second = {model: world.api.trigger(model, {"window_train": "15d"}) for model in MODELS}
    for model, run_id in second.items():
        deferred(world, model, run_id)
    return second


def deferred(world: World, model: str, run_id: str) -> Release:
    """Its release, once the task waits in the triggerer."""
    within(PATIENCE, lambda: world.api.tasks(model, run_id)["roll_out"] == "deferred" or None)
    return on_trial(world, model)


def on_trial(world: World, model: str) -> Release:
    return within(10, lambda: next((r for r in world.ledger.releases.on_trial() if r.model == model), None))


def asked(world: World, release: Release) -> None:
    """As many requests as its stage needs, none of which failed."""
    latency, bins = (ENOUGH, *[0] * len(LATENCY_BOUNDS)), (ENOUGH, *[0] * (PREDICTION_BINS - 1))
    counted = ArmCount(release.id, release.stage, CHALLENGER, "a-replica", "boot-1", ENOUGH, 0, latency, bins)
    world.ledger.trials.count([counted])


def test_a_version_goes_through_its_stages_while_its_task_is_deferred(world: World, runs: dict[str, str]) -> None:
    release, seen = on_trial(world, WON), list[str]()
    while (now := world.ledger.releases.get(release.id)).state is not RolloutState.LIVE:
        assert now.stage in STAGES
        assert world.api.tasks(WON, runs[WON])["roll_out"] == "deferred"
        assert world.ledger.releases.champion(WON).generation == 1
        seen.append(now.stage)
        if len(seen) == 2:  # a person clears it: it finds the release where it is
            world.api.clear(WON, runs[WON], ["roll_out"])
            deferred(world, WON, runs[WON])
        asked(world, now)
        within(PATIENCE, lambda now=now: world.ledger.releases.get(now.id).stage != now.stage or None)
    assert seen == STAGES
    run = world.finished(WON, runs[WON])
    assert (run["state"], world.api.tasks(WON, runs[WON])["roll_out"]) == ("success", "success")
    assert run["note"].startswith("released version 2")
    assert world.request(WON, runs[WON]).state is RequestState.SERVED
    world.answers_with(WON, 2)
    events = [e.state.value for e in world.ledger.releases.events(WON) if e.release_id == release.id]
    assert events == ["prepared", "shadow", "canary", "canary", "bake", "live"]


def test_one_that_trips_ends_rolled_back_and_its_run_says_why(world: World, runs: dict[str, str]) -> None:
    release = on_trial(world, LOST)
    why = "5 of its 5 requests failed"
    assert world.ledger.trials.trip(Trip(release.id, "a-replica", TripKind.FAULTS, why, datetime.now(UTC)))
    run = world.finished(LOST, runs[LOST])
    assert (run["state"], world.api.tasks(LOST, runs[LOST])["roll_out"]) == ("success", "skipped")
    told = f"version 2 was rolled back in shadow by its guard: {why}"
    assert told in run["note"]
    assert world.ledger.releases.get(release.id).state is RolloutState.ROLLED_BACK
    assert world.ledger.models.candidate(LOST, 2).state is CandidateState.ROLLED_BACK
    notice = within(
        PATIENCE,
        lambda: next(
            (n for n in world.ledger.notices.latest(50) if n.model == LOST and n.kind is NoticeKind.ROLLED_BACK), None
        ),
    )
    assert told in notice.text
    world.answers_with(LOST, 1)


def test_one_that_is_short_of_requests_waits_until_a_person_promotes_it(world: World, runs: dict[str, str]) -> None:
    status = command(world, "status", SHORT)
    assert f"shadow: 0 of {ENOUGH} requests" in " ".join(status.stdout.split()), status.stderr
    promoted = command(world, "promote", SHORT, "--reason", "nobody asks at night")
    assert f"{SHORT}: version 2 is champion, generation 2" in promoted.stdout, promoted.stderr
    assert world.finished(SHORT, runs[SHORT])["state"] == "success"
    assert "promoted by " in world.api.run(SHORT, runs[SHORT])["note"]
    world.answers_with(SHORT, 2)
    assert world.ledger.settings.of("default").keys() >= MODELS.keys()
