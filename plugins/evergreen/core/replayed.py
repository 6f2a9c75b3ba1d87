"""What a replay found: by period how each way of keeping a model did, and what Evergreen's policy tried. Pure.

A value is the metric on the rows of one period, all labels known. "Best in hindsight" is the best that any model
trained at an earlier period end gives in that period, chosen with that period's own labels: nobody can know it before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evergreen.core.metrics import Metric


@dataclass(frozen=True)
class Attempt:
    """A run of the policy that made or judged a version, or failed. `refused_by` names the gates, or says what failed.

    `trained` is false where the version was known, or none came out. `recalled` is the earlier version that it is,
    where it was not fitted anew.
    """

    at: datetime
    cause: str
    version: int | None
    trained: bool
    released: bool
    refused_by: str = ""
    recalled: int | None = None


@dataclass(frozen=True)
class Period:
    """Rows with `start < event_time <= end`, as each answered them. `versions` are Evergreen's, in order.

    `low` and `high` bound how much better Evergreen's answers are than the frozen model's (positive is better), each
    with 95 %; NaN where the rows do not tell. `best_of` is when the best model in hindsight was trained.
    """

    start: datetime
    end: datetime
    rows: int
    frozen: float
    every_period: float
    evergreen: float
    hindsight: float
    best_of: datetime
    low: float
    high: float
    versions: tuple[int, ...]
    attempts: tuple[Attempt, ...]

    @property
    def retrains(self) -> int:
        """Models that the policy trained in this period."""
        return sum(attempt.trained for attempt in self.attempts)

    @property
    def recalls(self) -> int:
        """Earlier versions that answered again from this period on."""
        return sum(attempt.released and attempt.recalled is not None for attempt in self.attempts)

    @property
    def refused(self) -> tuple[Attempt, ...]:
        """Those whose version was not released."""
        return tuple(attempt for attempt in self.attempts if attempt.refused_by)

    @property
    def below_frozen(self) -> bool:
        """Whether Evergreen is certainly worse than the frozen model: by more than the interval."""
        return self.high < 0


@dataclass(frozen=True)
class Replayed:
    """A replay of one model. `first` is the run before the first period, whose version the frozen model stays."""

    model: str
    metric: Metric
    every: timedelta
    first: Attempt
    periods: tuple[Period, ...]

    @property
    def frozen(self) -> float:
        """Mean over the periods."""
        return _mean([period.frozen for period in self.periods])

    @property
    def every_period(self) -> float:
        """Mean over the periods."""
        return _mean([period.every_period for period in self.periods])

    @property
    def evergreen(self) -> float:
        """Mean over the periods."""
        return _mean([period.evergreen for period in self.periods])

    @property
    def hindsight(self) -> float:
        """Mean over the periods."""
        return _mean([period.hindsight for period in self.periods])

    @property
    def retrains(self) -> int:
        """Models that the policy trained, the first one not counted."""
        return sum(period.retrains for period in self.periods)

    @property
    def recalls(self) -> int:
        """Earlier versions that answered again."""
        return sum(period.recalls for period in self.periods)

    @property
    def retrains_of_every_period(self) -> int:
        """One at each period end but the last, whose model has nothing to answer."""
        return len(self.periods) - 1

    @property
    def refused(self) -> int:
        """Runs whose version was not released."""
        return sum(len(period.refused) for period in self.periods)

    @property
    def below_frozen(self) -> tuple[Period, ...]:
        """The periods in which Evergreen is certainly worse than the frozen model."""
        return tuple(period for period in self.periods if period.below_frozen)

    def share(self, value: float) -> float:
        """Of the gap between frozen (0) and best in hindsight (1); NaN where there is none."""
        gap = self.metric.improvement(self.hindsight, self.frozen)
        return self.metric.improvement(value, self.frozen) / gap if gap > 0 else math.nan


def _mean(values: Sequence[float]) -> float:
    """Each period counts as much as any other; those whose rows do not give the metric are left out."""
    given = [value for value in values if not math.isnan(value)]
    return sum(given) / len(given) if given else math.nan
