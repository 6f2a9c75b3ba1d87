"""What every ledger does: a release is prepared, and goes live or is aborted; one of a model is live."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from evergreen.core.errors import EvergreenError, PromotionConflict
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    NEVER_RELEASED,
    Approval,
    ApprovalState,
    Candidate,
    CandidateState,
    Release,
    ReleaseKind,
    RolloutState,
)
from ledgers import LATER, Opener, passed, prepare, release, roll_back
from records import NOW, WATERMARK, make_candidate, make_verdict

MUCH_LATER = LATER + timedelta(hours=1)


def states(ledger: Ledger, model: str = "m") -> list[tuple[int, RolloutState]]:
    """Version and state of all releases that went live, oldest first."""
    return [(made.version, made.state) for made in ledger.releases.history(model)]


def events_of(ledger: Ledger, made: Release) -> list[RolloutState]:
    """What happened to one release, oldest first."""
    return [event.state for event in ledger.releases.events(made.model) if event.release_id == made.id]


def abort(ledger: Ledger, made: Release, **changes: object) -> Release:
    """Abort an hour later."""
    return ledger.releases.abort(made.id, **{"by": "ada", "reason": "wrong fares", "now": LATER, **changes})  # type: ignore[arg-type]


# ---------------------------------------------------------------- prepared


def test_a_prepared_release_changes_nothing_yet(ledger: Ledger) -> None:
    made = prepare(ledger, passed(ledger, 1, seen=0), approval_id="approval-1")
    assert made == ledger.releases.get(made.id)
    assert (made.state, made.seen, made.generation, made.released_at) == (RolloutState.PREPARED, 0, 0, NOW)
    assert (made.kind, made.act, made.approval_id) == (ReleaseKind.PROMOTION, "", "approval-1")
    assert (made.version, made.bundle, made.pool) == (1, f"{1:064x}", "default")
    assert (made.request_id, made.watermark, made.released_by, made.reason) == ("request-1", WATERMARK, "auto", "gates")
    assert ledger.releases.prepared() == [made]
    assert ledger.releases.champion("m").generation == 0
    assert ledger.releases.history() == ledger.releases.live("default") == []
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED


def test_each_change_of_a_release_shows_in_the_number_of_changes(opener: Opener) -> None:
    ledger, asked = opener(), opener()  # by another process
    seen = [asked.releases.changes()]
    assert seen == [0]

    def shows() -> bool:
        seen.append(asked.releases.changes())
        return seen[-1] != seen[-2]

    first = passed(ledger, 1, seen=0)
    assert not shows()
    made = prepare(ledger, first)
    assert shows()
    ledger.releases.enter(made, RolloutState.CANARY, 10, reason="its trial", now=NOW)
    assert shows()
    ledger.releases.go_live(made.id, LATER)
    assert shows()
    release(ledger, passed(ledger, 2, seen=1))
    assert shows()
    roll_back(ledger, first, seen=2)
    assert shows()
    third = prepare(ledger, passed(ledger, 3, seen=3))
    assert shows()
    abort(ledger, third)
    assert shows()
    ledger.releases.live("default")
    assert not shows()
    assert len(set(seen)) == 8


def test_prepared_twice_it_is_one_release(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    made = prepare(ledger, candidate)
    assert prepare(ledger, candidate, released_by="ada", reason="again", now=LATER) == made
    assert ledger.releases.prepared() == [made]
    assert events_of(ledger, made) == [RolloutState.PREPARED]


def test_a_released_candidate_is_not_prepared_again(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    made = release(ledger, candidate)
    assert prepare(ledger, candidate) == made
    release(ledger, passed(ledger, 2, seen=1))
    assert prepare(ledger, candidate) == ledger.releases.get(made.id)
    assert ledger.releases.prepared() == []


@pytest.mark.parametrize("seen", [0, 2])
def test_a_candidate_judged_against_another_champion_is_not_prepared(ledger: Ledger, seen: int) -> None:
    release(ledger, passed(ledger, 1, seen=0))
    with pytest.raises(PromotionConflict, match=f"generation {seen}, which is now 1"):
        prepare(ledger, passed(ledger, 2, seen=seen))
    assert ledger.releases.prepared() == []
    assert len(ledger.releases.events()) == 2


@pytest.mark.parametrize("state", sorted({*NEVER_RELEASED, CandidateState.TO_OVERRIDE}))
def test_a_refused_candidate_is_not_prepared(ledger: Ledger, state: CandidateState) -> None:
    candidate = ledger.models.add_candidate(make_candidate(state=state, verdict=make_verdict(passed=False)))
    with pytest.raises(EvergreenError, match=r"m: version 1 .*Nothing was released"):
        prepare(ledger, candidate)
    assert (ledger.releases.prepared(), ledger.releases.events()) == ([], [])
    assert ledger.models.candidate("m", 1) == candidate


def test_a_candidate_that_was_never_kept_is_not_prepared(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        prepare(ledger, make_candidate())
    assert ledger.releases.prepared() == []


def test_the_prepared_of_all_models_come_oldest_first(ledger: Ledger) -> None:
    made = [prepare(ledger, passed(ledger, 1, seen=0, model=model)) for model in ("b", "a", "c")]
    ledger.releases.go_live(made[0].id, NOW)
    assert ledger.releases.prepared() == made[1:]
    abort(ledger, made[1])
    assert ledger.releases.prepared() == made[2:]


# ---------------------------------------------------------------- live


def test_a_prepared_release_goes_live(ledger: Ledger) -> None:
    made = prepare(ledger, passed(ledger, 1, seen=0), released_by="ada", reason="looks well")
    live = ledger.releases.go_live(made.id, LATER)
    assert live == ledger.releases.get(made.id)
    assert (live.id, live.state, live.generation, live.released_at) == (made.id, RolloutState.LIVE, 1, LATER)
    assert (live.seen, live.released_by, live.reason) == (0, "ada", "looks well")
    assert (ledger.releases.champion("m").release_id, ledger.releases.champion("m").generation) == (made.id, 1)
    assert ledger.releases.live("default") == ledger.releases.history("m") == [live]
    assert ledger.releases.prepared() == []
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED
    told = [(e.release_id, e.model, e.version, e.state, e.at) for e in ledger.releases.events("m")]
    assert told == [
        (made.id, "m", 1, RolloutState.PREPARED, NOW),
        (made.id, "m", 1, RolloutState.LIVE, LATER),
    ]
    assert [(e.by, e.reason) for e in ledger.releases.events("m")] == [("ada", "looks well")] * 2


def test_live_again_nothing_changes(ledger: Ledger) -> None:
    live = release(ledger, passed(ledger, 1, seen=0))
    assert ledger.releases.go_live(live.id, MUCH_LATER) == live
    assert events_of(ledger, live) == [RolloutState.PREPARED, RolloutState.LIVE]
    release(ledger, passed(ledger, 2, seen=1))
    assert ledger.releases.go_live(live.id, MUCH_LATER).state is RolloutState.REPLACED
    assert ledger.releases.champion("m").generation == 2
    with pytest.raises(KeyError):
        ledger.releases.go_live("nobody", NOW)


def test_the_next_release_replaces_it(ledger: Ledger) -> None:
    first = release(ledger, passed(ledger, 1, seen=0))
    second = release(ledger, passed(ledger, 2, seen=1), now=LATER)
    other = release(ledger, passed(ledger, 1, seen=0, model="other"))
    assert states(ledger) == [(1, RolloutState.REPLACED), (2, RolloutState.LIVE)]
    assert (second.seen, second.generation) == (1, 2)
    assert events_of(ledger, first) == [RolloutState.PREPARED, RolloutState.LIVE, RolloutState.REPLACED]
    replaced = [event for event in ledger.releases.events("m") if event.state is RolloutState.REPLACED]
    assert [(event.version, event.at) for event in replaced] == [(1, LATER)]
    assert events_of(ledger, other) == [RolloutState.PREPARED, RolloutState.LIVE]
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED


def test_of_two_prepared_the_second_stays_prepared(ledger: Ledger) -> None:
    first, second = (prepare(ledger, passed(ledger, version, seen=0)) for version in (1, 2))
    ledger.releases.go_live(second.id, NOW)
    with pytest.raises(PromotionConflict, match="generation 0, which is now 1"):
        ledger.releases.go_live(first.id, LATER)
    assert ledger.releases.prepared() == [first]
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED
    assert states(ledger) == [(2, RolloutState.LIVE)]
    assert events_of(ledger, first) == [RolloutState.PREPARED]


@pytest.mark.parametrize("state", sorted(NEVER_RELEASED - {CandidateState.ROLLED_BACK}))
def test_a_candidate_that_was_refused_meanwhile_does_not_go_live(ledger: Ledger, state: CandidateState) -> None:
    """Two requests may ask about one candidate: the rejection of one is not undone by what the other has prepared."""
    candidate = passed(ledger, 1, seen=0)
    made = prepare(ledger, candidate)
    if state is CandidateState.DECLINED:
        asked = ledger.approvals.ask(candidate, request_id="r", run_id="run-2", expires_at=MUCH_LATER, now=NOW)
        ledger.approvals.answer(asked.id, state=ApprovalState.REJECTED, by="ada", reason="no", now=NOW)
    else:
        ledger.models.judge("m", 1, verdict=make_verdict(passed=False), state=state, generation_seen=0)
    with pytest.raises(EvergreenError, match=f"m: version 1 is {state}"):
        ledger.releases.go_live(made.id, LATER)
    assert ledger.models.candidate("m", 1).state is state
    assert ledger.releases.champion("m").generation == 0
    assert ledger.releases.prepared() == [made]


# ---------------------------------------------------------------- aborted


def test_an_aborted_release_never_went_live(ledger: Ledger) -> None:
    made = prepare(ledger, passed(ledger, 1, seen=0))
    aborted = abort(ledger, made)
    assert aborted == ledger.releases.get(made.id)
    assert (aborted.state, aborted.generation) == (RolloutState.ABORTED, 0)
    assert ledger.releases.prepared() == ledger.releases.history() == []
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED
    event = ledger.releases.events("m")[-1]
    assert (event.release_id, event.state, event.by, event.reason, event.at) == (
        made.id,
        RolloutState.ABORTED,
        "ada",
        "wrong fares",
        LATER,
    )
    assert abort(ledger, made, by="ben", decline=True) == ledger.releases.go_live(made.id, MUCH_LATER) == aborted
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED
    assert events_of(ledger, made) == [RolloutState.PREPARED, RolloutState.ABORTED]
    with pytest.raises(KeyError):
        ledger.releases.abort("nobody", by="ada", reason="", now=NOW)


def test_aborted_by_a_person_who_does_not_want_it_the_candidate_is_declined(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    abort(ledger, prepare(ledger, candidate), decline=True)
    assert ledger.models.candidate("m", 1).state is CandidateState.DECLINED
    with pytest.raises(EvergreenError, match="m: version 1 is declined"):
        prepare(ledger, candidate)


@pytest.mark.parametrize("decline", [True, False])
def test_a_live_release_is_not_aborted(ledger: Ledger, decline: bool) -> None:
    live = release(ledger, passed(ledger, 1, seen=0))
    assert abort(ledger, live, decline=decline) == live
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED
    assert events_of(ledger, live) == [RolloutState.PREPARED, RolloutState.LIVE]


def test_an_aborted_candidate_is_judged_and_prepared_again(ledger: Ledger) -> None:
    first, second = (prepare(ledger, passed(ledger, version, seen=0)) for version in (1, 2))
    ledger.releases.go_live(second.id, NOW)
    abort(ledger, first)
    judged = ledger.models.judge("m", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=1)
    again = release(ledger, judged, now=MUCH_LATER)
    assert again.id != first.id
    assert (again.seen, again.generation) == (1, 2)
    assert states(ledger) == [(2, RolloutState.REPLACED), (1, RolloutState.LIVE)]


# ---------------------------------------------------------------- rolled back


def test_a_rollback_ends_the_release_that_it_leaves(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    first = release(ledger, candidate)
    second = release(ledger, passed(ledger, 2, seen=1))
    back = roll_back(ledger, candidate)
    assert (back.state, back.seen, back.generation, back.approval_id) == (RolloutState.LIVE, 2, 3, "")
    assert states(ledger) == [(1, RolloutState.REPLACED), (2, RolloutState.ROLLED_BACK), (1, RolloutState.LIVE)]
    assert events_of(ledger, first)[-1] is RolloutState.REPLACED
    assert events_of(ledger, second)[-2:] == [RolloutState.LIVE, RolloutState.ROLLED_BACK]
    assert events_of(ledger, back) == [RolloutState.LIVE]
    last = [event for event in ledger.releases.events("m") if event.state is RolloutState.ROLLED_BACK]
    assert [(event.version, event.by, event.reason, event.at) for event in last] == [(2, "ada", "wrong fares", LATER)]


def test_a_rollback_leaves_what_is_prepared_behind(ledger: Ledger) -> None:
    candidate = passed(ledger, 1, seen=0)
    release(ledger, candidate)
    release(ledger, passed(ledger, 2, seen=1))
    third = prepare(ledger, passed(ledger, 3, seen=2))
    roll_back(ledger, candidate)
    with pytest.raises(PromotionConflict, match="generation 2, which is now 3"):
        ledger.releases.go_live(third.id, LATER)


@pytest.mark.parametrize("aborted", [True, False])
def test_what_never_went_live_cannot_be_gone_back_to(ledger: Ledger, aborted: bool) -> None:
    release(ledger, passed(ledger, 1, seen=0))
    candidate = passed(ledger, 2, seen=1)
    made = prepare(ledger, candidate)
    if aborted:
        abort(ledger, made)
    with pytest.raises(EvergreenError, match="m: version 2 was never released"):
        roll_back(ledger, candidate, seen=1)
    assert ledger.holds.history() == []


# ---------------------------------------------------------------- overridden gates


@pytest.fixture
def to_override(ledger: Ledger) -> Candidate:
    """A candidate whose gates failed, and that a person wants all the same."""
    ledger.models.add_candidate(make_candidate())
    verdict = make_verdict(passed=False)
    return ledger.models.judge("m", 1, verdict=verdict, state=CandidateState.TO_OVERRIDE, generation_seen=0)


def approved(ledger: Ledger, candidate: Candidate, state: ApprovalState = ApprovalState.APPROVED) -> Approval:
    """A question about it, answered."""
    times = {"expires_at": MUCH_LATER, "now": NOW}
    asked = ledger.approvals.ask(candidate, request_id="r", run_id="run-1", overrides="auc", **times)
    return ledger.approvals.answer(asked.id, state=state, by="ada", reason="known outage", now=LATER)


def test_an_approval_of_its_verdict_releases_it(ledger: Ledger, to_override: Candidate) -> None:
    asked = approved(ledger, to_override)
    assert ledger.models.candidate("m", 1).state is CandidateState.TO_OVERRIDE
    live = release(ledger, to_override, approval_id=asked.id, released_by="ada")
    assert (live.state, live.approval_id) == (RolloutState.LIVE, asked.id)
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED


def test_an_approval_of_another_verdict_does_not(ledger: Ledger, to_override: Candidate) -> None:
    asked = approved(ledger, to_override)
    worse = make_verdict(passed=False, reason="much worse")
    state = CandidateState.TO_OVERRIDE
    judged = ledger.models.judge("m", 1, verdict=worse, state=state, generation_seen=0)
    with pytest.raises(EvergreenError, match="m: version 1"):
        prepare(ledger, judged, approval_id=asked.id)
    assert ledger.releases.events() == []


def test_an_approval_of_another_version_does_not(ledger: Ledger, to_override: Candidate) -> None:
    ledger.models.add_candidate(make_candidate(version=2))
    verdict, state = make_verdict(passed=False), CandidateState.TO_OVERRIDE
    other = ledger.models.judge("m", 2, verdict=verdict, state=state, generation_seen=0)
    asked = approved(ledger, other)
    for wrong in (asked.id, "nobody", ""):
        with pytest.raises(EvergreenError, match="m: version 1"):
            prepare(ledger, to_override, approval_id=wrong)
    assert prepare(ledger, other, approval_id=asked.id).version == 2


def test_an_open_question_is_no_approval(ledger: Ledger, to_override: Candidate) -> None:
    times = {"expires_at": MUCH_LATER, "now": NOW}
    asked = ledger.approvals.ask(to_override, request_id="r", run_id="run-1", overrides="auc", **times)
    with pytest.raises(EvergreenError, match="m: version 1"):
        prepare(ledger, to_override, approval_id=asked.id)


@pytest.mark.parametrize(
    "state", [ApprovalState.REJECTED, ApprovalState.EXPIRED, ApprovalState.VOID, ApprovalState.SUPERSEDED]
)
def test_any_other_answer_refuses_it_again(ledger: Ledger, to_override: Candidate, state: ApprovalState) -> None:
    asked = approved(ledger, to_override, state)
    assert ledger.models.candidate("m", 1).state is CandidateState.REJECTED
    with pytest.raises(EvergreenError, match="m: version 1 is rejected"):
        prepare(ledger, to_override, approval_id=asked.id)


def test_times_of_releases_are_in_utc(ledger: Ledger) -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    live = ledger.releases.get(release(ledger, passed(ledger, 1, seen=0), now=berlin).id)
    assert (live.released_at, live.released_at.tzinfo) == (NOW, UTC)
    assert {event.at.tzinfo for event in ledger.releases.events()} == {UTC}
    with pytest.raises(Exception, match="without a time zone"):
        prepare(ledger, passed(ledger, 2, seen=1), now=NOW.replace(tzinfo=None))
    assert ledger.releases.prepared() == []
