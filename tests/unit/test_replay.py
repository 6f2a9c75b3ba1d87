"""`evergreen replay`: the real steps over four months that change in their middle; what is fitted is a line."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from commands import Run
from evergreen.adapters.sql_source import SqlSource
from evergreen.core.errors import FoundProblem
from evergreen.core.metrics import Metric
from evergreen.core.replayed import Attempt, Period, Replayed
from evergreen.replay import Order, replay
from evergreen.replay.past_source import PastSource
from replaying import (
    BEGIN,
    DAY,
    DRIFTS,
    EACH_240_ROWS,
    EACH_WEEK,
    END,
    EVERY,
    START,
    WATCHED,
    WORSE_THAN_1,
    World,
    make_rows,
    write_warehouse,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The whole time, once."""
    return World(tmp_path_factory.mktemp("replayed")).replay()


def test_after_a_drift_evergreen_is_better_than_frozen(found: Replayed) -> None:
    before = [period for period in found.periods if period.end <= DRIFTS]
    last = found.periods[-1]
    assert len(found.periods) == 8
    assert all(math.isclose(p.evergreen, p.frozen, rel_tol=0.2) for p in before)
    assert last.evergreen < last.frozen / 5
    assert last.low > 1  # certainly better
    assert found.share(found.evergreen) > 0.5
    assert last.hindsight <= min(last.frozen, last.every_period)
    assert last.best_of > DRIFTS


def test_a_worse_candidate_is_refused_and_named_with_its_gate(found: Replayed) -> None:
    tried = [attempt for period in found.periods for attempt in period.attempts]
    refused = [attempt for period in found.periods for attempt in period.refused]
    assert {attempt.cause for attempt in tried} == {"schedule"}
    assert refused
    assert all(attempt.refused_by == "mae" and not attempt.released for attempt in refused)
    live = {version for period in found.periods for version in period.versions}
    assert not live & {attempt.version for attempt in refused}


def test_the_same_replay_again_gives_the_same_numbers(world: World, found: Replayed) -> None:
    again = world.replay(DRIFTS)
    assert again.first == found.first
    assert again.periods == found.periods[:3]


def test_labels_that_arrive_after_a_run_have_no_say_in_it(world: World, found: Replayed) -> None:
    """Wild ones follow it by an hour: had the run seen one, its candidate could not have passed."""
    run = max(one.at for period in found.periods[:3] for one in period.attempts if one.released)
    late = pl.col("at") > run - DAY
    wild = world.rows.with_columns(pl.when(late).then(1e6 * pl.col("z")).otherwise("y").alias("y"))
    world.url = write_warehouse(world.root / "other.db", wild)
    changed = world.replay(DRIFTS)
    tried = [attempt for period in changed.periods for attempt in period.attempts if attempt.at <= run]
    assert tried == [attempt for period in found.periods for attempt in period.attempts if attempt.at <= run]
    assert tried[-1].at == run
    assert changed.periods[-1].evergreen > 1000  # they do count where all is measured


def test_new_data_starts_a_run_once_enough_labels_have_arrived(world: World) -> None:
    world.declare(EACH_240_ROWS)
    found = world.replay(START + 4 * EVERY)
    times = [attempt.at for period in found.periods for attempt in period.attempts]
    gaps = {later - earlier for earlier, later in pairwise(times)}
    assert {attempt.cause for period in found.periods for attempt in period.attempts} == {"new_data"}
    assert gaps == {10 * DAY}


def test_what_is_fitted_again_answers_and_has_learned_a_change_sooner(world: World, found: Replayed) -> None:
    spec = world.root / "models" / "delay" / "model.yaml"
    spec.write_text(spec.read_text().replace("training:\n", "training:\n  refit: after_verdict\n"))
    again = world.replay()
    assert (again.first.version, found.first.version) == (2, 1)
    tried = [attempt for period in again.periods for attempt in period.attempts]
    released = [again.first.version, *(attempt.version for attempt in tried if attempt.released)]
    assert {version for period in again.periods for version in period.versions} <= set(released)
    assert "version 1 fitted again, on all rows until 2013-02-09 00:00 UTC" in tried[0].refused_by  # too soon after it
    drifted = [period.start >= DRIFTS + EVERY for period in found.periods]
    assert sum(drifted) == 4
    new, old = ([p.evergreen for p, late in zip(r.periods, drifted, strict=True) if late] for r in (again, found))
    assert sum(new) < sum(old)


def test_what_comes_again_is_answered_by_the_version_that_knew_it(world: World) -> None:
    back = BEGIN + 95 * DAY
    world.url = write_warehouse(world.root / "other.db", make_rows(returns=back))
    world.declare(EACH_WEEK.replace("]", ", {recall: {every: 2d}}]"))
    found = world.replay()
    tried = [attempt for period in found.periods for attempt in period.attempts if attempt.recalled]
    late = [attempt for attempt in tried if attempt.at > back]
    assert (late[0].released, late[0].trained, late[0].cause) == (True, False, "schedule")
    assert back + 3 * DAY < late[0].at < back + 7 * DAY  # once its labels are most of the holdout
    fitted = next(one for p in found.periods for one in [found.first, *p.attempts] if one.version == late[0].recalled)
    assert fitted.at < DRIFTS
    assert found.recalls == sum(one.released for one in tried)
    assert found.periods[-1].evergreen < found.periods[-1].every_period / 3  # nothing to learn it from yet


def test_a_rule_of_the_monitor_asks_for_a_retrain_once_the_labels_show_it(world: World) -> None:
    world.declare(WORSE_THAN_1, WATCHED)
    found = world.replay()
    tried = [attempt for period in found.periods for attempt in period.attempts]
    assert {attempt.cause for attempt in tried} == {"metric"}
    assert DRIFTS + DAY < tried[0].at <= DRIFTS + 4 * DAY
    assert any(attempt.released for attempt in tried)
    assert found.periods[-1].evergreen < found.periods[-1].frozen / 2


def test_a_run_that_fails_is_told_and_the_champion_stays(world: World) -> None:
    """Nulls on the last day before the first version: validation stops all runs after it."""
    with sqlite3.connect(world.root / "warehouse.db") as db:
        db.execute("UPDATE rows SET x = NULL WHERE at > '2013-02-09 00:30' AND at < '2013-02-10'")
    db.close()
    found = world.replay(START + 2 * EVERY)
    failed = [one for period in found.periods for one in period.attempts if one.version is None]
    assert failed
    assert [period.versions for period in found.periods] == [(1,), (1,)]
    assert [period.every_period for period in found.periods] == [period.frozen for period in found.periods]
    assert "validation stopped the run" in failed[0].refused_by


def test_another_spec_is_checked_before_it_is_replayed(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERGREEN_PROJECT", str(world.root))
    own = (world.root / "models" / "delay" / "model.yaml").read_text()
    other = tmp_path / "tried.yaml"
    words = ("replay", "delay", "--from", "2013-02-10", "--to", "2013-03-02", "--spec", str(other))
    for changed, told in (
        (own.replace("train: 20d", "train: soon"), "tried.yaml"),
        (own.replace("name: delay", "name: other"), "'delay', which is replayed"),
        (own.replace("gates:", "gate:"), "did you mean 'gates'"),
    ):
        other.write_text(changed)
        found = run(*words)
        assert found.status == 1
        assert told.lower() in found.err.lower()


def test_a_first_version_that_is_refused_ends_the_replay(world: World) -> None:
    text = world.root / "models" / "delay" / "model.yaml"
    text.write_text(text.read_text().replace("max: 5}", "max: 0.01}"))
    with pytest.raises(FoundProblem, match="not released: mae"):
        world.replay()


def test_the_past_shows_no_row_and_no_label_before_its_time(world: World) -> None:
    spec = world.spec
    past = PastSource(spec, SqlSource(world.url, spec.source), BEGIN, END)
    past.now = BEGIN + 10 * DAY + timedelta(minutes=30)
    [rows] = past.read(spec.columns, BEGIN, END)
    assert past.watermark() == rows["at"].max() == BEGIN + 10 * DAY
    assert past.count(None, END) == rows.height == 241
    assert past.count(BEGIN + 9 * DAY, END) == 24
    known = rows.filter(pl.col("y").is_not_null())
    assert known["at"].max() == BEGIN + 9 * DAY
    assert known.height == rows.height - 24


def test_fewer_than_two_periods_are_refused(world: World) -> None:
    with pytest.raises(FoundProblem, match="1 whole periods"):
        replay(Order(world.spec, START, START + EVERY, EVERY), None, None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- what comes of it


def make_period(number: int = 0, **changes: Any) -> Period:
    start = BEGIN + number * EVERY
    made = Period(start, start + EVERY, 100, 10.0, 8.0, 7.0, 6.0, start, 1.0, 3.0, (1,), ())
    return replace(made, **changes)


def test_the_share_of_the_gap_goes_by_the_metrics_direction() -> None:
    first = Attempt(BEGIN, "person", 1, trained=True, released=True)
    loss = Replayed("m", Metric("mae"), EVERY, first, (make_period(0), make_period(1, evergreen=6.0)))
    assert (loss.frozen, loss.evergreen, loss.hindsight) == (10.0, 6.5, 6.0)
    assert loss.share(loss.evergreen) == pytest.approx(0.875)
    assert loss.share(loss.frozen) == 0
    chances = [make_period(n, frozen=0.6, evergreen=0.7, hindsight=0.8) for n in (0, 1)]
    assert Replayed("m", Metric("auc"), EVERY, first, tuple(chances)).share(0.7) == pytest.approx(0.5)
    none = make_period(0, hindsight=10.0)
    assert math.isnan(Replayed("m", Metric("mae"), EVERY, first, (none, none)).share(10.0))


def test_below_frozen_only_beyond_the_interval() -> None:
    assert make_period(low=-3.0, high=-0.1).below_frozen
    assert not make_period(low=-3.0, high=0.1).below_frozen
    assert not make_period(low=math.nan, high=math.nan).below_frozen
