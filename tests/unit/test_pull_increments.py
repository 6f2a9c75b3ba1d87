"""pull: what is read again, and that it makes no difference to the snapshot."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from tests.data import NOW, START, make_rows, make_spec

from evergreen.core.errors import RowsRefused, SourceUnavailable
from evergreen.core.records import Cause, PulledDay, RequestState, Snapshot
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.snapshots import InMemorySnapshots
from evergreen.fakes.source import FakeSource
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.pull import pull
from evergreen.steps.read_days import DayReader

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


class Counted(FakeSource):
    """Notes which days are read; stops to answer after `breaks` chunks."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.read_days: set[date] = set()
        self.breaks: int | None = None

    def read(self, *asked: Any, **named: Any) -> Iterator[pl.DataFrame]:
        for number, chunk in enumerate(super().read(*asked, **named)):
            if self.breaks is not None and number >= self.breaks:
                raise SourceUnavailable("source", found="no answer", allowed="an answer", do="Wait.")
            self.read_days |= set(chunk["at"].dt.date())
            yield chunk


class World:
    """A model whose window is nine days, of a source that grows."""

    def __init__(self, rows: pl.DataFrame | None = None, lateness: str = "3d", **changes: Any) -> None:
        source = {"connection": "warehouse", "table": "flights", "event_time": "at", "key": "id", "lateness": lateness}
        self.spec = make_spec(**{"source": source, "label": {"column": "late", "arrives_after": "1d"}} | changes)
        self.source = Counted(make_rows(30) if rows is None else rows, self.spec.source, chunk_rows=50)
        self.ledger, self.snapshots = in_memory_ledger(), InMemorySnapshots()

    def request(self, days: int, cause: Cause = Cause.SCHEDULE, **detail: str) -> str:
        """The id of one whose window ends with that many days of data."""
        as_of = START + days * DAY - INSTANT
        request = self.ledger.requests.open(
            model="flights", source="s", cause=cause, dedupe_key=f"{days} {cause} {random.random()}", run_id=None,
            watermark=as_of + DAY, as_of=as_of, detail=detail, now=NOW,
        )  # fmt: skip
        return self.ledger.requests.mark(request.id, now=NOW, state=RequestState.CLAIMED).id

    def pull(self, request_id: str) -> Snapshot:
        self.source.read_days = set()
        return pull(
            self.spec, self.ledger, self.source, self.snapshots, InMemoryStore(), request_id=request_id, lease=None
        )

    def kept(self) -> list[PulledDay]:
        return self.ledger.pulled_days.of("flights")

    @property
    def again(self) -> list[int]:
        """The numbers of the days that the last pull read."""
        return sorted((day - START.date()).days for day in self.source.read_days)


def whole(world: World, days: int) -> Snapshot:
    """The same window, read by a platform that knows nothing."""
    other = World(world.source.frame)
    other.spec = world.spec
    return other.pull(other.request(days))


def test_a_day_later_only_new_and_unsettled_days_are_read() -> None:
    world = World()
    world.pull(world.request(12))
    assert world.again == list(range(3, 12))
    second = world.pull(world.request(13))
    assert world.again == [10, 11, 12]  # of the others, all were older than three days then
    assert second == whole(world, 13)


def test_nothing_is_read_where_nothing_can_have_changed() -> None:
    world = World(lateness="0s")
    first = world.pull(world.request(12))
    assert world.pull(world.request(12)) == first
    assert world.again == []


def test_a_person_reads_all_anew() -> None:
    world = World(lateness="0s")
    world.pull(world.request(12))
    changed = pl.when(pl.col("at") < START + 6 * DAY).then(99.0).otherwise("wind").alias("wind")
    world.source.frame = world.source.frame.with_columns(changed)
    before = world.pull(world.request(12))
    assert before != whole(world, 12)  # repaired in place, long ago: no trigger looks there
    assert world.pull(world.request(12, Cause.PERSON)) == whole(world, 12)
    assert world.pull(world.request(12)) == whole(world, 12)


def test_landed_late_and_changed_rows_make_the_same_snapshot_as_a_platform_that_reads_all() -> None:
    for seed in range(12):
        chance = random.Random(seed)
        lateness = chance.choice([1, 2, 4])
        final = make_rows(26, per_day=12)
        world = World(final.clear(), lateness=f"{lateness}d")
        arrives, changes = (pl.Series([chance.random() * (lateness - 1) for _ in range(len(final))]) for _ in "ab")
        for days in sorted(chance.sample(range(11, 25), 7)):
            watermark = START + (days + 1) * DAY - INSTANT
            age = pl.lit(watermark) - pl.col("at")
            there = age >= pl.lit(arrives) * DAY
            world.source.frame = final.with_columns(
                wind=pl.when(age >= pl.lit(changes) * DAY).then("wind").otherwise(-1.0)
            ).filter(there & (pl.col("at") <= watermark))
            request = world.request(days, chance.choice([Cause.SCHEDULE, Cause.NEW_DATA, Cause.METRIC, Cause.PERSON]))
            assert world.pull(request).id == whole(world, days).id, f"seed {seed}, day {days}"


def test_after_an_outage_the_retry_reads_the_rest_and_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.steps.read_days.AT_ONCE", 90)
    world = World(lateness="30d")  # nothing is ever settled
    wanted, request = whole(world, 12), world.request(12)
    for chunks in (5, 7):
        world.source.breaks = chunks
        with pytest.raises(SourceUnavailable):
            world.pull(request)
    known = {day.day for day in world.kept()}
    world.source.breaks = None
    assert world.pull(request) == wanted
    assert len(known) > 3
    assert not known & world.source.read_days
    assert world.pull(request) == wanted  # done with: who runs it again reads what may have changed
    assert world.again == list(range(3, 12))


def test_after_a_refusal_nothing_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.steps.read_days.AT_ONCE", 1)
    rows = make_rows(30)
    world = World(rows.with_columns(late=pl.when(pl.col("at") < START + 5 * DAY).then(7).otherwise("late")))
    before = set(threading.enumerate())
    with pytest.raises(RowsRefused, match=r"found 7 \(Int") as refused:
        world.pull(world.request(12))
    assert refused.tb  # which holds the frames of what was at work
    assert set(threading.enumerate()) <= before
    assert START.date() + 11 * DAY not in world.source.read_days


def test_what_another_request_had_begun_is_not_gone_on_with() -> None:
    world = World(lateness="30d")
    first = world.request(12)
    world.pull(first)
    world.ledger.pulled_days.keep([replace(day, finished=False) for day in world.kept()])
    world.pull(world.request(12))
    assert len(world.again) >= 9


def test_a_part_that_is_gone_is_read_again() -> None:
    world = World(lateness="0s")
    first = world.pull(world.request(12))
    del world.snapshots.frames[first.parts[4].key]
    assert world.pull(world.request(12)) == first
    assert [START.date() + n * DAY for n in world.again] == [first.parts[4].day]


def test_other_columns_or_types_are_another_reading() -> None:
    world = World(lateness="0s")
    world.pull(world.request(12))
    world.source.frame = world.source.frame.with_columns(pl.col("hour").cast(pl.Float64))
    changed = world.pull(world.request(12))
    assert len(world.again) >= 9
    assert changed == whole(world, 12)


def test_a_shorter_window_reads_the_part_of_a_day_that_it_wants() -> None:
    world = World(lateness="0s")
    world.pull(world.request(12))
    request = world.request(12, Cause.SCHEDULE, window_train="36h")
    snapshot = world.pull(request)
    assert snapshot.start == START + 12 * DAY - INSTANT - timedelta(hours=36) - 3 * DAY
    assert world.again == [(snapshot.start - START).days]


def test_a_key_of_a_new_day_that_an_old_day_has_is_found() -> None:
    world = World(lateness="0s")
    world.pull(world.request(12))
    new = pl.col("at").dt.date() == START.date() + 12 * DAY
    world.source.frame = world.source.frame.with_columns(
        id=pl.when(new & (pl.col("id") == "f1200")).then(pl.lit("f700")).otherwise("id")
    )
    for _ in range(2):
        with pytest.raises(RowsRefused, match=r"found 1 keys more than once, for example 'f700'"):
            world.pull(world.request(13))
    assert len(world.again) >= 9  # all of it: somebody may have repaired any of them
    world.source.frame = make_rows(30)
    assert world.pull(world.request(13)) == whole(world, 13)


def test_keys_of_days_that_never_were_in_one_window_are_compared() -> None:
    world = World(lateness="0s")
    rows = make_rows(40)
    twice = pl.when(pl.col("id") == "f1400").then(pl.lit("f700")).otherwise("id")
    world.source.frame = rows.with_columns(id=twice)
    world.pull(world.request(12))  # days 3 to 11, f700 in day 7
    world.pull(world.request(15, window_train="1h"))  # days 11 to 14, f1400 in day 14
    with pytest.raises(RowsRefused, match="f700"):
        world.pull(world.request(15))  # both are kept: only together they are wrong


def test_labels_are_counted_over_kept_days_too() -> None:
    world = World(lateness="0s", label={"column": "late", "arrives_after": "1d", "max_missing": 0.1})
    world.pull(world.request(12))
    late = pl.when(pl.col("at") < START + 12 * DAY).then("late")
    world.source.frame = world.source.frame.with_columns(late.alias("late"))
    world.spec = world.spec.model_copy(update={"label": world.spec.label.model_copy(update={"max_missing": 0.3})})
    snapshot = world.pull(world.request(13))
    assert snapshot.unlabelled == whole(world, 13).unlabelled > 96
    assert len(snapshot.parts) == 8  # the day without a label has no part …
    assert world.pull(world.request(13)) == snapshot
    assert world.again == []  # … and is not read again either


def test_days_without_a_row_are_remembered() -> None:
    gap = make_rows(30).filter(~pl.col("at").is_between(START + 6 * DAY, START + 8 * DAY))
    world = World(gap, lateness="0s")
    first = world.pull(world.request(12))
    assert [day.rows for day in world.kept()].count(0) >= 1
    asked: list[Any] = []
    world.source.read = lambda *args, **_: asked.append(args) or iter(())  # type: ignore[method-assign, assignment]
    assert world.pull(world.request(12)) == first
    assert not asked


def test_progress_is_told(caplog: pytest.LogCaptureFixture) -> None:
    world = World(lateness="0s")
    with caplog.at_level("INFO"):
        world.pull(world.request(12))
    assert "Reading about 864 rows of 10 days; 0 days are there already" in caplog.text
    assert "10 of 10 days read, 864 rows" in caplog.text


def test_a_window_that_begins_at_midnight_is_whole_days() -> None:
    world = World()
    at = START + 12 * DAY - INSTANT
    world.pull(world.request(12))
    assert {(day.start, day.end) for day in world.kept() if day.day == at.date()} == {(START + 11 * DAY, at)}


def test_a_day_that_was_wanted_in_two_pieces_is_read_again_where_it_is_wanted_whole() -> None:
    world = World(lateness="0s")
    request = world.ledger.requests.get(world.request(12))
    reader = DayReader(world.spec, world.ledger, world.source, world.snapshots, request, None)
    begins, ends = START + 5 * DAY, START + 8 * DAY - INSTANT
    pieces = [(begins, begins + 1.25 * DAY), (begins + 1.5 * DAY, ends)]  # six hours of the second day are left out
    for _ in range(2):
        read = reader.read(pieces, world.spec.columns)
        assert [day.rows + day.unlabelled for day in read.days] == [96, 73, 96]
        reader.finish(read)
    read = reader.read([(begins, ends)], world.spec.columns)
    assert [day.rows + day.unlabelled for day in read.days] == [96, 96, 96]
