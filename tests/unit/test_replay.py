"""`evergreen replay`: the real steps, XGBoost and SQLite over half a year that changes in its middle."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from commands import Run
from evergreen import wiring
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.adapters.sql_source import SqlSource
from evergreen.core.errors import FoundProblem
from evergreen.core.metrics import Metric
from evergreen.core.replayed import Attempt, Period, Replayed
from evergreen.core.spec import ModelSpec
from evergreen.core.train_key import Provenance
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.validator import FakeValidator
from evergreen.replay import Order, Tools, replay
from evergreen.replay.past_source import PastSource
from spec_project import make_project, write_suite

DAY = timedelta(days=1)
BEGIN, DAYS, PER_DAY = datetime(2013, 1, 1, tzinfo=UTC), 120, 24
START, END, EVERY = BEGIN + 40 * DAY, BEGIN + 120 * DAY, 10 * DAY
DRIFTS = BEGIN + 70 * DAY
SPEC = """\
name: NAME
task: regression
source: {connection: warehouse, table: rows, event_time: at, key: id}
label: {column: y, arrives_after: 1d}
features: {columns: [x, z]}
window: {train: 20d, holdout: {length: 5d, min_rows: 50}}
triggers: TRIGGERS
validation: {suite: NAME}
training:
  params: {max_depth: 3, learning_rate: 0.3}
  rounds: {max: 30, early_stopping: 5}
gates:
  - {metric: mae, max: 5}
  - {metric: mae, against: champion, min_point_delta: 0}
  - {metric: latency_p99_ms, max: 100}
"""
MADE_WITH = Provenance(code_revision="abc", lock_hash="lock", folder_hash="folder")
EACH_WEEK, EACH_240_ROWS = '[{schedule: "0 3 * * 0"}]', "[{new_data: {min_rows: 240}}]"


def make_rows(*, drifts: datetime | None = DRIFTS) -> pl.DataFrame:
    """A row an hour; y follows x, and from `drifts` on its opposite."""
    random = np.random.default_rng(7)
    count = DAYS * PER_DAY
    at = [BEGIN + timedelta(hours=hour) for hour in range(count)]
    x, z = random.normal(size=count), random.normal(size=count)
    sign = np.array([-1 if drifts and moment >= drifts else 1 for moment in at])
    y = 2 * sign * x + random.normal(scale=0.3, size=count)
    return pl.DataFrame({"id": [f"r{n}" for n in range(count)], "at": at, "x": x, "z": z, "y": y})


def write_warehouse(path: Path, rows: pl.DataFrame) -> str:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE rows (id TEXT, at TEXT, x REAL, z REAL, y REAL)")
        texts = rows.with_columns(pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S"))
        db.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", texts.rows())
    db.close()
    return f"sqlite:///{path}"


class World:
    """A project with one model of synthetic rows in SQLite."""

    def __init__(self, root: Path) -> None:
        self.root, self.rows = root, make_rows()
        write_suite(make_project(root, "delay"), "delay", *_expectations())
        (root / "requirements.txt").write_text("")
        self.declare(EACH_WEEK)
        self.url = write_warehouse(root / "warehouse.db", self.rows)

    def declare(self, triggers: str) -> None:
        text = SPEC.replace("NAME", "delay").replace("TRIGGERS", triggers)
        (self.root / "models" / "delay" / "model.yaml").write_text(text)

    @property
    def spec(self) -> ModelSpec:
        from evergreen.core.catalog import load_catalog

        catalog = load_catalog(self.root)
        assert not catalog.problems
        return catalog.specs["delay"]

    def replay(self, end: datetime = END) -> Replayed:
        spec, store = self.spec, InMemoryStore()
        trainer = wiring.trainer(pictures=False)
        suite = {"name": "delay", "expectations": list(_expectations())}
        tools = Tools(store, ParquetSnapshots(store), trainer, FakeValidator(), suite, "sha-of-suite", MADE_WITH)
        return replay(Order(spec, START, end, EVERY), SqlSource(self.url, spec.source), tools)


def _expectations() -> Iterator[dict[str, Any]]:
    yield {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}, "meta": {}}


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


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_table_and_writes_chart_and_page(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERGREEN_PROJECT", str(world.root))
    monkeypatch.setenv("EVERGREEN_CONN_WAREHOUSE", world.url)
    words = ("replay", "delay", "--from", "2013-02-10", "--to", "2013-03-02", "--every", "10d")
    told = run(*words, "--chart", str(tmp_path / "c.png"), "--html", str(tmp_path / "r.html"))
    assert told.status == 0, told.err
    assert told.err == ""  # no bar where nobody looks
    assert all(len(line) <= 80 for line in told.out.splitlines())
    assert "until" in told.out
    assert "Gap from frozen to best in hindsight closed: Evergreen" in told.words
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<tr>") == 2 + 2
    assert "http" not in page.replace("xmlns", "")
    plain = run(*words, "--json").json
    assert json.dumps(plain, allow_nan=False)
    assert [period["end"][:10] for period in plain["periods"]] == ["2013-02-20", "2013-03-02"]
    assert plain["retrains"]["every_period"] == 1
