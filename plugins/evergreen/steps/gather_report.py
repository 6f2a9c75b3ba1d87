"""Gathers what the report on a model shows, from the ledger, the monitor's counts and the prediction log.

What the monitor has not counted yet is counted here, in memory: nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.evidence import primary_metric
from evergreen.core.monitoring import names
from evergreen.core.monitoring.day import Day, days_of, merged
from evergreen.core.monitoring.tally import LABELLED, ROWS
from evergreen.core.monitoring.window_metrics import metrics_of
from evergreen.core.records import ALL, CHAMPION
from evergreen.core.reported import Monitored, Quarantined, Reported, Span
from evergreen.core.reported_errors import Errors
from evergreen.core.reported_history import from_when, of_charts, series
from evergreen.core.reported_notes import notes
from evergreen.core.reported_shifts import shifts
from evergreen.steps.count_answers import count_day, load_day
from evergreen.steps.counting import Counting
from evergreen.steps.labelled_answers import LabelledAnswers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evergreen.core.monitoring.window_metrics import Value
    from evergreen.core.ports import Ledger, LoggedParts, Store
    from evergreen.core.records import Release
    from evergreen.core.spec import ModelSpec
    from evergreen.steps.layouts import Known, Layouts

    Floats = npt.NDArray[np.float64]
    Progress = Callable[[int, int], None]  # parts that are done, of how many

LEAST_OF_A_SLICE, MOST_SLICES, MOST_MONITORED, MOST_CANDIDATES = 30, 15, 20, 50
MICRO = timedelta(microseconds=1)


@dataclass(frozen=True)
class Sources:
    """What a report is read from."""

    ledger: Ledger
    store: Store
    log: LoggedParts
    layouts: Layouts


def gather_report(
    sources: Sources, spec: ModelSpec, *, since: datetime, window: timedelta, now: datetime, progress: Progress
) -> Reported:
    """The report: metrics, alerts and data since then; drift and errors of the champion's answers of the window."""
    live = _champion(sources.ledger, spec.name)
    start = (now - window).replace(minute=0, second=0, microsecond=0)  # the monitor counts by the hour
    of_time = _of_time(sources.ledger, spec, since, now, Span(start, now))
    if live is None:
        return replace(of_time, notes=list(notes(of_time, spec, bare=False)))
    made = replace(of_time, version=live.version, released_at=live.released_at)
    return _Window(sources, spec, live, made, progress).report()


def _champion(ledger: Ledger, model: str) -> Release | None:
    release_id = ledger.releases.champion(model).release_id
    return ledger.releases.get(release_id) if release_id else None


# ---------------------------------------------------------------- since then


def _of_time(ledger: Ledger, spec: ModelSpec, since: datetime, now: datetime, span: Span) -> Reported:
    metric = primary_metric(spec)
    first = from_when(since, now, spec.monitoring.window)
    points = ledger.points.latest(spec.name, names=of_charts(metric.name), since=first)
    releases = ledger.releases.history(spec.name)
    return Reported(
        model=spec.name,
        task=spec.task,
        owner=spec.owner,
        made_at=now,
        since=since,
        span=span,
        metric=metric.name,
        series=series(points, of_charts(metric.name)),
        quarantined=_quarantined(ledger, spec.name, since),
        releases=[one for one in releases if one.released_at >= since],
        alerts=ledger.alerts.history(spec.name, since=since),
        threshold=_threshold(spec),
    )


def _quarantined(ledger: Ledger, model: str, since: datetime) -> list[Quarantined]:
    """Of the versions that were made since then, the newest first."""
    found = []
    for one in ledger.models.candidates(model)[:MOST_CANDIDATES]:
        if one.created_at >= since:
            made = ledger.models.snapshot(model, one.snapshot_id)
            found.append(Quarantined(one.version, made.as_of, made.rows, made.unlabelled, made.quarantined))
    return found


def _threshold(spec: ModelSpec) -> float:
    """From which chance on class 1 is said: as the gate on accuracy has it."""
    given = (gate.of.parameter for gate in spec.gates if gate.metric == "accuracy")
    return next((one for one in given if one is not None), 0.5)


# ---------------------------------------------------------------- the window


class _Window:
    """The champion's answers of the window."""

    def __init__(self, sources: Sources, spec: ModelSpec, live: Release, made: Reported, progress: Progress) -> None:
        self._spec, self._live, self._made, self._log = spec, live, made, sources.log
        self._store, self._progress = sources.store, progress
        self._counting = Counting(spec, sources.log, sources.layouts)
        self._known: Known = sources.layouts.of(live.bundle, spec.task)
        self._hidden = frozenset(spec.features.not_logged)
        self._done = self._parts = 0

    def report(self) -> Reported:
        """All of it."""
        span, layout = self._made.span, self._known.layout
        errors = Errors(self._spec.task, layout.reference, self._hidden, self._made.threshold)
        vectors: dict[str, Floats] = {}
        days = days_of(span.start, span.end - MICRO)
        self._parts = sum(len(self._log.parts(self._spec.name, day)) for day in days)
        for day in days:
            self._add(self._counted(day), errors, vectors)
        return self._made_of(errors, vectors)

    def _counted(self, day: date) -> Day:
        found = load_day(self._store, self._counting, day)
        count_day(found, self._counting)
        return found

    def _add(self, day: Day, errors: Errors, vectors: dict[str, Floats]) -> None:
        span, layout = self._made.span, self._known.layout
        inside = range(int(span.start.timestamp()), int(span.end.timestamp()) + 1)
        for slice, vector in merged([day], self._live.version, (CHAMPION,), layout.size, inside.__contains__).items():
            vectors[slice] = vectors[slice] + vector if slice in vectors else vector
        labelled = LabelledAnswers(self._log, self._spec.task, self._live.version, span, self._seen)
        for frame in labelled.of(day):
            errors.add(frame)

    def _seen(self) -> None:
        self._done += 1
        self._progress(self._done, self._parts)

    def _made_of(self, errors: Errors, vectors: dict[str, Floats]) -> Reported:
        made, layout, total = self._made, self._known.layout, vectors.get(ALL)
        if total is not None:
            rows, labelled = (round(float(layout.part(total, name)[0])) for name in (ROWS, LABELLED))
            made = replace(
                made,
                span=replace(made.span, answers=rows, labelled=labelled),
                quality=self._quality(total),
                shifts=shifts(layout, total, self._hidden) if rows else [],
                monitored=self._monitored(vectors),
            )
        if errors.rows:
            made = replace(
                made,
                errors=errors,
                slices=errors.slices.worst(LEAST_OF_A_SLICE, MOST_SLICES),
                slices_looked_at=sum(1 for _ in errors.slices.all(LEAST_OF_A_SLICE)),
                examples=errors.examples.worst_first,
            )
        return replace(made, notes=list(notes(made, self._spec, bare=self._known.bare)))

    def _monitored(self, vectors: dict[str, Floats]) -> list[Monitored]:
        """The values of monitoring.slices, the worst first; those with too few labels last."""
        rows = self._known.layout.part
        found = [
            Monitored(slice, round(float(rows(vector, ROWS)[0])), self._quality(vector))
            for slice, vector in vectors.items()
            if slice != ALL
        ]
        return sorted(found, key=self._how_good)[:MOST_MONITORED]

    def _quality(self, vector: Floats) -> Value | None:
        """The realised metric of the gates; none on few labels."""
        values = metrics_of(self._known.layout, vector, LEAST_OF_A_SLICE)
        return next((one for one in values if one.name == f"{names.REALISED}.{self._made.metric}"), None)

    def _how_good(self, one: Monitored) -> tuple[bool, float, str]:
        metric = primary_metric(self._spec)
        good = metric.improvement(one.quality.value, 0.0) if one.quality else 0.0
        return one.quality is None, good, one.slice
