"""The rollout's state machine: facts in, the next move out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core.records import (
    FLEET,
    Approval,
    ApprovalState,
    CandidateState,
    Hold,
    Release,
    ReleaseKind,
    RolloutState,
)
from evergreen.core.rollout import NEXT, Abort, Facts, GoLive, Move, Wait, advance
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
    return advance(release, replace(Facts(3, CHAMPION, CANDIDATE), **changes))


def held(since: Any, model: str = "m") -> Hold:
    return Hold(model, "bob", "wrong fares", since)


def test_where_nothing_is_in_the_way_it_goes_live() -> None:
    assert move() == GoLive()
    assert move(BY_ADA, approval=APPROVAL) == GoLive()
    assert advance(replace(PREPARED, seen=0), Facts(0, None, CANDIDATE)) == GoLive()  # the first of a model


@pytest.mark.parametrize("state", [state for state in RolloutState if state is not RolloutState.PREPARED])
def test_what_is_not_prepared_moves_no_further_by_itself(state: RolloutState) -> None:
    assert isinstance(move(replace(PREPARED, state=state), generation=9), Wait)


def test_only_a_prepared_release_can_go_live_and_only_a_live_one_is_replaced_or_rolled_back() -> None:
    assert {state for state, after in NEXT.items() if RolloutState.LIVE in after} == {RolloutState.PREPARED}
    ends = {RolloutState.REPLACED, RolloutState.ROLLED_BACK}
    assert {state for state, after in NEXT.items() if after & ends} == {RolloutState.LIVE}
    assert set(NEXT) == set(RolloutState)


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
