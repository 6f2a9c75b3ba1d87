"""When a version on trial is taken off: what was counted of it and of the champion in, a finding out.

The guard of each replica decides by what that replica has counted in one stage; a rollout may ask the same of the sum
over replicas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, inf, log, sqrt
from typing import Protocol

from evergreen.core.records import LATENCY_BOUNDS, PREDICTION_BINS, TripKind

HARD_FAULTS = 5  # exceptions and timeouts that take a version off at once, whatever its rules
SURELY = 3.0  # standard deviations over what chance makes: 1 in 700
_OFTEN = 0.99  # the share of requests that `latency_p99_ms` is about
_PRIOR = 0.5  # is added to each bin: an empty one has no logarithm, and in few rows says little


class Limits(Protocol):
    """What rolls a version back; none: not looked at. A RolloutPlan is such, and so are serving's Rules."""

    @property
    def min_requests(self) -> int:
        """Requests of the challenger in the stage, before which only hard faults count."""

    @property
    def error_rate(self) -> float | None:
        """The fraction of its requests that may fail."""

    @property
    def latency_p99_ms(self) -> float | None:
        """The time in which 99 of 100 must be answered."""

    @property
    def prediction_psi(self) -> float | None:
        """How far its predictions may be from the champion's."""


@dataclass(frozen=True)
class Counted:
    """What was counted of one arm. Shapes as in records.ArmCount, which is such."""

    requests: int = 0
    faults: int = 0
    latency: Sequence[int] = (0,) * (len(LATENCY_BOUNDS) + 1)
    predictions: Sequence[int] = (0,) * PREDICTION_BINS


class _Counts(Protocol):
    @property
    def requests(self) -> int: ...
    @property
    def faults(self) -> int: ...
    @property
    def latency(self) -> Sequence[int]: ...
    @property
    def predictions(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Finding:
    """Why a version must come off."""

    kind: TripKind
    reason: str


def total(counts: Iterable[_Counts]) -> Counted:
    """The sum of counts of one arm."""
    summed = Counted()
    for one in counts:
        summed = Counted(
            summed.requests + one.requests,
            summed.faults + one.faults,
            tuple(map(sum, zip(summed.latency, one.latency, strict=True))),
            tuple(map(sum, zip(summed.predictions, one.predictions, strict=True))),
        )
    return summed


def judge(limits: Limits, challenger: _Counts, champion: _Counts) -> Finding | None:
    """The first thing that takes the challenger off trial; none: it stays.

    Hard faults count from the first request. The rest is looked at once `min_requests` of the challenger's are in.
    """
    if challenger.faults >= HARD_FAULTS:
        return Finding(TripKind.FAULTS, f"{challenger.faults} of its {challenger.requests} requests failed")
    return broken(limits, challenger, champion)


def broken(limits: Limits, challenger: _Counts, champion: _Counts) -> Finding | None:
    """The first limit that the challenger does not keep; none before `min_requests`. Of replicas' sums, it is all."""
    if challenger.requests < max(limits.min_requests, 1):
        return None
    return (
        _error_rate(limits.error_rate, challenger)
        or _latency(limits.latency_p99_ms, challenger)
        or _predictions(limits.prediction_psi, challenger, champion)
    )


def _error_rate(limit: float | None, challenger: _Counts) -> Finding | None:
    """Plain: a fault is never chance."""
    if limit is None or challenger.faults <= limit * challenger.requests:
        return None
    share = f"{challenger.faults} of its {challenger.requests} requests"
    return Finding(TripKind.ERROR_RATE, f"{share} failed, more than {limit:.2%}")


def _latency(limit: float | None, challenger: _Counts) -> Finding | None:
    """The 99th percentile is over the limit if more than 1 in 100 requests are: surely more, not by chance.

    Asked ten times a second from a few hundred requests on, a version that keeps its limit would else be taken off.
    """
    if limit is None:
        return None
    requests, over = sum(challenger.latency), _slower(challenger.latency, limit)
    expected = (1 - _OFTEN) * requests
    if over <= expected + SURELY * sqrt(expected * _OFTEN):
        return None
    found = quantile(challenger.latency, _OFTEN)
    told = f"over {LATENCY_BOUNDS[-1]:g}" if found == inf else f"{found:.3g}"
    text = f"the 99th percentile of its latency is {told} ms in {requests} requests, more than {limit:g} ms"
    return Finding(TripKind.LATENCY, text)


def _predictions(limit: float | None, challenger: _Counts, champion: _Counts) -> Finding | None:
    """Over the limit by more than chance: so it needs enough rows of both, however few requests are asked for."""
    rows, others = sum(challenger.predictions), sum(champion.predictions)
    if limit is None or not rows or not others:
        return None
    found = psi(champion.predictions, challenger.predictions)
    chance = psi_by_chance(champion.predictions, challenger.predictions)
    if found <= limit + chance:
        return None
    text = f"its predictions are {found:.2g} (PSI) from the champion's in {rows} and {others} rows"
    return Finding(TripKind.PREDICTIONS, f"{text}, of which chance explains {chance:.2g}; the limit is {limit:g}")


def quantile(latency: Sequence[float], share: float, bounds: Sequence[float] = LATENCY_BOUNDS) -> float:
    """The latency (ms) within which this share of requests was answered, as a histogram can tell it.

    Between two bounds by a straight line, as Prometheus' histogram_quantile does; infinite above the last one.
    """
    rank, lower, before = share * sum(latency), 0.0, 0.0
    for upper, count, reached in zip((*bounds, inf), latency, accumulate(latency), strict=True):
        if reached >= rank and count:
            return upper if upper == inf else lower + (upper - lower) * (rank - before) / count
        lower, before = upper, reached
    return 0.0


def _slower(latency: Sequence[int], limit: float) -> int:
    """How many requests took longer than the limit, those of its own bin by a straight line."""
    over, lower = 0.0, 0.0
    for upper, count in zip((*LATENCY_BOUNDS, inf), latency, strict=True):
        if lower >= limit:
            over += count
        elif limit < upper < inf:
            over += count * (upper - limit) / (upper - lower)
        lower = upper
    return ceil(over)


def psi(before: Sequence[float], after: Sequence[float]) -> float:
    """The population stability index of two counts by bin: sum of (after - before) * ln(after / before) of shares.

    N. Siddiqi, Credit Risk Scorecards (2006): by his rule of thumb under 0.1 is small and over 0.25 is large.
    """
    old, new = map(_shares, _used(before, after))
    return sum((b - a) * log(b / a) for a, b in zip(old, new, strict=True))


def psi_expected(before: Sequence[float], after: Sequence[float]) -> float:
    """What two samples of one population have on average; see psi_by_chance. Both must have rows."""
    return (len(_used(before, after)[0]) - 1) * (1 / sum(before) + 1 / sum(after))


def psi_by_chance(before: Sequence[int], after: Sequence[int]) -> float:
    """What two samples of one population exceed once in 1,000 times.

    Their PSI is spread like (1/rows + 1/rows) times a chi-square of bins - 1 degrees of freedom: B. Yurdakul and
    J. Naranjo, Statistical properties of the population stability index, Journal of Risk Model Validation 14 (2020).
    The quantile is Wilson and Hilferty's (1931).
    """
    freedom = len(_used(before, after)[0]) - 1
    if not freedom:
        return 0.0
    step = 2 / (9 * freedom)
    root = 1 - step + 3.09 * sqrt(step)
    return (1 / sum(before) + 1 / sum(after)) * freedom * root * root * root


def _shares(counts: Sequence[float]) -> list[float]:
    rows = sum(counts) + _PRIOR * len(counts)
    return [(count + _PRIOR) / rows for count in counts]


def _used(before: Sequence[float], after: Sequence[float]) -> tuple[list[float], list[float]]:
    """Without the bins that are empty in both."""
    used = [pair for pair in zip(before, after, strict=True) if any(pair)]
    return [old for old, _ in used], [new for _, new in used]
