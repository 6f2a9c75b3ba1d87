"""A version on trial beside the champion: its plan, what replicas count of both, what ended it. See the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

CHAMPION, CHALLENGER = "champion", "challenger"  # the arms of a trial
LATENCY_BOUNDS = (
    0.5,
    1,
    2,
    3,
    5,
    7.5,
    10,
    15,
    20,
    30,
    50,
    75,
    100,
    150,
    200,
    300,
    500,
    750,
    1000,
)  # ms; one more above
PREDICTION_BINS = 10  # of the guard's histogram of predictions


@dataclass(frozen=True)
class RolloutPlan:
    """How a version comes to all callers, as the spec said when its release was prepared.

    Its stages: shadow (it is asked too and its answers go nowhere), each percentage of `canary` for `step`, then bake:
    all callers, with the way back open. One of no length, and an empty canary, is left out. Each lasts as long and
    until `min_requests` have come in it. The rest is what rolls it back: the fraction of its requests that failed, its
    latency (99th percentile, ms), and the population stability index of its predictions against the champion's; none:
    not looked at.
    """

    shadow: timedelta
    canary: tuple[int, ...]
    step: timedelta
    bake: timedelta
    min_requests: int
    error_rate: float | None = None
    latency_p99_ms: float | None = None
    prediction_psi: float | None = None


class TripKind(StrEnum):
    """What a guard rolls back for."""

    FAULTS = "faults"  # exceptions and timeouts
    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Trip:
    """A guard took a release off trial: the first one of a release stays for ever."""

    release_id: str
    replica: str
    kind: TripKind
    reason: str
    at: datetime


@dataclass(frozen=True)
class ArmCount:
    """What one replica, since one of its starts (`boot`), has counted of one arm in one stage of a release's trial.

    `latency` counts requests by LATENCY_BOUNDS and above, `predictions` rows by PREDICTION_BINS bins. `faults` are
    exceptions and timeouts; they are in `requests` too. In shadow the challenger's requests are copies.
    """

    release_id: str
    stage: str
    arm: str
    replica: str
    boot: str
    requests: int
    faults: int
    latency: tuple[int, ...]
    predictions: tuple[int, ...]


@dataclass(frozen=True)
class ServingSettings:
    """What a replica must know of a model's spec beyond its release; the reconciler keeps it in the ledger.

    `pinned`: loaded at the start and kept. `log_sample`: the fraction of requests whose rows are logged.
    `not_logged`: features that never leave memory. `max_concurrent`: more requests than this at a time are refused.
    For its metrics page: `fresh_within`, seconds (none: data may be of any age), and the metrics of the model's rules.
    """

    model: str
    pool: str
    pinned: bool = False
    log_sample: float = 1.0
    not_logged: tuple[str, ...] = ()
    max_concurrent: int = 256
    fresh_within: float | None = None
    rule_metrics: tuple[str, ...] = ()


class PoolChange(StrEnum):
    """What happened to the slots of a pool."""

    STARTED = "started"  # the other colour was started beside the active one
    SWITCHED = "switched"  # callers are sent to it
    DONE = "done"  # the one before has drained and stopped
    BACK = "back"  # the roll was given up: the colour before answers


@dataclass(frozen=True)
class PoolEvent:
    """A step of a pool's roll; `active` is the colour that callers are sent to from then on."""

    pool: str
    active: str
    change: PoolChange
    by: str
    reason: str
    at: datetime
