"""Which rows of a snapshot a step gets, and how many of them lie in memory together."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from evergreen.core import read_rows
from evergreen.core.memory_estimate import FRAME_CELLS
from evergreen.core.read_rows import rows_within
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
