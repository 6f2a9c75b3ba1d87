"""The rollout's state machine: facts in, the next move out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.guarding import Counted
from evergreen.core.obstacles import Facts
from evergreen.core.records import (
    FLEET,
    ON_TRIAL,
    Approval,
    ApprovalState,
    CandidateState,
    Hold,
    Release,
    ReleaseKind,
    RolloutPlan,
    RolloutState,
    Trip,
    TripKind,
)
from evergreen.core.rollout import NEXT, Abort, Enter, GoLive, Move, Wait, advance
from evergreen.core.trial import stages
from evergreen.core.verdict_json import digest
from records import NOW, WATERMARK, make_candidate, make_verdict

BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
CANDIDATE = make_candidate(version=5, state=CandidateState.PASSED, verdict=make_verdict(), generation_seen=3)
PREPARED = Release(
    id="release-5",
    model="m",
    version=5,
    bundle=CANDIDATE.bundle,
    pool="default",
    generation=0,
    request_id="request-5",
    released_by="auto",
    reason="gates",
    watermark=WATERMARK,
    released_at=NOW,
    state=RolloutState.PREPARED,
    seen=3,
)
CHAMPION = replace(PREPARED, id="release-4", version=4, generation=3, seen=2, state=RolloutState.LIVE)
APPROVAL = Approval(
    id="approval-5",
    model="m",
    version=5,
    request_id="request-5",
    run_id="run-5",
    bundle=CANDIDATE.bundle,
    generation_seen=3,
    asked_at=BEFORE,
    expires_at=AFTER,
    state=ApprovalState.APPROVED,
    answered_by="ada",
    answered_at=NOW,
    evidence=digest(CANDIDATE.verdict),
)
BY_ADA = replace(PREPARED, released_by="ada", approval_id="approval-5")


def move(release: Release = PREPARED, **changes: Any) -> Move:
    return advance(release, replace(Facts(3, CHAMPION, CANDIDATE), **changes), NOW)


def held(since: Any, model: str = "m") -> Hold:
    return Hold(model, "bob", "wrong fares", since)


def test_where_nothing_is_in_the_way_it_goes_live() -> None:
    assert move() == GoLive()
    assert move(BY_ADA, approval=APPROVAL) == GoLive()
    assert advance(replace(PREPARED, seen=0), Facts(0, None, CANDIDATE), NOW) == GoLive()  # the first of a model


@pytest.mark.parametrize("state", [state for state in RolloutState if RolloutState.LIVE not in NEXT[state]])
def test_what_is_not_on_its_way_moves_no_further_by_itself(state: RolloutState) -> None:
    assert isinstance(move(replace(PREPARED, state=state), generation=9), Wait)


def test_only_what_is_on_its_way_can_go_live_or_on_trial_and_an_end_is_an_end() -> None:
    on_its_way = {RolloutState.PREPARED, *ON_TRIAL}
    assert {state for state, after in NEXT.items() if RolloutState.LIVE in after} == on_its_way
    assert {state for state, after in NEXT.items() if after & ON_TRIAL} == on_its_way - {RolloutState.BAKE}
    assert {state for state, after in NEXT.items() if RolloutState.REPLACED in after} == {RolloutState.LIVE}
    rolled_back = {state for state, after in NEXT.items() if RolloutState.ROLLED_BACK in after}
    assert rolled_back == {RolloutState.LIVE, *ON_TRIAL}
    assert {state for state, after in NEXT.items() if not after} == {
        RolloutState.REPLACED, RolloutState.ROLLED_BACK, RolloutState.ABORTED
    }  # fmt: skip
    assert set(NEXT) == set(RolloutState)


# ---------------------------------------------------------------- its trial

MINUTE = timedelta(minutes=1)
PLAN = RolloutPlan(
    shadow=5 * MINUTE, canary=(5, 50), step=3 * MINUTE, bake=10 * MINUTE, min_requests=200, error_rate=0.01
)


def tried(state: RolloutState, weight: int = 0, plan: RolloutPlan = PLAN) -> Release:
    """In this stage since NOW."""
    return replace(PREPARED, state=state, weight=weight, stage_since=NOW, plan=plan)


def after_minutes(release: Release, minutes: float, requests: int = 0, **changes: Any) -> Move:
    """Its move so long after the stage began, with so many requests."""
    arms = {"challenger": Counted(requests, **changes.pop("counted", {}))}
    return advance(release, replace(Facts(3, CHAMPION, CANDIDATE, arms=arms), **changes), NOW + minutes * MINUTE)


def stages_by(plan: RolloutPlan, requests: int = 200) -> list[str]:
    """The stages that a release goes through until it is live, each when its time is over."""
    release, found = replace(PREPARED, plan=plan), list[str]()
    while not isinstance(made := after_minutes(release, 10, requests), GoLive):
        assert isinstance(made, Enter), made
        assert made.stage.state in NEXT[release.state]
        release = tried(made.stage.state, made.stage.weight, plan)
        found.append(release.stage)
    return found


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        (PLAN, ["shadow", "canary-5", "canary-50", "bake"]),
        (replace(PLAN, shadow=timedelta(0)), ["canary-5", "canary-50", "bake"]),
        (replace(PLAN, canary=()), ["shadow", "bake"]),
        (replace(PLAN, bake=timedelta(0)), ["shadow", "canary-5", "canary-50"]),
        (replace(PLAN, canary=(), bake=timedelta(0)), ["shadow"]),
        (replace(PLAN, shadow=timedelta(0), canary=(), bake=MINUTE), ["bake"]),
        (replace(PLAN, step=timedelta(0)), ["shadow", "canary-5", "canary-50", "bake"]),
    ],
)
def test_a_release_goes_through_the_stages_that_its_plan_has(plan: RolloutPlan, found: list[str]) -> None:
    assert stages_by(plan) == found


def test_bake_answers_all_callers_and_shadow_none() -> None:
    weights = {stage.name: stage.weight for stage in stages(PLAN)}
    assert weights == {"shadow": 0, "canary-5": 5, "canary-50": 50, "bake": 100}


def test_the_first_release_of_a_model_has_no_trial() -> None:
    assert advance(replace(PREPARED, plan=PLAN, seen=0), Facts(0, None, CANDIDATE), NOW) == GoLive()


@pytest.mark.parametrize("state", [RolloutState.SHADOW, RolloutState.CANARY, RolloutState.BAKE])
@given(minutes=st.floats(-60, 60), requests=st.integers(0, 400))
def test_a_stage_ends_when_its_time_is_over_and_enough_requests_have_come(
    state: RolloutState, minutes: float, requests: int
) -> None:
    weight = {RolloutState.CANARY: 5, RolloutState.BAKE: 100}.get(state, 0)
    lasts = {RolloutState.SHADOW: 5, RolloutState.CANARY: 3, RolloutState.BAKE: 10}[state]
    found = after_minutes(tried(state, weight), minutes, requests)
    assert isinstance(found, Wait) == (timedelta(minutes=minutes) < lasts * MINUTE or requests < 200)


def test_it_says_what_a_stage_has_shown_and_what_comes_next() -> None:
    counted = {"faults": 1, "latency": (0, 0, 231, *[0] * 17)}
    found = after_minutes(tried(RolloutState.CANARY, 5), 4, 231, counted=counted)
    assert isinstance(found, Enter)
    assert found.reason == (
        "it answers 50 % of callers, after canary-5: 231 requests in 4 min, 0.43% failed, p99 1.99 ms"
    )


def test_a_stage_that_is_short_of_requests_says_so() -> None:
    told = "canary-5: 120 of 200 requests"
    assert after_minutes(tried(RolloutState.CANARY, 5), 2, 120) == Wait(
        f"{told}, until 2025-03-01 12:03:00 UTC at least"
    )
    waits = f"{told} in 7 min; waits, or a person promotes or aborts"
    assert after_minutes(tried(RolloutState.CANARY, 5), 7, 120) == Wait(waits)


@pytest.mark.parametrize(("state", "weight"), [(stage.state, stage.weight) for stage in stages(PLAN)])
def test_a_trip_rolls_back_whatever_else_is_true(state: RolloutState, weight: int) -> None:
    trip = Trip("release-5", "replica-1", TripKind.FAULTS, "5 of 5 requests failed", NOW)
    release = tried(state, weight)
    told = f"version 5 was rolled back in {release.stage} by its guard: 5 of 5 requests failed"
    for changes in ({}, {"generation": 9}, {"hold": held(AFTER)}):
        assert after_minutes(release, 60, 900, trip=trip, **changes) == Abort(told, False, TripKind.FAULTS)


def test_what_all_replicas_have_counted_together_rolls_back_too() -> None:
    """Of 200 requests 3 failed, which no guard saw: each has its own share of them."""
    found = after_minutes(tried(RolloutState.SHADOW), 1, 200, counted={"faults": 3})
    assert isinstance(found, Abort)
    assert (found.tripped, found.again) == (TripKind.ERROR_RATE, False)
    assert "version 5 was rolled back in shadow by its guard: 3 of its 200 requests failed" in found.reason
    assert isinstance(after_minutes(tried(RolloutState.SHADOW), 1, 199, counted={"faults": 3}), Wait)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generation": 4}, "version 4 became champion (generation 4) while version 5 waited"),
        ({"hold": held(AFTER)}, "held since "),
        ({"candidate": replace(CANDIDATE, state=CandidateState.DECLINED)}, "version 5 is declined by now"),
    ],
)
def test_on_trial_the_same_is_in_the_way_as_before(changes: dict[str, Any], told: str) -> None:
    changes = {"champion": replace(CHAMPION, generation=4), **changes} if "generation" in changes else changes
    found = after_minutes(tried(RolloutState.BAKE, 100), 60, 900, **changes)
    assert isinstance(found, Abort)
    assert found.reason.startswith(told)
    assert found.again == ("candidate" not in changes)
    assert found.tripped is None


@pytest.mark.parametrize("plan", [None, PLAN])
def test_a_prepared_release_waits_while_another_is_on_trial(plan: RolloutPlan | None) -> None:
    other = replace(tried(RolloutState.CANARY, 5), id="release-4b", version=4)
    told = "version 5 waits: version 4 is on trial (canary-5)"
    assert move(replace(PREPARED, plan=plan), other=other) == Wait(told)
    assert isinstance(move(replace(PREPARED, plan=plan), other=other, generation=9), Abort)


# ---------------------------------------------------------------- another was quicker


def test_the_loser_is_told_by_name() -> None:
    other = replace(CHAMPION, version=6, generation=4)
    told = "version 6 became champion by run run-6 (generation 4) while version 5 waited"
    assert move(generation=4, champion=other, champion_run="run-6") == Abort(told, again=True)
    assert move(BY_ADA, approval=APPROVAL, generation=4, champion=other, champion_run="run-6") == Abort(
        told, again=True
    )


def test_a_rollback_is_told_as_one_even_under_its_hold() -> None:
    back = replace(CHAMPION, version=2, generation=4, kind=ReleaseKind.ROLLBACK, released_by="eve")
    told = "eve rolled back to version 2 (generation 4) while version 5 waited"
    assert move(generation=4, champion=back, hold=held(AFTER)) == Abort(told, again=True)


# ---------------------------------------------------------------- holds


@pytest.mark.parametrize("since", [BEFORE, AFTER])
def test_each_hold_stops_what_nobody_approved(since: Any) -> None:
    told = move(hold=held(since))
    assert isinstance(told, Abort)
    assert told.reason.startswith("held since ")
    assert told.reason.endswith("To lift it: evergreen release-hold m")
    assert told.again


@pytest.mark.parametrize(("since", "goes"), [(BEFORE, True), (NOW, True), (AFTER, False)])
def test_only_a_hold_of_later_stops_what_a_person_approved(since: Any, goes: bool) -> None:
    assert isinstance(move(BY_ADA, approval=APPROVAL, hold=held(since, FLEET)), GoLive if goes else Abort)


@pytest.mark.parametrize(("since", "goes"), [(BEFORE, True), (AFTER, False)])
def test_where_a_persons_approval_is_not_known_the_preparation_counts(since: Any, goes: bool) -> None:
    assert isinstance(move(replace(PREPARED, released_by="ada"), hold=held(since)), GoLive if goes else Abort)


# ---------------------------------------------------------------- the candidate


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (CandidateState.DECLINED, "version 5 is declined by now"),
        (CandidateState.ROLLED_BACK, "version 5 is rolled back by now"),
        (CandidateState.NOT_JUDGED, "version 5 is not judged since it was judged anew"),
    ],
)
def test_a_candidate_that_may_not_be_released_any_more_is_not_judged_again(state: CandidateState, told: str) -> None:
    assert move(candidate=replace(CANDIDATE, state=state)) == Abort(told, again=False)


def test_an_override_goes_live() -> None:
    candidate = replace(CANDIDATE, state=CandidateState.TO_OVERRIDE)
    assert move(BY_ADA, approval=APPROVAL, candidate=candidate) == GoLive()


def test_an_approval_stands_for_its_verdict_only() -> None:
    anew = replace(CANDIDATE, verdict=make_verdict(reason="by looser gates"))
    told = Abort("version 5 was judged again after ada approved it", again=True)
    assert move(BY_ADA, approval=APPROVAL, candidate=anew) == told


def test_where_a_person_must_decide_by_now_nothing_goes_live_by_itself() -> None:
    anew = replace(CANDIDATE, verdict=make_verdict(ask_why="column 'x' is gone"))
    told = move(candidate=anew)
    assert isinstance(told, Abort)
    assert "a person must decide: column 'x' is gone" in told.reason
