"""The file of a day: it comes back as it was, damaged bytes are told, and windows are sums of its buckets."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from evergreen.core.monitoring import day as days
from evergreen.core.monitoring.day import Cell, Counted, Day, from_bytes, merged, rolling, to_bytes

HOUR = 3600
NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp())


def filled() -> Day:
    day = Day("m", date(2026, 3, 2), HOUR, ("carrier",), {1: "b1", 2: ""}, {1: 6, 2: 3})
    day.predictions["log/p"] = Counted(3, "a", "c")
    day.truths["log/t"] = Counted(0, "", "")
    day.told, day.matched, day.wrong = 5, 3, 1
    day.served["default/r|0@1.5|1|champion"] = [5.0, 1.0, 0.5]
    day.add(Cell(1, "champion", NOON), np.array([0, 1, 0, 0.25, 0, -3]))
    day.add(Cell(1, "champion", NOON, "carrier=Ü|="), np.array([1.0, 0, 0, 0, 0, 0]))
    day.add(Cell(1, "canary", NOON + HOUR), np.zeros(6))
    day.add(Cell(2, "champion", NOON), np.array([7.0, 0, 1e300]))
    return day


def same(one: Day, other: Day) -> bool:
    plain = [{k: v for k, v in vars(d).items() if k != "cells"} for d in (one, other)]
    cells = one.cells.keys() == other.cells.keys()
    return plain[0] == plain[1] and cells and all(map(np.array_equal, _values(one), _values(other)))


def _values(day: Day) -> list[np.ndarray]:
    return [np.array([*indices, *values]) for _, (indices, values) in sorted(day.cells.items())]


def test_a_day_comes_back_as_it_was_and_the_same_day_gives_the_same_bytes() -> None:
    day = filled()
    data = to_bytes(day)
    assert same(from_bytes(data), day)
    assert to_bytes(from_bytes(data)) == data
    empty = Day("m", date(2026, 3, 2), HOUR)
    assert same(from_bytes(to_bytes(empty)), empty)


def test_any_byte_that_is_damaged_or_gone_is_told() -> None:
    data = to_bytes(filled())
    for at in range(len(data)):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]):
            with pytest.raises(ValueError, match="damaged"):
                from_bytes(broken)


@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04"])
def test_what_is_no_day_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        from_bytes(data)


def test_pickled_objects_are_never_loaded() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array([print], dtype=object))
    data = buffer.getvalue()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        from_bytes(hashlib.sha256(data).digest() + data)


def test_a_day_of_another_format_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_bytes(filled())
    monkeypatch.setattr(days, "FORMAT", days.FORMAT + 1)
    with pytest.raises(ValueError, match="another format"):
        from_bytes(data)


def test_tallies_add_up_and_what_is_taken_out_again_is_gone() -> None:
    day, cell = Day("m", date(2026, 3, 2), HOUR), Cell(1, "champion", NOON)
    day.add(cell, np.array([1.0, 2, 0]))
    day.add(cell, np.array([0.0, -2, 5]))
    assert [part.tolist() for part in day.cells[cell]] == [[0, 2], [1.0, 5.0]]
    assert day.pending == {NOON}


def test_a_rolling_window_has_the_buckets_that_begin_in_it() -> None:
    now = datetime(2026, 3, 2, 14, tzinfo=UTC)
    window = rolling(now, timedelta(hours=2))
    starts = [NOON + hours * HOUR for hours in range(-1, 4)]
    assert [window(start) for start in starts] == [False, False, True, True, False]


def test_periods_are_aligned_to_the_epoch_and_hold_each_bucket_once() -> None:
    day = timedelta(days=1)
    assert days.period_of(NOON, day) == int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
    assert days.period_of(NOON + 12 * HOUR, day) == int(datetime(2026, 3, 3, tzinfo=UTC).timestamp())
    assert days.period_of(NOON, timedelta(days=7)) % (7 * 86400) == 0


def test_days_merge_into_a_window_by_version_arm_and_slice() -> None:
    one, other = filled(), filled()
    other.day = date(2026, 3, 3)
    found = merged([one, other], 1, ("champion",), 6, lambda start: True)
    assert found[""].tolist() == [0, 2, 0, 0.5, 0, -6]
    assert found["carrier=Ü|="].tolist() == [2, 0, 0, 0, 0, 0]
    assert set(merged([one], 1, ("champion",), 6, lambda start: True, apart=False)) == {""}
    assert merged([one], 1, ("champion",), 6, lambda start: start > NOON) == {}
    assert merged([one], 1, ("champion",), 7, lambda start: True) == {}, "counted by another layout"
    assert set(merged([one], 1, ("champion", "canary"), 6, lambda start: start > NOON)) == {""}


def test_days_of_a_stretch_of_time() -> None:
    start = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    assert days.days_of(start, start + timedelta(minutes=2)) == [date(2026, 2, 28), date(2026, 3, 1)]


@pytest.mark.parametrize(("window", "bucket"), [("5h", 60), ("6h", 3600), ("1d", 3600)])
def test_short_windows_have_short_buckets(window: str, bucket: int) -> None:
    length = timedelta(hours=int(window[:-1])) if window.endswith("h") else timedelta(days=1)
    assert days.bucket_of(length).total_seconds() == bucket
