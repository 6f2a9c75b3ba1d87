"""A release's trial: its stages in order, and what replicas have counted in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from evergreen.core.guarding import Counted, quantile, total
from evergreen.core.readable import readable_age
from evergreen.core.records import (
    CHALLENGER,
    CHAMPION,
    LATENCY_BOUNDS,
    ArmCount,
    Release,
    RolloutPlan,
    RolloutState,
)

_ALL = 100
_PATIENCE = timedelta(minutes=10)  # with a stage that is short of requests


@dataclass(frozen=True)
class Stage:
    """A stage of a plan: the percentage of callers that are answered, and how long it lasts at least."""

    state: RolloutState
    weight: int
    lasts: timedelta

    @property
    def name(self) -> str:
        """As Release.stage."""
        return f"{self.state}-{self.weight}" if self.state is RolloutState.CANARY else str(self.state)

    @property
    def does(self) -> str:
        """What it is to callers."""
        answers = {RolloutState.SHADOW: "its answers go nowhere", RolloutState.BAKE: "it answers all callers"}
        return answers.get(self.state, f"it answers {self.weight} % of callers")


def stages(plan: RolloutPlan) -> tuple[Stage, ...]:
    """Those of some length, in order."""
    canary = (Stage(RolloutState.CANARY, weight, plan.step) for weight in plan.canary)
    found = (
        Stage(RolloutState.SHADOW, 0, plan.shadow),
        *canary,
        Stage(RolloutState.BAKE, _ALL, plan.bake),
    )
    return tuple(stage for stage in found if stage.lasts or stage.state is RolloutState.CANARY)


def stage_of(release: Release) -> Stage:
    """The stage that a release on trial is in. Raises ValueError for one that its plan does not have."""
    assert release.plan, "what is on trial has a plan"
    found = (s for s in stages(release.plan) if (s.state, s.weight) == (release.state, release.weight))
    if (stage := next(found, None)) is None:
        raise ValueError(f"{release.model}: {release.stage} is no stage of the plan of release {release.id}")
    return stage


def after(release: Release) -> Stage | None:
    """The stage that comes next; none where that is to go live."""
    if release.plan is None:
        return None
    plan = stages(release.plan)
    at = plan.index(stage_of(release)) + 1 if release.state is not RolloutState.PREPARED else 0
    return plan[at] if at < len(plan) else None


# ---------------------------------------------------------------- what was counted


Arms = Mapping[str, Counted]  # by records.CHAMPION and CHALLENGER


def by_stage(counts: Iterable[ArmCount]) -> dict[str, dict[str, Counted]]:
    """The sums over all replicas and all their starts, by stage and arm."""
    listed = list(counts)
    return {
        stage: {arm: total(c for c in listed if (c.stage, c.arm) == (stage, arm)) for arm in (CHAMPION, CHALLENGER)}
        for stage in dict.fromkeys(count.stage for count in listed)
    }


def error_rate(arm: Counted) -> float | None:
    """The fraction of its requests that failed; none where there were none."""
    return arm.faults / arm.requests if arm.requests else None


def p99_ms(arm: Counted) -> float | None:
    """99 of 100 requests were answered within it; infinite above all bounds, none without any."""
    return quantile(arm.latency, 0.99) if sum(arm.latency) else None


def waits_for(release: Release, challenger: Counted, now: datetime) -> str:
    """'canary-25: 120 of 200 requests, until 12:05 UTC at least', that it is short of requests and for how long, or
    that nothing is missing.
    """
    stage, plan, since = stage_of(release), release.plan, release.stage_since or now
    assert plan, "what is on trial has a plan"
    enough = challenger.requests >= plan.min_requests
    so_far = f"{stage.name}: {challenger.requests:,}{'' if enough else f' of {plan.min_requests:,}'} requests"
    if now - since < stage.lasts:
        return f"{so_far}, until {since + stage.lasts:%Y-%m-%d %H:%M:%S} UTC at least"
    going_on = "goes on within seconds" if enough else "waits, or a person promotes or aborts"
    return f"{so_far} in {readable_age(now - since)}; {going_on}"


def short_of_requests(release: Release, challenger: Counted, now: datetime) -> bool:
    """Whether the stage lasts for want of requests alone, and that as long again as it should, 10 minutes at least."""
    stage, plan, since = stage_of(release), release.plan, release.stage_since or now
    assert plan, "what is on trial has a plan"
    return challenger.requests < plan.min_requests and now - since >= stage.lasts + max(stage.lasts, _PATIENCE)


def in_words(arm: Counted) -> str:
    """'0.40% failed, p99 12 ms'."""
    rate, p99 = error_rate(arm), p99_ms(arm)
    failed = "not asked" if rate is None else f"{rate:.2%} failed"
    return failed if p99 is None else f"{failed}, p99 {milliseconds(p99)}"


def milliseconds(p99: float) -> str:
    """'12.5 ms', 'over 1000 ms'."""
    return f"over {LATENCY_BOUNDS[-1]:g} ms" if math.isinf(p99) else f"{p99:.{3 if p99 < 100 else 4}g} ms"
