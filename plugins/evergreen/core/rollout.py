"""How a release comes to answer all callers, and what ends it before. Facts in, a move out.

prepared → shadow → canary, one percentage after the other → bake → live, each stage as its plan says; without a plan,
and for a model's first release, prepared → live. Until then it may be aborted, and rolled back by a guard while it is
on trial. A run's own task and the reconciler's pass make the same moves (steps.advance_rollouts), so that nothing that
can die holds a rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from evergreen.core.guarding import Counted, broken
from evergreen.core.obstacles import RELEASABLE, Facts, obstacle
from evergreen.core.readable import readable_age
from evergreen.core.records import CHALLENGER, CHAMPION, ON_TRIAL, Release, RolloutState, TripKind
from evergreen.core.trial import Stage, after, in_words, stage_of, waits_for

_ENDS = frozenset({RolloutState.ROLLED_BACK, RolloutState.ABORTED})
NEXT: Mapping[RolloutState, frozenset[RolloutState]] = {
    RolloutState.PREPARED: frozenset({*ON_TRIAL, RolloutState.LIVE, RolloutState.ABORTED}),
    RolloutState.SHADOW: frozenset({RolloutState.CANARY, RolloutState.BAKE, RolloutState.LIVE, *_ENDS}),
    RolloutState.CANARY: frozenset({RolloutState.CANARY, RolloutState.BAKE, RolloutState.LIVE, *_ENDS}),
    RolloutState.BAKE: frozenset({RolloutState.LIVE, *_ENDS}),
    RolloutState.LIVE: frozenset({RolloutState.REPLACED, RolloutState.ROLLED_BACK}),
    RolloutState.REPLACED: frozenset(),
    RolloutState.ROLLED_BACK: frozenset(),
    RolloutState.ABORTED: frozenset(),
}


@dataclass(frozen=True)
class GoLive:
    """Nothing is in the way, and its trial is over."""


@dataclass(frozen=True)
class Enter:
    """The stage of its trial that comes next, and what the one before has shown."""

    stage: Stage
    reason: str


@dataclass(frozen=True)
class Abort:
    """It must not go live, and why. `again`: the candidate is to be judged anew. `tripped`: for a limit of its plan."""

    reason: str
    again: bool
    tripped: TripKind | None = None


@dataclass(frozen=True)
class Wait:
    """There is nothing to do now, and why."""

    reason: str


Move: TypeAlias = GoLive | Enter | Abort | Wait


def advance(release: Release, facts: Facts, now: datetime) -> Move:
    """The next move of a release. One that takes no further move by itself waits."""
    move = _MOVES.get(release.state)
    return move(release, facts, now) if move else Wait(f"version {release.version} is {_words(release.state)}")


def _from_prepared(release: Release, facts: Facts, now: datetime) -> Move:
    if reason := obstacle(release, facts):
        return Abort(reason, again=facts.candidate.state in RELEASABLE)
    if facts.other:
        return Wait(f"version {release.version} waits: version {facts.other.version} is on trial ({facts.other.stage})")
    stage = after(release) if facts.champion else None  # a first release has nothing beside which it could be tried
    return Enter(stage, stage.does) if stage else GoLive()


def _from_trial(release: Release, facts: Facts, now: datetime) -> Move:
    if facts.trip:
        return Abort(rolled_back_by(release, facts.trip.reason), again=False, tripped=facts.trip.kind)
    if reason := obstacle(release, facts):
        return Abort(reason, again=facts.candidate.state in RELEASABLE)
    assert release.plan, "what is on trial has a plan"
    arms = facts.arms or {}
    challenger, champion = arms.get(CHALLENGER, Counted()), arms.get(CHAMPION, Counted())
    if found := broken(release.plan, challenger, champion):  # each guard has judged its own replica's counts only
        return Abort(rolled_back_by(release, found.reason), again=False, tripped=found.kind)
    return _next_stage(release, challenger, now)


def _next_stage(release: Release, challenger: Counted, now: datetime) -> Move:
    assert release.plan, "what is on trial has a plan"
    stage, since, enough = stage_of(release), release.stage_since or now, release.plan.min_requests
    if now - since < stage.lasts or challenger.requests < enough:
        return Wait(waits_for(release, challenger, now))
    if (following := after(release)) is None:
        return GoLive()
    return Enter(following, f"{following.does}, after {_shown(stage, challenger, now - since)}")


_MOVES: Mapping[RolloutState, Callable[[Release, Facts, datetime], Move]] = {
    RolloutState.PREPARED: _from_prepared,
    **dict.fromkeys(ON_TRIAL, _from_trial),
}


def rolled_back_by(release: Release, why: str) -> str:
    """What a guard's trip is told as."""
    return f"version {release.version} was rolled back in {release.stage} by its guard: {why}"


def _shown(stage: Stage, challenger: Counted, lasted: timedelta) -> str:
    """'canary-5: 231 requests in 5 min, 0.40% failed, p99 15 ms'."""
    return f"{stage.name}: {challenger.requests:,} requests in {readable_age(lasted)}, {in_words(challenger)}"


def _words(state: RolloutState) -> str:
    return state.replace("_", " ")
