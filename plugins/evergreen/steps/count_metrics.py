"""Counts the values of metrics that users posted into a day of the monitor: how many of each bucket, and their sum."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.monitoring.day import Day
    from evergreen.core.ports import LoggedParts

NAMES = 200  # of a model and a day: each is a series of points in the ledger


def count_metrics(day: Day, new: Collection[str], log: LoggedParts) -> int:
    """Count these parts; how many values were counted. Of more than NAMES names the last to come are left out."""
    counted = 0
    for key in new:
        frame = log.part(key, [parts.NAME, parts.VALUE, parts.AT])
        day.metric_parts.add(key)
        for name, start, values, total in () if frame is None else _sums(frame, day.seconds):
            if name not in day.users and len(day.users) >= NAMES:
                day.left_out += values
                continue
            day.add_user(name, start, values, total)
            counted += values
    return counted


def _sums(frame: pl.DataFrame, seconds: int) -> Iterator[tuple[str, int, int, float]]:
    """By name and bucket, in order of both, how many values there are and their sum."""
    import polars as pl

    start = (pl.col(parts.AT).dt.epoch("s") // seconds * seconds).alias("start")
    finite = frame.filter(pl.col(parts.VALUE).is_finite())
    sums = finite.group_by(parts.NAME, start).agg(pl.len().alias("values"), pl.col(parts.VALUE).sum())
    yield from sums.sort(parts.NAME, "start").select(parts.NAME, "start", "values", parts.VALUE).iter_rows()
