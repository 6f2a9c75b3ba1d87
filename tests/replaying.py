"""A model over four months that change in their middle, to be replayed: the real steps, and SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from evergreen import wiring
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.adapters.sql_source import SqlSource
from evergreen.core.replayed import Replayed
from evergreen.core.spec import ModelSpec
from evergreen.core.train_key import Provenance
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.trainer import FakeTrainer
from evergreen.fakes.validator import FakeValidator
from evergreen.replay import Order, Tools, replay
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
MORE"""
MADE_WITH = Provenance(code_revision="abc", lock_hash="lock", folder_hash="folder")
WATCHED = "monitoring: {window: 2d, min_rows: 20}\n"
WORSE_THAN_1 = "[{metric: {name: quality.realised.mae, above: 1, cooldown: 3d}}]"
EACH_WEEK, EACH_240_ROWS = '[{schedule: "0 3 * * 0"}]', "[{new_data: {min_rows: 240}}]"


def make_rows(*, returns: datetime | None = None) -> pl.DataFrame:
    """A row an hour; y follows x, and from DRIFTS on its opposite, until it is as before from `returns` on."""
    random = np.random.default_rng(7)
    count = DAYS * PER_DAY
    at = [BEGIN + timedelta(hours=hour) for hour in range(count)]
    x, z = random.normal(size=count), random.normal(size=count)
    sign = np.array([-1 if DRIFTS <= moment < (returns or END) else 1 for moment in at])
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
        write_suite(make_project(root, "delay"), "delay", *expectations())
        (root / "requirements.txt").write_text("")
        self.declare(EACH_WEEK)
        self.url = write_warehouse(root / "warehouse.db", self.rows)

    def declare(self, triggers: str, more: str = "") -> None:
        text = SPEC.replace("NAME", "delay").replace("TRIGGERS", triggers).replace("MORE", more)
        (self.root / "models" / "delay" / "model.yaml").write_text(text)

    @property
    def spec(self) -> ModelSpec:
        from evergreen.core.catalog import load_catalog

        catalog = load_catalog(self.root)
        assert not catalog.problems
        return catalog.specs["delay"]

    def replay(self, end: datetime = END, *, real: bool = False) -> Replayed:
        """`real`: with XGBoost; else a straight line is fitted."""
        spec, store = self.spec, InMemoryStore()
        trainer = wiring.trainer(pictures=False) if real else FakeTrainer()
        suite = {"name": "delay", "expectations": list(expectations())}
        tools = Tools(store, ParquetSnapshots(store), trainer, FakeValidator(), suite, "sha-of-suite", MADE_WITH)
        return replay(Order(spec, START, end, EVERY), SqlSource(self.url, spec.source), tools)


def expectations() -> Iterator[dict[str, Any]]:
    yield {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}, "meta": {}}
