"""pull: which rows become a snapshot, and that a second time changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.data import AS_OF, START, make_rows, make_spec, open_request, write_sqlite

import champions
from evergreen.adapters.sql_source import SqlSource
from evergreen.core import bundle
from evergreen.core.errors import EmptyWindow, SourceError, SourceUnavailable
from evergreen.core.ports import Ledger
from evergreen.core.records import Snapshot
from evergreen.core.spec import ModelSpec
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.snapshots import InMemorySnapshots
from evergreen.fakes.source import FakeSource
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.pull import pull
from records import make_request_args


class World:
    """Fakes that a test can look into."""

    def __init__(self, rows: pl.DataFrame | None = None, **changes: object) -> None:
        self.spec: ModelSpec = make_spec(**changes)
        self.source = FakeSource(make_rows() if rows is None else rows, self.spec.source, chunk_rows=70)
        self.ledger: Ledger = in_memory_ledger()
        self.snapshots, self.store = InMemorySnapshots(), InMemoryStore()
        self.request_id = open_request(self.ledger)

    def pull(self) -> Snapshot:
        return pull(
            self.spec,
            self.ledger,
            self.source,
            self.snapshots,
            self.store,
            request_id=self.request_id,
            lease=None,
        )

    def rows(self) -> pl.DataFrame:
        return self.snapshots.read(self.pull().parts)


def test_the_window_ends_at_as_of_and_starts_where_the_spec_says() -> None:
    world = World()
    snapshot = world.pull()
    rows = world.snapshots.read(snapshot.parts)
    assert snapshot.start == AS_OF - timedelta(days=9)
    assert snapshot.start <= rows["at"].min() < snapshot.start + timedelta(minutes=30)  # type: ignore[operator]
    assert AS_OF - timedelta(minutes=30) < rows["at"].max() <= AS_OF  # type: ignore[operator]
    assert rows.columns == ["id", "at", "hour", "wind", "carrier", "late"]
    assert sum(part.rows for part in snapshot.parts) == snapshot.rows == rows.height


def test_rows_later_than_as_of_are_left_out_even_with_a_label() -> None:
    world = World()
    early = world.source.frame.filter(pl.col("at") > AS_OF)
    assert early["late"].count() > 0
    assert world.rows().join(early, on="id").is_empty()


def test_rows_without_a_label_are_left_out_and_counted() -> None:
    snapshot = World().pull()
    assert snapshot.unlabelled == 18
    assert snapshot.rows == 864 - 18


def test_nan_is_no_label() -> None:
    rows = make_rows().with_columns(late=pl.col("late").cast(pl.Float64).fill_null(float("nan")))
    assert World(rows).pull().unlabelled == 18


def test_less_history_than_the_window_is_taken_as_it_is() -> None:
    rows = make_rows().filter(pl.col("at") >= START + timedelta(days=7))
    assert World(rows).pull().rows == 288 - 6


def test_pulled_again_it_is_the_same_snapshot() -> None:
    world = World()
    first = world.pull()
    kept = dict(world.snapshots.frames)
    assert world.pull() == first
    assert world.ledger.models.snapshot("flights", first.id) == first
    assert world.snapshots.frames.keys() == kept.keys()


def test_the_same_rows_in_another_order_are_the_same_snapshot() -> None:
    shuffled = make_rows().sample(fraction=1, shuffle=True, seed=1)
    assert World(shuffled).pull().id == World().pull().id


def test_one_changed_value_is_another_snapshot() -> None:
    changed = make_rows().with_columns(hour=pl.when(pl.col("id") == "f500").then(0).otherwise("hour"))
    assert World(changed).pull().id != World().pull().id


# ---------------------------------------------------------------- the columns of the champion


def crown(world: World, **spec: object) -> str:
    """Make a model of this spec the champion; returns its bundle."""
    rows = make_rows().with_columns(gusts=pl.col("hour") / 2, gone=pl.col("hour"))
    return champions.crown(world.ledger, world.store, make_spec(**spec), rows)


OLD = {"columns": ["gusts", "hour", "carrier"], "categorical": ["carrier"]}


def test_columns_that_only_the_champion_needs_are_kept_after_the_specs_own() -> None:
    world = World(make_rows().with_columns(gusts=pl.col("hour") / 2, other=pl.lit(1)))
    plain = world.pull()
    crown(world, features=OLD)
    rows = world.rows()
    assert rows.columns == ["id", "at", "hour", "wind", "carrier", "late", "gusts"]
    assert rows["gusts"].to_list() == (rows["hour"] / 2).to_list()
    assert world.pull().rows == plain.rows


def test_a_champion_of_the_same_columns_changes_no_snapshot() -> None:
    world = World()
    before = world.pull()
    crown(world)
    assert world.pull() == before
    crown_of_fewer = World()
    crown(crown_of_fewer, features={"columns": ["hour"]})
    assert crown_of_fewer.pull() == before


def test_a_column_that_the_source_no_longer_has_is_left_out() -> None:
    world = World()
    before = world.pull()
    crown(world, features=OLD)
    assert world.pull() == before


def test_the_others_are_read_where_one_is_gone() -> None:
    world = World(make_rows().with_columns(gusts=pl.col("hour") / 2))
    crown(world, features={"columns": ["gone", "gusts"]})
    assert world.rows().columns[-1] == "gusts"


def test_a_source_that_does_not_answer_is_asked_again_for_all_columns() -> None:
    class Shaky(FakeSource):
        """Does not answer the first read."""

        def read(self, *asked: Any, **types: Any) -> Iterator[pl.DataFrame]:
            self.answers, answers = True, self.answers
            if not answers:
                raise SourceUnavailable("source", found="no answer", allowed="an answer", do="Wait.")
            return super().read(*asked, **types)

        def types(self, columns: Sequence[str], start: datetime, end: datetime) -> Mapping[str, pl.DataType]:
            return {name: self.frame.schema[name] for name in columns}

        def estimate(self, start: datetime, end: datetime) -> int:
            return 0

        def columns(self) -> frozenset[str]:
            return frozenset(self.frame.columns)

    world = World()
    world.source = Shaky(make_rows().with_columns(gusts=pl.col("hour") / 2), world.spec.source)
    world.source.answers = False
    crown(world, features=OLD)
    with pytest.raises(SourceUnavailable):
        world.pull()
    assert "gusts" in world.rows().columns


def test_a_champion_whose_bundle_cannot_be_read_stops_nothing() -> None:
    world = World(make_rows().with_columns(gusts=pl.col("hour") / 2))
    before = world.pull()
    world.store.put(bundle.key(crown(world, features=OLD), bundle.SCHEMA), b"{}")
    assert world.pull() == before


def test_a_champions_column_that_the_source_cannot_give_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    url = write_sqlite(tmp_path / "w.db", make_rows().with_columns(gusts=pl.col("hour") / 2))
    with sqlite3.connect(tmp_path / "w.db") as db:
        db.execute("UPDATE flights SET gusts = 'strong' WHERE id = 'f500'")
    db.close()
    world.source = SqlSource(url, world.spec.source)
    before = world.pull()
    crown(world, features=OLD)
    assert world.pull() == before
    assert "Read without gusts, which only the champion needs" in caplog.text
    world.spec = make_spec(features=OLD)
    with pytest.raises(SourceError, match=r"column 'gusts': found 'strong'"):
        world.pull()


def test_a_request_may_ask_for_a_shorter_training_window() -> None:
    world = World()
    asked = make_request_args(model="flights", run_id="r", dedupe_key="r", as_of=AS_OF, detail={"window_train": "2d"})
    world.request_id = world.ledger.requests.open(**asked).id
    assert world.pull().start == AS_OF - timedelta(days=5)


def test_an_empty_window() -> None:
    with pytest.raises(EmptyWindow, match="9 days"):
        World(make_rows(days=1)).pull()
    world = World(make_rows().clear())
    world.request_id = open_request(world.ledger, None)
    with pytest.raises(EmptyWindow, match="no row at all"):
        world.pull()


LATE, HOUR, ID = pl.col("late"), pl.col("hour"), pl.col("id")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (LATE.replace_strict({0: None, 1: 1}, default=None), r"'late'.*found 5\d\.\d% of 864.*at most 10.0%"),
        (pl.lit(None, dtype=pl.Int64).alias("late"), "'late'.*no label in any of 864 rows"),
        (pl.when(LATE == 1).then(2).otherwise(LATE).alias("late"), "'late'.*found 2 .*allowed: 0 and 1"),
        (LATE.cast(pl.String), r"'late'.*found '0', .*String.*allowed: 0 and 1"),
        (HOUR.cast(pl.String), "'hour'.*found type String.*allowed: numbers or true/false"),
        (pl.col("wind").alias("carrier"), r"'carrier'.*found type Float64.*a category"),
        (ID.replace({"f300": "f302", "f500": "f799"}), "'id'.*found 2 keys more than once, for example 'f302', 'f799'"),
        (ID.replace({"f300": None}), "'id'.*found 1 rows without a key"),
    ],
)
def test_what_cannot_be_used_is_named(change: pl.Expr, says: str) -> None:
    world = World(make_rows().with_columns(change))
    with pytest.raises(SourceError, match=says):
        world.pull()
    assert not world.ledger.pulled_days.of("flights")


@pytest.mark.parametrize(
    ("task", "metric", "label", "allowed"),
    [
        ("multiclass_classification", "accuracy", 1.5, "whole numbers from 0"),
        ("multiclass_classification", "accuracy", -1, "whole numbers from 0"),
        ("multiclass_classification", "accuracy", float("inf"), "whole numbers from 0"),
        ("regression", "mae", float("inf"), "finite numbers"),
    ],
)
def test_labels_of_other_tasks(task: str, metric: str, label: float, allowed: str) -> None:
    rows = make_rows().with_columns(late=pl.when(pl.col("id") == "f500").then(label).otherwise("late"))
    with pytest.raises(SourceError, match=f"found {label} .*{allowed}"):
        World(rows, task=task, gates=[{"metric": metric, "min": 0}]).pull()
    assert World(make_rows(), task=task, gates=[{"metric": metric, "min": 0}]).pull().rows == 846


def test_whole_numbers_and_truth_values_are_categories_too() -> None:
    for kind in (pl.Int64, pl.Boolean):
        rows = make_rows().with_columns(carrier=(pl.col("hour") % 2).cast(kind))
        assert World(rows).pull().rows == 846


def test_a_window_that_is_chosen_reads_all_that_may_be_chosen_and_not_what_lies_between() -> None:
    window = {"train": "auto", "tried": ["6h", "12h"], "season": "4d", "holdout": {"length": "12h", "min_rows": 50}}
    world = World(window=window)
    snapshot, rows = world.pull(), world.rows()
    hour, label = timedelta(hours=1), world.spec.label.arrives_after
    train_end = AS_OF - 12 * hour - label
    oldest_cut = train_end - 4 * 12 * hour - label
    assert snapshot.start == oldest_cut - timedelta(days=4)
    ends, begins = train_end - timedelta(days=4) + 6 * hour, oldest_cut - 12 * hour
    assert ends < begins
    assert rows.filter(pl.col("at").is_between(ends, begins, "none")).is_empty()
    assert rows.filter(pl.col("at") <= ends).height > 0
    assert rows["at"].is_sorted()
