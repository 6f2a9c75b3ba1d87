"""Runs on a real Airflow, with real MLflow and serving: how they start, what they release, why they end.

The tests tell one story, in order. Two models share one source, and so one watcher: `toy` releases by itself, `asked`
waits for a person. `broken` has a bad spec. `clock` is started by cron alone, on a table that does not change: on the
others' table, whether its minute falls before or after the bad batch would decide how it ends.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from airflow_world import PATIENCE, World, within
from evergreen.core.records import Cause, RequestState
from training_data import AS_OF, make_rows

MODELS = ("asked", "clock", "toy")


def test_a_bad_spec_is_an_import_error_and_removes_no_other_dag(world: World) -> None:
    errors = within(PATIENCE, lambda: world.api.import_errors() or None)
    assert [Path(file).name for file in errors] == ["model_spec_errors.py"]
    (text,) = errors.values()
    assert "broken" in text
    assert "coolddown" in text
    assert within(PATIENCE, lambda: [d for d in world.api.dags() if d in MODELS] or None) == list(MODELS)


def test_new_data_starts_every_model_of_the_source_and_the_released_one_answers(world: World) -> None:
    world.land(make_rows())
    request = world.ended("toy", Cause.NEW_DATA, RequestState.SERVED)
    assert request.reason.startswith("released version 1, which answers")
    assert request.watermark == AS_OF
    world.answers_with("toy", 1)


def test_an_approval_waits_for_a_person_and_releases(world: World) -> None:
    request = world.ended("asked", Cause.NEW_DATA, RequestState.CLAIMED)
    waiting = "waiting for approval of version 1: approval.mode is manual"
    within(PATIENCE, lambda: world.ledger.requests.get(request.id).reason == waiting or None)
    assert world.ledger.releases.history("asked") == []
    world.decide("asked", request.run_id, "Approve")
    assert world.ended("asked", Cause.NEW_DATA, RequestState.SERVED).reason.startswith("released version 1")
    (release,) = world.ledger.releases.history("asked")
    assert release.released_by == "oncall"
    world.answers_with("asked", 1)


@pytest.mark.parametrize("first", ["admit", "train", "roll_out"])
def test_finished_tasks_run_again_change_nothing(world: World, first: str) -> None:
    request = world.ended("toy", Cause.NEW_DATA, RequestState.SERVED)
    before = _facts(world, "toy")
    within(PATIENCE, lambda: world.api.run("toy", request.run_id)["state"] == "success" or None)
    world.api.clear("toy", request.run_id, [first])
    assert world.finished("toy", request.run_id)["state"] == "success"
    assert set(world.api.tasks("toy", request.run_id).values()) == {"success"}
    assert _facts(world, "toy") == before
    assert world.ledger.leases.get("toy") is None


def test_the_same_data_is_not_trained_twice_and_the_run_says_so(world: World) -> None:
    run_id = world.api.trigger("toy")
    run = world.finished("toy", run_id)
    request = world.ledger.requests.for_run("toy", run_id)
    assert request is not None
    assert (request.cause, request.state) == (Cause.API, RequestState.SERVED)
    assert "nothing to train" in request.reason
    assert run["state"] == "success"
    assert world.api.tasks("toy", run_id)["roll_out"] == "skipped"
    assert request.reason in world.api.run("toy", run_id)["note"]


def test_too_little_new_data_is_skipped_and_the_reason_is_on_the_run(world: World) -> None:
    world.land(make_rows(10, until=AS_OF + timedelta(hours=10), seed=2).with_columns(id=pl.format("late-{}", "id")))
    request = world.ended("toy", Cause.NEW_DATA, RequestState.SKIPPED)
    assert "10 new rows" in request.reason
    assert "100 needed" in request.reason
    run = world.finished("toy", request.run_id)
    assert run["state"] == "success"
    assert request.reason in run["note"]
    assert world.api.tasks("toy", request.run_id)["admit"] == "skipped"


def test_a_rejected_candidate_is_not_released(world: World) -> None:
    world.ended("asked", Cause.NEW_DATA, RequestState.SKIPPED)
    rows = make_rows(200, until=AS_OF + timedelta(hours=210), seed=3)
    world.land(rows.with_columns(id=pl.format("next-{}", "id")))
    request = world.ended("asked", Cause.NEW_DATA, RequestState.CLAIMED)
    world.decide("asked", request.run_id, "Reject", "looks odd")
    ended = world.ended("asked", Cause.NEW_DATA, RequestState.SERVED, after=1)
    assert ended.reason == "version 2: rejected by oncall: looks odd"
    assert [release.version for release in world.ledger.releases.history("asked")] == [1]
    assert int(world.answer("asked")["version"]) == 1


def test_a_bad_batch_fails_the_run_and_the_champion_goes_on(world: World) -> None:
    world.ended("toy", Cause.NEW_DATA, RequestState.SERVED, after=1)
    rows = make_rows(200, until=AS_OF + timedelta(hours=410), seed=4)
    bad = pl.when(pl.int_range(pl.len()) % 5 == 0).then(99).otherwise("count").alias("count")
    world.land(rows.with_columns(id=pl.format("bad-{}", "id")).with_columns(bad))
    request = world.ended("toy", Cause.NEW_DATA, RequestState.FAILED)
    assert request.step == "validate"
    assert "expect_column_values_to_be_between (count)" in request.reason
    assert world.finished("toy", request.run_id)["state"] == "failed"
    champion = world.ledger.releases.history("toy")[-1].version
    assert int(world.answer("toy")["version"]) == champion
    assert world.ledger.leases.get("toy") is None


def test_cron_starts_its_model(world: World) -> None:
    assert world.ended("clock", Cause.SCHEDULE, RequestState.SERVED).reason.startswith(("released", "nothing"))


def _facts(world: World, model: str) -> tuple[Any, ...]:
    """All that a run again must not change."""
    releases = world.ledger.releases.history(model)
    return (
        releases,
        world.ledger.releases.champion(model),
        [world.ledger.models.candidate(model, release.version) for release in releases],
        world.ledger.requests.latest(model, limit=50),
    )
