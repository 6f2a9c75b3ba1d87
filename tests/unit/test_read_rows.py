"""Which rows of a snapshot a step gets, and how many of them lie in memory together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Event

import polars as pl
import pytest

from evergreen.core import read_rows
from evergreen.core.memory_estimate import FRAME_CELLS
from evergreen.core.read_rows import rows_once, rows_within
from evergreen.core.records import Part
from evergreen.core.rows import Rows
from evergreen.core.sampling import sample
from evergreen.fakes.snapshots import InMemorySnapshots
from training_data import AS_OF, make_rows, make_spec

SPEC = make_spec()
ROWS = make_rows(24 * 20, until=AS_OF + timedelta(hours=5))
SPANS = [
    (AS_OF - timedelta(days=18), AS_OF - timedelta(days=15, hours=3)),
    (AS_OF - timedelta(days=6, hours=1), AS_OF + timedelta(hours=2)),
]


@pytest.fixture(params=["one frame", "group by group"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rows:
    snapshots = InMemorySnapshots()
    parts = snapshots.write("m", ROWS.sample(fraction=1, shuffle=True, seed=3), "at", "id")
    if request.param != "one frame":
        monkeypatch.setattr(read_rows, "FRAME_CELLS", 1)
        monkeypatch.setattr(read_rows, "READ_CELLS", 60 * len(SPEC.columns))  # two days and a half
    return rows_within(SPEC, snapshots, parts[::-1], SPANS)


def test_the_rows_of_all_stretches_come_in_order_of_event_time(rows: Rows) -> None:
    wanted = ROWS.filter(pl.any_horizontal(pl.col("at").is_between(start, end) for start, end in SPANS))
    assert 0 < wanted.height < ROWS.height
    assert rows.frame().equals(wanted.select(SPEC.columns))
    assert rows.height == wanted.height
    assert rows.frame().equals(rows.frame())  # as often as one likes
    assert all(part.height for part in rows)
    assert max(part.height for part in rows) <= (60 if len(list(rows)) > 1 else FRAME_CELLS)


def test_some_of_them_are_those_that_a_frame_would_give(rows: Rows) -> None:
    assert rows.some(40).equals(sample(rows.frame(), 40))
    assert rows.some(40).height == 40
    assert rows.some(10_000).equals(rows.frame())


def test_where_no_day_has_a_row_there_is_none(rows: Rows) -> None:
    after = AS_OF + timedelta(days=30)
    assert rows_within(SPEC, InMemorySnapshots(), [], [(after, after)]).height == 0


class Counted(InMemorySnapshots):
    """Which days were read whole, and of which some columns were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[int] = []
        self.skimmed: list[tuple[int, ...]] = []

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        self.whole += [part.day.day for part in parts]
        return super().read(parts, columns)

    def skim(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        self.skimmed.append((part.day.day, len(columns or [])))
        return self._verified(part).select(columns or pl.all())


class Announced(Counted):
    """Says when more is read than the first days."""

    def __init__(self) -> None:
        super().__init__()
        self.more = Event()

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        rows = super().read(parts, columns)
        if len(self.whole) > len(parts):
            self.more.set()
        return rows


def test_the_next_rows_are_read_while_the_first_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_rows, "FRAME_CELLS", 1)
    monkeypatch.setattr(read_rows, "READ_CELLS", 60 * len(SPEC.columns))
    snapshots = Announced()
    rows = rows_within(SPEC, snapshots, snapshots.write("m", ROWS, "at", "id"), SPANS)
    assert next(iter(rows)).height
    assert snapshots.more.wait(10)


def test_few_rows_are_read_once_for_all_who_ask_for_the_same() -> None:
    snapshots = Counted()
    read = rows_once(SPEC, snapshots, snapshots.write("m", ROWS, "at", "id"))
    first = read(tuple(SPANS)).frame()
    days = list(snapshots.whole)
    assert read(tuple(SPANS)).frame().equals(first)
    assert snapshots.whole == days
    assert read((SPANS[0],)).height < first.height
    assert len(snapshots.whole) > len(days)


def test_many_rows_are_counted_without_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_rows, "FRAME_CELLS", 1)
    midnight = datetime(AS_OF.year, AS_OF.month, AS_OF.day, tzinfo=AS_OF.tzinfo)
    snapshots = Counted()
    parts = snapshots.write("m", ROWS, "at", "id")
    start, end = midnight - timedelta(days=9), midnight - timedelta(days=4, hours=-7)
    rows = rows_within(SPEC, snapshots, parts, [(start, end)])
    assert rows.height == ROWS.filter(pl.col("at").is_between(start, end)).height
    assert (snapshots.whole, snapshots.skimmed) == ([], [(end.day, 1)])  # of the others each row is in it
    assert rows.frame().height == rows.height
