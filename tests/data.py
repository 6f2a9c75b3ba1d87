"""A small source of flights and the spec that reads it, for tests of the data steps."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from evergreen.core.ports import Ledger
from evergreen.core.records import Cause, RequestState
from evergreen.core.spec import ModelSpec

START = datetime(2013, 1, 1, tzinfo=UTC)
AS_OF = START + timedelta(days=10, minutes=-1)
NOW = datetime(2025, 3, 1, tzinfo=UTC)
SUITE: dict[str, Any] = {
    "name": "flights",
    "expectations": [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "min_value": 0, "max_value": 23}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "carrier", "value_set": ["AA", "UA"]}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "wind", "mostly": 0.5}},
    ],
}


def make_spec(**changes: Any) -> ModelSpec:
    """A binary model of flights: one day until the label is there, six days of training, two held out."""
    declared: dict[str, Any] = {
        "name": "flights",
        "owner": "ops@example.com",
        "task": "binary_classification",
        "source": {"connection": "warehouse", "table": "flights", "event_time": "at", "key": "id"},
        "label": {"column": "late", "arrives_after": "1d", "max_missing": 0.1},
        "features": {"columns": ["hour", "wind", "carrier"], "categorical": ["carrier"]},
        "window": {"train": "6d", "holdout": {"length": "2d", "min_rows": 10}},
        "validation": {"suite": "flights", "quarantine": {"max_fraction": 0.01}},
        "gates": [{"metric": "auc", "min": 0.5}],
    }
    return ModelSpec.model_validate(declared | changes)


def make_rows(days: int = 11, per_day: int = 96) -> pl.DataFrame:
    """Rows spread evenly over the days from the first of January 2013; every fourth wind is missing."""
    n = pl.int_range(days * per_day, eager=True)
    return pl.DataFrame({"n": n}).select(
        id=pl.format("f{}", "n"),
        at=pl.lit(START) + pl.duration(minutes=pl.col("n") * (24 * 60 // per_day)),
        hour=pl.col("n") % 24,
        wind=pl.when(pl.col("n") % 4 > 0).then(pl.col("n") / 7),
        carrier=pl.when(pl.col("n") % 3 == 0).then(pl.lit("AA")).otherwise(pl.lit("UA")),
        late=pl.when(pl.col("n") % 50 != 1).then(pl.col("n") % 2),
    )


def write_sqlite(path: Path, rows: pl.DataFrame) -> str:
    """The URL of a SQLite file that holds the rows as table `flights`, with a type for each column."""
    kinds = {pl.String: "TEXT", pl.Int64: "INTEGER", pl.Float64: "REAL"}
    columns = ", ".join(f"{name} {kinds.get(kind.base_type(), 'TEXT')}" for name, kind in rows.schema.items())
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE IF EXISTS flights")
        db.execute(f"CREATE TABLE flights ({columns})")
        texts = rows.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%d %H:%M:%S"))
        db.executemany(f"INSERT INTO flights VALUES ({', '.join('?' * rows.width)})", texts.rows())
    db.close()
    return f"sqlite:///{path}"


def open_request(ledger: Ledger, as_of: datetime | None = AS_OF, *, served: bool = False) -> str:
    """The id of a claimed (or served) request whose window ends at `as_of`."""
    request = ledger.requests.open(
        model="flights",
        source="warehouse/flights/at",
        cause=Cause.PERSON,
        dedupe_key=f"{as_of}",
        run_id=f"run-{as_of}",
        watermark=as_of and as_of + timedelta(days=1),
        as_of=as_of,
        detail={},
        now=NOW,
    )
    state = RequestState.SERVED if served else RequestState.CLAIMED
    return ledger.requests.mark(request.id, now=NOW, state=state).id
