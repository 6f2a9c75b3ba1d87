"""What the monitor knows of a model, for a page: its alerts with what came of each, and its metrics over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from markupsafe import Markup

from evergreen.core.evidence import primary_metric
from evergreen.core.monitoring import names
from evergreen.core.reported_history import QUALITY_OF_DATA, from_when, of_charts, series
from evergreen.core.requested import readable_time
from evergreen.ui.plots import At, Line, Mark, over_time
from evergreen.ui.tables import Table
from evergreen.ui.words import number, percent

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Alert, Candidate, Release, TriggerRequest
    from evergreen.core.reported_history import Series
    from evergreen.core.spec import ModelSpec

SHOWN = timedelta(days=30)
MOST_ALERTS, MOST_PERIODS = 50, 100
NOT_KNOWN = "not known"  # of a metric that no valid spec names
SHARES = frozenset({*QUALITY_OF_DATA, names.LABELLED, names.ERROR_RATE})
LOOKS = ("a", "b", "c")


@dataclass(frozen=True)
class AlertRow:
    """An alert, the retrain that it asked for, and the version that this made; none where there is none."""

    alert: Alert
    request: TriggerRequest | None
    version: int | None


@dataclass(frozen=True)
class Chart:
    """A chart over time. `legend`: look and name of each line."""

    title: str
    about: str
    svg: Markup
    legend: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Watched:
    """What a page shows of it: metrics since `since`."""

    since: datetime
    open: Sequence[AlertRow]
    closed: Sequence[AlertRow]
    charts: Sequence[Chart]
    numbers: Table | None


def watched(
    ledger: Ledger, model: str, spec: ModelSpec | None, candidates: Sequence[Candidate], now: datetime
) -> Watched:
    """Of the last SHOWN; alerts that closed earlier are shown too, so many as fit."""
    metric = primary_metric(spec).name if spec else NOT_KNOWN
    wanted = of_charts(metric)
    first = from_when(now - SHOWN, now, spec.monitoring.window if spec else SHOWN)
    found = series(ledger.points.latest(model, names=wanted, since=first), wanted)
    releases = [one for one in ledger.releases.history(model) if one.released_at >= first]
    made = {one.request_id: one.version for one in reversed(candidates)}
    alerts = [_row(ledger, alert, made) for alert in ledger.alerts.history(model, limit=MOST_ALERTS)]
    return Watched(
        open=[one for one in alerts if one.alert.closed_at is None],
        closed=[one for one in alerts if one.alert.closed_at],
        charts=charts(metric, found, releases),
        numbers=numbers(found) if found else None,
        since=first,
    )


def _row(ledger: Ledger, alert: Alert, made: Mapping[str, int]) -> AlertRow:
    try:
        request = ledger.requests.get(alert.request_id) if alert.request_id else None
    except KeyError:
        request = None
    return AlertRow(alert, request, made.get(alert.request_id) if alert.request_id else None)


# ---------------------------------------------------------------- over time


def charts(metric: str, found: Mapping[str, Series], releases: Sequence[Release]) -> list[Chart]:
    """Those that have a value: quality, drift, data quality, volume, errors. Releases are marked in each."""
    told = (
        (
            f"Quality: {metric}",
            "Realised on answers whose label has come, estimated before; with intervals of 95 %.",
            {f"{names.REALISED}.{metric}": "realised", f"{names.ESTIMATED}.{metric}": "estimated"},
        ),
        (
            "Drift",
            "Population stability index against training: under 0.1 is small, over 0.25 is large.",
            {f"{names.PSI}.{names.MAX}": "worst feature", names.PREDICTION_PSI: "predictions"},
        ),
        (
            "Quality of the data",
            "Of the worst feature: missing values above training's share, numbers out of range, unseen categories.",
            dict(zip(QUALITY_OF_DATA, ("missing, above training", "out of range", "unseen"), strict=True)),
        ),
        ("Answers", "That were logged in the period.", {names.VOLUME: "answers"}),
        ("Requests that failed", "Of all requests of the period.", {names.ERROR_RATE: "failed"}),
    )
    marks = [Mark(release.released_at, f"v{release.version}") for release in releases]
    made = [_chart(title, about, labels, found, marks) for title, about, labels in told]
    return [one for one in made if one.svg]


def _chart(
    title: str, about: str, labels: Mapping[str, str], found: Mapping[str, Series], marks: Sequence[Mark]
) -> Chart:
    lines = [
        Line(label, [At(p.start, p.value, p.low, p.high) for p in found[name]], look)
        for (name, label), look in zip(labels.items(), LOOKS, strict=False)
        if found.get(name)
    ]
    quality = any(name.startswith("quality.") for name in labels)
    svg = over_time(title, lines, marks, share=set(labels) <= SHARES, from_zero=not quality)
    return Chart(title, about, svg, [(line.look, line.name) for line in lines])


def numbers(found: Mapping[str, Series]) -> Table:
    """The values of the charts, the newest period first."""
    starts = sorted({point.start for points in found.values() for point in points}, reverse=True)[:MOST_PERIODS]
    by_start = {name: {point.start: point for point in points} for name, points in found.items()}
    rows = []
    for start in starts:
        points = [of_name.get(start) for of_name in by_start.values()]
        version = max((point.version for point in points if point), default=0)
        cells = [
            "–" if point is None else _cell(name, point.value, point.low, point.high)
            for name, point in zip(by_start, points, strict=True)
        ]
        rows.append([readable_time(start), str(version), *cells])
    return Table("", ["period from", "version", *by_start], rows, words=1)


def _cell(name: str, value: float, low: float | None, high: float | None) -> str:
    told = percent if name in SHARES else number
    if name == names.VOLUME:
        return f"{value:,.0f}"
    return told(value) if low is None or high is None else f"{told(value)} ({told(low)} to {told(high)})"
