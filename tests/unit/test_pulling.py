"""Windows cut at midnight, and streams cut into days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from tests.data import make_spec

from evergreen.core.pulling import Stretch, reading_of, stretches, to_read, whole_days

MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)
HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)


def test_a_span_is_cut_at_midnight_of_utc() -> None:
    first, second, third = stretches([(MIDNIGHT + 20 * HOUR, MIDNIGHT + 2 * DAY)])
    assert first == Stretch(date(2013, 1, 1), MIDNIGHT + 20 * HOUR, MIDNIGHT + DAY - INSTANT)
    assert second == Stretch(date(2013, 1, 2), MIDNIGHT + DAY, MIDNIGHT + 2 * DAY - INSTANT)
    assert third == Stretch(date(2013, 1, 3), MIDNIGHT + 2 * DAY, MIDNIGHT + 2 * DAY)


def test_what_is_left_to_read_is_one_span_between_kept_days() -> None:
    span = (MIDNIGHT + HOUR, MIDNIGHT + 9 * DAY)
    wanted = stretches([span])
    assert to_read(wanted, []) == [span]
    assert to_read(wanted, [one.day for one in wanted]) == []
    kept = [date(2013, 1, 4), date(2013, 1, 5)]
    assert to_read(wanted, kept) == [(span[0], MIDNIGHT + 3 * DAY - INSTANT), (MIDNIGHT + 5 * DAY, span[1])]
    apart = [(MIDNIGHT, MIDNIGHT + HOUR), (MIDNIGHT + 3 * HOUR, MIDNIGHT + 5 * HOUR)]
    assert to_read(stretches(apart), []) == apart


@pytest.mark.parametrize("chunk", [1, 3, 7, 24, 100])
@pytest.mark.parametrize("least", [1, 20, 50, 1000])
def test_frames_end_with_a_day_and_hold_enough(chunk: int, least: int) -> None:
    times = [MIDNIGHT + n * 2 * HOUR for n in range(100) if n // 12 != 3]  # no row on the fourth day
    rows = pl.DataFrame({"at": times}, schema={"at": pl.Datetime("us", "UTC")})
    frames = list(whole_days(rows.iter_slices(chunk), "at", least))
    assert pl.concat(frames).equals(rows)
    days = [set(frame["at"].dt.date()) for frame in frames]
    assert sum(map(len, days)) == len(set.union(*days))
    assert all(frame.height >= least for frame in frames[:-1])
    assert list(whole_days([rows.clear()], "at", least)) == []


def test_a_reading_is_what_is_read_and_how_not_how_late_rows_come() -> None:
    types = {"id": pl.String(), "at": pl.Datetime("us", "UTC")}

    def reading(types: dict[str, pl.DataType] = types, **source: str) -> str:
        declared = {"connection": "warehouse", "table": "flights", "event_time": "at", "key": "id"}
        return reading_of(make_spec(source=declared | source), types)

    assert reading() == reading(lateness="2d")
    others = [
        reading(table="other"),
        reading(key="x"),
        reading({**types, "id": pl.Int64()}),
        reading({"id": types["id"]}),
    ]
    assert len({reading(), *others}) == 5
