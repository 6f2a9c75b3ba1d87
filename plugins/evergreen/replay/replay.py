"""The replay: time goes on, period by period, and at the end all answers are measured on the labels of their period."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem
from evergreen.core.evidence import primary_metric
from evergreen.core.measure import value
from evergreen.core.metrics import Metric
from evergreen.core.recalling import leading_metric
from evergreen.core.replayed import Attempt, Period, Replayed
from evergreen.core.resample import improvement
from evergreen.core.triggers import readable_time
from evergreen.core.window import window
from evergreen.core.window_choice import reads
from evergreen.replay.past_source import PastSource
from evergreen.replay.policy import LOOK, Policy
from evergreen.replay.rivals import EveryPeriod
from evergreen.replay.tools import Tools
from evergreen.replay.world import World

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.ports import Source
    from evergreen.core.spec import ModelSpec

MOST = 400  # periods
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Order:
    """What is to be replayed. Periods of `every` begin at `start`; the last one ends at `end` or before."""

    spec: ModelSpec
    start: datetime
    end: datetime
    every: timedelta

    @property
    def bounds(self) -> list[datetime]:
        """Of the periods. Raises FoundProblem for fewer than two periods, or more than MOST."""
        periods = max(0, (self.end - self.start) // self.every)
        if not 2 <= periods <= MOST:
            raise FoundProblem(
                "--from, --to and --every",
                found=f"{periods:,} whole periods from {readable_time(self.start)} to {readable_time(self.end)}",
                allowed=f"2 to {MOST}",
                do="Choose a later --to, or other periods.",
            )
        return [self.start + self.every * number for number in range(periods + 1)]


def replay(order: Order, source: Source, tools: Tools, progress: Progress = lambda done, periods: None) -> Replayed:
    """Replay the model's policy. `progress` is told the periods done, and all.

    Raises FoundProblem where the first version is not released: then nothing could be frozen; and as the steps do where
    a model of the rivals cannot be made.
    """
    bounds, spec = order.bounds, _as_replayed(order.spec)
    read_from, _ = reads(spec, window(spec, order.start - spec.label.arrives_after))[0]
    past = PastSource(spec, source, read_from, bounds[-1])
    policy, rivals = Policy(World(spec, past, tools)), EveryPeriod(World(spec, past, tools))
    first = _first(policy, order.start)
    for done, (start, end) in enumerate(pairwise(bounds)):
        progress(done, len(bounds) - 1)
        rivals.train(start)
        for now, scheduled in _moments(spec, start, end):
            policy.moment(now, scheduled=scheduled)
    progress(len(bounds) - 1, len(bounds) - 1)
    measured = _Measured(past, policy, rivals, metric_of(spec))
    periods = tuple(measured.period(start, end) for start, end in pairwise(bounds))
    return Replayed(spec.name, metric_of(spec), order.every, first, periods)


def metric_of(spec: ModelSpec) -> Metric:
    """The metric by which the gates compare with the champion, else that of the first gate on quality."""
    return leading_metric(spec) or primary_metric(spec)


def _as_replayed(spec: ModelSpec) -> ModelSpec:
    """Without what only today's machine and callers can tell: trial, and the gates of the rehearsal."""
    gates = [gate for gate in spec.gates if gate.metric not in ("latency_p99_ms", "memory_mb")]
    return spec.model_copy(update={"rollout": None, "gates": gates})


def _first(policy: Policy, start: datetime) -> Attempt:
    first = policy.begin(start)
    if not first.released:
        raise FoundProblem(
            f"the first version, of {readable_time(start)}",
            found=f"not released: {first.refused_by}",
            allowed="a version that passes its gates: it is the one to be frozen",
            do="Choose a later --from, so that there is more to learn from, or look at the gates.",
        )
    return first


def _moments(spec: ModelSpec, start: datetime, end: datetime) -> Iterator[tuple[datetime, bool]]:
    """When something may happen, and whether the schedule is due: `start < moment <= end`, in order."""
    due = {moment for line in spec.schedule for moment in _due(line, start, end)}
    looks = {start + LOOK * number for number in range(1, (end - start) // LOOK + 1)}
    for moment in sorted(due | looks | {end}):
        yield moment, moment in due


def _due(line: str, start: datetime, end: datetime) -> Iterator[datetime]:
    from croniter import croniter  # type: ignore[import-untyped]

    times = croniter(line, start)
    while (moment := times.get_next(datetime)) <= end:
        yield moment


class _Measured:
    """Each way's answers to a period's rows, once all is over."""

    def __init__(self, past: PastSource, policy: Policy, rivals: EveryPeriod, metric: Metric) -> None:
        self._past, self._policy, self._rivals, self._metric = past, policy, rivals, metric
        self._spec = policy.world.spec

    def period(self, start: datetime, end: datetime) -> Period:
        rows = self._past.answered(start, end)
        label = _numbers(rows, self._spec.label.column)
        first, *_ = self._rivals.trained.values()
        frozen = self._rivals.world.predict(first, rows)
        ours, _ = self._policy.answers(rows, start, end)
        values = self._of_rivals(rows, label, start)
        best = max(values, key=lambda moment: self._rank(values[moment]))
        better = improvement(self._metric, label, ours, frozen, rows[self._spec.source.event_time].to_numpy())
        return Period(
            start, end, rows.height,
            frozen=values[self._begin],
            every_period=values[max(values)],
            evergreen=value(self._metric, label, ours),
            hindsight=values[best],
            best_of=best,
            low=better.low,
            high=better.high,
            versions=tuple(version for version, _ in self._policy.versions(start, end)),
            attempts=tuple(one for one in self._policy.attempts[1:] if start < one.at <= end),
        )  # fmt: skip

    def _rank(self, found: float) -> float:
        """Higher is better; what the rows do not give comes last."""
        return -math.inf if math.isnan(found) else self._metric.improvement(found, 0.0)

    @property
    def _begin(self) -> datetime:
        return min(self._rivals.trained)

    def _of_rivals(self, rows: pl.DataFrame, label: np.ndarray, start: datetime) -> Mapping[datetime, float]:
        """The metric of each model that was trained up to the period's start, by the moment of its training."""
        answers = ((at, self._rivals.world.predict(v, rows)) for at, v in self._rivals.trained.items() if at <= start)
        return {at: value(self._metric, label, answer) for at, answer in answers}


def _numbers(rows: pl.DataFrame, column: str) -> np.ndarray:
    import polars as pl

    return rows[column].cast(pl.Float64).to_numpy()
