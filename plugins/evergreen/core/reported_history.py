"""Metrics by period, as charts and tables show them: of each period the version that answered most."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core.monitoring import names
from evergreen.core.records import ALL

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from evergreen.core.records import MetricPoint

Series: TypeAlias = list["MetricPoint"]
MOST_PERIODS = 400  # a chart has no room for more
QUALITY_OF_DATA = (f"{names.MISSING}.{names.MAX}", f"{names.OUT_OF_RANGE}.{names.MAX}", f"{names.UNSEEN}.{names.MAX}")


def from_when(since: datetime, now: datetime, window: timedelta) -> datetime:
    """From when on periods are shown: since then, or the newest MOST_PERIODS of a model with short windows."""
    return max(since, now - MOST_PERIODS * window)


def of_charts(metric: str) -> tuple[str, ...]:
    """The metrics that are drawn over time, for a model whose gates compare by this metric."""
    return (
        f"{names.REALISED}.{metric}",
        f"{names.ESTIMATED}.{metric}",
        f"{names.PSI}.{names.MAX}",
        names.PREDICTION_PSI,
        *QUALITY_OF_DATA,
        names.LABELLED,
        names.VOLUME,
        names.ERROR_RATE,
    )


def series(points: Iterable[MetricPoint], wanted: Collection[str]) -> dict[str, Series]:
    """By name the points of all rows, one a period, in order of time; names without a point are left out.

    Of versions that answered in the same period, as in a canary, it is the one with the most rows that is shown.
    """
    found: dict[str, dict[datetime, MetricPoint]] = {}
    for point in points:
        if point.name not in wanted or point.slice != ALL:
            continue
        of_name = found.setdefault(point.name, {})
        other = of_name.get(point.start)
        if other is None or (point.rows, point.version) > (other.rows, other.version):
            of_name[point.start] = point
    order = {name: at for at, name in enumerate(wanted)}
    return {
        name: sorted(found[name].values(), key=lambda point: point.start)
        for name in sorted(found, key=order.__getitem__)
    }
