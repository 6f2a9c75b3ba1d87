"""Which of the points that a pass computed say something new."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from evergreen.core.records import ALL, MetricPoint

Key = tuple[str, str, str, int, datetime, datetime]


def key_of(point: MetricPoint) -> Key:
    """Of what it is the value: model, name, slice, version, start and end, in the order in which points are listed."""
    return point.model, point.name, point.slice, point.version, point.start, point.end


def as_kept(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    """Those whose value is finite, with times in UTC and numbers of Python; a bound that is not finite becomes none.

    Raises ValueError for a time without a time zone.
    """
    return [
        MetricPoint(
            model=point.model,
            version=int(point.version),
            name=point.name,
            slice=point.slice,
            start=in_utc(point.start),
            end=in_utc(point.end),
            value=float(point.value),
            rows=int(point.rows),
            computed_at=in_utc(point.computed_at),
            low=_bound(point.low),
            high=_bound(point.high),
        )
        for point in points
        if math.isfinite(point.value)
    ]


def in_utc(time: datetime) -> datetime:
    """The same moment. Raises ValueError without a time zone: nobody could say which moment it means."""
    if time.tzinfo is None:
        raise ValueError(f"a time without a time zone: {time.isoformat()}")
    return time.astimezone(UTC)


def news(points: Iterable[MetricPoint], counting: Mapping[Key, MetricPoint]) -> list[MetricPoint]:
    """Those that come in place of what counts, or of one before them here: it differs, and was not computed later."""
    last, new = dict(counting), []
    for point in points:
        before = last.get(key_of(point))
        if before is None or (point.computed_at >= before.computed_at and _said(point) != _said(before)):
            last[key_of(point)] = point
            new.append(point)
    return new


def newest_of(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    """Of each model, version and metric, over all rows, that of the newest period; by model, name and version."""
    of_all = sorted((point for point in points if point.slice == ALL), key=key_of)
    return list({(point.model, point.name, point.version): point for point in of_all}.values())


def is_named(name: str, names: Iterable[str]) -> bool:
    """Whether a metric is among these names, of which one that ends in a dot stands for all that begin with it."""
    return any(name.startswith(one) if one.endswith(".") else name == one for one in names)


def _said(point: MetricPoint) -> tuple[float, int, float | None, float | None]:
    return point.value, point.rows, point.low, point.high


def _bound(bound: float | None) -> float | None:
    return float(bound) if bound is not None and math.isfinite(bound) else None
