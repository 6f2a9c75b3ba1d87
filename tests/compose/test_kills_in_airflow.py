"""A run whose steps are killed at three transitions of the ledger, in a real Airflow that soon notices a lost task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_world import World
from evergreen import wiring
from evergreen.core.records import CandidateState, RequestState, RolloutState

MODEL = "mortal"


@pytest.fixture
def world(embedded: World, struck: dict[str, Path]) -> Iterator[World]:
    """Whose next call of each kind is the last of the process that makes it."""
    embedded.add(MODEL, approval={"mode": "auto"})
    for file in struck.values():
        file.unlink()
    yield embedded
    for file in struck.values():
        file.touch()


def test_each_kill_is_survived_and_leaves_one_of_everything(world: World, struck: dict[str, Path]) -> None:
    run_id = world.api.trigger(MODEL, {"requested_by": "ann"})
    assert world.finished(MODEL, run_id)["state"] == "success"
    assert [call for call, file in struck.items() if not file.exists()] == []
    assert _tried_again(world, run_id) >= {"train", "judge", "roll_out"}
    [candidate] = world.ledger.models.candidates(MODEL)
    assert candidate.state is CandidateState.RELEASED
    [release] = world.ledger.releases.history(MODEL)
    assert (release.version, release.state, release.generation) == (1, RolloutState.LIVE, 1)
    assert world.ledger.releases.prepared() == []
    request = world.request(MODEL, run_id)
    assert request.state is RequestState.SERVED
    assert request.reason.startswith("released version 1")  # by the run's retry, or by the reconciler before it
    assert world.ledger.leases.get(MODEL) is None
    assert wiring.registry(world.settings).aliases(MODEL)["champion"] == 1
    world.answers_with(MODEL, 1)


def _tried_again(world: World, run_id: str) -> set[str]:
    tasks = world.api._ask("GET", f"dags/{MODEL}/dagRuns/{run_id}/taskInstances")["task_instances"]
    return {task["task_id"] for task in tasks if task["try_number"] > 1}
