"""Bad data against the real adapters: SQLite, Parquet, Great Expectations and the ledger in a file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.data import SUITE, make_rows, make_spec, open_request, write_sqlite

from champions import crown
from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.gx_validator import GxValidator
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.adapters.sql_source import SqlSource
from evergreen.core import data_docs
from evergreen.core.errors import EmptyWindow, SourceError, SourceUnavailable, ValidationStopped
from evergreen.core.records import Snapshot
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.pull import pull
from evergreen.steps.validate import validate


class World:
    """Everything real but the registry."""

    def __init__(self, folder: Path) -> None:
        self.spec, self.folder = make_spec(), folder
        self.ledger, self.store = open_ledger(f"sqlite:///{folder / 'ledger.db'}"), FileStore(str(folder / "store"))
        self.snapshots, self.registry = ParquetSnapshots(self.store), FakeRegistry()
        self.request_id = open_request(self.ledger)

    def pull(self, rows: pl.DataFrame) -> Snapshot:
        source = SqlSource(write_sqlite(self.folder / "warehouse.db", rows), self.spec.source, chunk_rows=250)
        return pull(self.spec, self.ledger, source, self.snapshots, self.store, request_id=self.request_id, lease=None)

    def validate(self, rows: pl.DataFrame, suite: dict[str, Any] = SUITE) -> Snapshot:
        ids = {"request_id": self.request_id, "snapshot_id": self.pull(rows).id, "suite_sha256": "5" * 64}
        validator = GxValidator(self.store, DuckdbWindow())
        args = (self.spec, self.ledger, self.snapshots, validator, self.registry, self.store, suite)
        return validate(*args, **ids, lease=None)

    def result(self) -> Any:
        (run,) = self.registry.runs.values()
        return json.loads(run.files["validation/result.json"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def bad_hours(every: int) -> pl.DataFrame:
    """One impossible hour in so many labelled rows."""
    bad = pl.int_range(pl.len()) % every == 2
    return make_rows().with_columns(hour=pl.when(bad).then(99).otherwise("hour"))


def test_good_data_passes_and_again_changes_nothing(world: World) -> None:
    first = world.validate(make_rows())
    assert (first.rows, first.unlabelled, first.quarantined) == (846, 18, 0)
    keys = world.store.keys("")
    assert world.validate(make_rows()) == first
    assert world.store.keys("") == keys


def test_an_unreachable_source(world: World) -> None:
    source = SqlSource("postgresql://evergreen:s3cret@127.0.0.1:9/flights", world.spec.source)
    with pytest.raises(SourceUnavailable, match="start the run again") as raised:
        pull(world.spec, world.ledger, source, world.snapshots, world.store, request_id=world.request_id, lease=None)
    assert raised.value.retryable
    assert "s3cret" not in str(raised.value)


def test_an_empty_window(world: World) -> None:
    with pytest.raises(EmptyWindow, match=r"widen window\.train"):
        world.pull(make_rows(days=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows.drop("wind"), "'wind': found no such column; allowed: id, at, hour, carrier, late"),
        (lambda rows: rows.rename({"wind": "winds"}), r"'wind': found no such column \(did you mean 'winds'\?\)"),
        (lambda rows: rows.rename({"at": "At"}), r"'at': found no such column \(did you mean 'At'\?\)"),
        (lambda rows: rows.with_columns(pl.format("{} kn", "wind").alias("wind")), "'wind'.*found type String"),
        (lambda rows: rows.with_columns(carrier=pl.lit(1.5)), "'carrier'.*found type Float64"),
        (lambda rows: rows.with_columns(pl.col("at").dt.strftime("%d.%m.%Y")), "'at': found '01.01.2013'"),
        (lambda rows: pl.concat([rows, rows.slice(302, 2)]), "'id'.*2 keys more than once, for example 'f302', 'f303'"),
        (lambda rows: rows.with_columns(late=pl.lit(None, dtype=pl.Int64)), "'late'.*no label in any of 864 rows"),
    ],
)
def test_a_source_that_is_not_what_the_spec_says(
    world: World, change: Callable[[pl.DataFrame], pl.DataFrame], says: str
) -> None:
    with pytest.raises(SourceError, match=says):
        world.pull(change(make_rows()))
    assert not world.ledger.pulled_days.of("flights")  # parts that were written belong to nothing


def test_five_percent_bad_rows_stop_the_run(world: World) -> None:
    with pytest.raises(ValidationStopped) as raised:
        world.validate(bad_hours(every=20))
    message = str(raised.value)
    assert "43 of 846 rows (5.08%) fail expectations, and at most 1.00% may be set aside" in message
    assert "expect_column_values_to_be_between (hour) failed: " in message
    assert "43 rows, for example 99 (id f1" in message
    assert "evergreen retrain flights" in message
    assert len(message) < 1000
    (failed,) = (r for r in world.result()["results"] if not r["success"])
    assert failed["result"]["unexpected_count"] == 43
    assert world.store.keys("quarantine/") == [data_docs.key("flights", world.request_id)]  # the page, and no rows


def test_half_a_percent_is_set_aside_and_kept_as_parquet(world: World) -> None:
    clean = world.validate(bad_hours(every=200))
    assert (clean.rows, clean.quarantined, clean.unlabelled) == (846 - 4, 4, 18)
    (key,) = world.store.keys("quarantine/flights/")
    kept = pl.read_parquet(io.BytesIO(world.store.get(key)))
    assert kept["hour"].to_list() == [99] * 4
    assert set(kept["failed_expectation"]) == {"expect_column_values_to_be_between (hour)"}
    rest = world.snapshots.read(clean.parts)
    assert rest["hour"].max() == 23
    assert rest.join(kept, on="id").is_empty()
    assert world.ledger.models.snapshot("flights", clean.id) == clean


def test_text_where_the_suite_compares_numbers_stops_as_errored(world: World) -> None:
    compares = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "carrier", "min_value": 0}}
    suite = {"name": "s", "expectations": [*SUITE["expectations"], compares]}
    with pytest.raises(ValidationStopped, match=r"between \(carrier\) errored: .*None or of the same type"):
        world.validate(make_rows(), suite)
    assert world.result()["success"] is False


def test_a_suite_knows_nothing_of_columns_that_only_the_champion_needs(world: World) -> None:
    rows = bad_hours(every=200).with_columns(gusts=pl.col("hour") / 2)
    old = make_spec(features={"columns": ["hour", "gusts"]})
    crown(world.ledger, world.store, old, rows)
    exact = {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": world.spec.columns}}
    clean = world.validate(rows, {"name": "s", "expectations": [*SUITE["expectations"], exact]})
    assert "gusts" in world.snapshots.read(clean.parts).columns
    (key,) = world.store.keys("quarantine/flights/")
    assert "gusts" in pl.read_parquet(io.BytesIO(world.store.get(key))).columns
