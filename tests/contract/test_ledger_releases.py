"""What every ledger does: releases, rollbacks and who is champion."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from evergreen.core.errors import EvergreenError, PromotionConflict
from evergreen.core.ports import Ledger
from evergreen.core.records import NEVER_RELEASED, Candidate, CandidateState, Hold, Release, ReleaseKind
from ledgers import LATER, Opener, passed, release, roll_back
from records import NOW, WATERMARK, make_candidate, make_verdict


def test_a_release_makes_the_champion(ledger: Ledger) -> None:
    assert (ledger.releases.champion("m").release_id, ledger.releases.champion("m").generation) == (None, 0)
    first = release(ledger, ledger.models.add_candidate(make_candidate()))
    assert ledger.releases.get(first.id) == first
    assert (first.version, first.bundle, first.pool, first.generation) == (1, f"{1:064x}", "default", 1)
    assert (first.request_id, first.watermark, first.released_at) == ("request-1", WATERMARK, NOW)
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED
    second = release(ledger, ledger.models.add_candidate(make_candidate(version=2, generation_seen=1)))
    champion = ledger.releases.champion("m")
    assert (champion.release_id, champion.generation) == (second.id, 2)
    assert ledger.releases.history("m") == [ledger.releases.get(first.id), second]
    with pytest.raises(KeyError):
        ledger.releases.get("nobody")


def test_a_released_candidate_is_not_released_twice(ledger: Ledger) -> None:
    candidate = ledger.models.add_candidate(make_candidate())
    first = release(ledger, candidate)
    assert release(ledger, candidate, reason="again", now=LATER) == first
    second = release(ledger, ledger.models.add_candidate(make_candidate(version=2, generation_seen=1)))
    assert release(ledger, candidate).id == first.id
    assert ledger.releases.champion("m").release_id == second.id
    assert len(ledger.releases.history()) == 2


@pytest.mark.parametrize("seen", [0, 2])
def test_a_candidate_judged_against_another_champion_is_refused(ledger: Ledger, seen: int) -> None:
    first = release(ledger, ledger.models.add_candidate(make_candidate()))
    late = ledger.models.add_candidate(make_candidate(version=2, generation_seen=seen))
    with pytest.raises(PromotionConflict, match=f"judged against champion generation {seen}, which is now 1"):
        release(ledger, late)
    assert ledger.releases.history() == [first]
    assert ledger.releases.champion("m").release_id == first.id
    assert ledger.models.candidate("m", 2).state is CandidateState.TRAINED


def test_a_candidate_that_was_never_kept_is_not_released(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        release(ledger, make_candidate())
    assert ledger.releases.history() == []


@pytest.mark.parametrize("seen", [0, 1])
def test_of_two_candidates_at_once_one_wins(opener: Opener, seen: int) -> None:
    ledger = opener()
    if seen:
        release(ledger, ledger.models.add_candidate(make_candidate(version=9)))
    racers = [
        ledger.models.add_candidate(make_candidate(version=version, generation_seen=seen)) for version in range(1, 5)
    ]

    def race(candidate: Candidate) -> int | PromotionConflict:
        try:
            return release(opener(), candidate).version
        except PromotionConflict as conflict:
            return conflict

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(race, racers))
    winners = [result for result in results if isinstance(result, int)]
    assert len(winners) == 1
    assert {r.found for r in results if isinstance(r, PromotionConflict)} == {seen + 1}
    champion = ledger.releases.champion("m")
    assert champion.generation == seen + 1
    assert ledger.releases.get(champion.release_id).version == winners[0]
    assert len(ledger.releases.history("m")) == seen + 1


def test_live_is_each_champion_of_the_pool(ledger: Ledger) -> None:
    for model in ("b", "a"):
        for version in (1, 2):
            made = make_candidate(model=model, version=version, generation_seen=version - 1)
            release(ledger, ledger.models.add_candidate(made))
    release(ledger, ledger.models.add_candidate(make_candidate(model="c")), pool="other")
    assert [(r.model, r.version) for r in ledger.releases.live("default")] == [("a", 2), ("b", 2)]
    assert [r.model for r in ledger.releases.live("other")] == ["c"]
    assert ledger.releases.live("none") == []


def test_a_release_is_a_promotion_of_no_act(ledger: Ledger) -> None:
    made = release(ledger, ledger.models.add_candidate(make_candidate()))
    assert (made.kind, made.act) == (ReleaseKind.PROMOTION, "")
    assert ledger.releases.get(made.id).kind is ReleaseKind.PROMOTION


@pytest.mark.parametrize("state", sorted(NEVER_RELEASED))
def test_a_refused_candidate_is_not_released(ledger: Ledger, state: CandidateState) -> None:
    candidate = ledger.models.add_candidate(make_candidate(state=state))
    with pytest.raises(EvergreenError, match=f"m: version 1 is {state}. Nothing was released"):
        release(ledger, candidate)
    assert ledger.releases.history() == []
    assert ledger.models.candidate("m", 1).state is state


# ---------------------------------------------------------------- rollbacks


@pytest.fixture
def first(ledger: Ledger) -> Candidate:
    """Version 1, which was champion before version 2."""
    candidate = passed(ledger, 1, seen=0)
    release(ledger, candidate)
    release(ledger, passed(ledger, 2, seen=1))
    return candidate


def test_a_rollback_makes_the_earlier_version_champion_and_holds_the_model(ledger: Ledger, first: Candidate) -> None:
    back = roll_back(ledger, first)
    assert ledger.releases.get(back.id) == back
    assert (back.version, back.bundle, back.generation, back.request_id) == (1, first.bundle, 3, "request-1")
    assert (back.kind, back.act, back.released_by, back.reason) == (
        ReleaseKind.ROLLBACK,
        "run-9",
        "ada",
        "wrong fares",
    )
    assert (back.released_at, back.watermark, back.pool) == (LATER, WATERMARK, "default")
    champion = ledger.releases.champion("m")
    assert (champion.release_id, champion.generation) == (back.id, 3)
    assert [r.id for r in ledger.releases.live("default")] == [back.id]
    assert [r.version for r in ledger.releases.history("m")] == [1, 2, 1]
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED
    assert ledger.models.candidate("m", 2).state is CandidateState.ROLLED_BACK
    assert ledger.holds.applying("m") == Hold("m", "ada", "wrong fares", LATER)
    assert ledger.holds.applying("other") is None


def test_the_same_act_is_one_rollback(ledger: Ledger, first: Candidate) -> None:
    back = roll_back(ledger, first)
    ledger.holds.lift("m", by="ada", reason="solved", now=LATER)
    assert roll_back(ledger, first, reason="again", seen=9) == back
    assert ledger.releases.champion("m").generation == 3
    assert ledger.holds.applying("m") is None


def test_the_same_act_of_another_model_is_another_rollback(ledger: Ledger, first: Candidate) -> None:
    other = passed(ledger, 1, seen=0, model="other")
    release(ledger, other)
    release(ledger, passed(ledger, 2, seen=1, model="other"))
    assert [roll_back(ledger, candidate).model for candidate in (first, other)] == ["m", "other"]


def test_acts_without_a_name_are_different_acts(ledger: Ledger, first: Candidate) -> None:
    second = ledger.models.candidate("m", 2)
    made = [roll_back(ledger, to, act="", seen=seen) for to, seen in ((first, 2), (second, 3), (first, 4))]
    assert [r.generation for r in made] == [3, 4, 5]


def test_a_rolled_back_version_can_be_gone_back_to(ledger: Ledger, first: Candidate) -> None:
    roll_back(ledger, first)
    second = ledger.models.candidate("m", 2)
    forth = roll_back(ledger, second, act="run-10", seen=3, by="ben", reason="it was not the model")
    assert ledger.releases.champion("m").release_id == forth.id
    assert ledger.models.candidate("m", 1).state is CandidateState.ROLLED_BACK
    assert ledger.models.candidate("m", 2).state is CandidateState.RELEASED
    assert ledger.holds.applying("m").by == "ada"  # the first hold stays
    assert len(ledger.holds.history("m")) == 1


def test_a_rollback_that_is_not_possible_changes_nothing(ledger: Ledger, first: Candidate) -> None:
    with pytest.raises(PromotionConflict, match="generation 1, which is now 2"):
        roll_back(ledger, first, seen=1)
    with pytest.raises(EvergreenError, match="m: version 2 is champion already"):
        roll_back(ledger, ledger.models.candidate("m", 2))
    with pytest.raises(EvergreenError, match="m: version 3 was never released"):
        roll_back(ledger, passed(ledger, 3, seen=2))
    with pytest.raises(KeyError):
        roll_back(ledger, make_candidate(version=4))
    assert len(ledger.releases.history("m")) == ledger.releases.champion("m").generation == 2
    assert ledger.models.candidate("m", 2).state is CandidateState.RELEASED
    assert ledger.holds.history() == []


def test_a_rolled_back_version_is_not_released_unless_reopened_and_judged_anew(
    ledger: Ledger, first: Candidate
) -> None:
    promoted = ledger.releases.history("m")[-1]
    roll_back(ledger, first)
    with pytest.raises(EvergreenError, match="m: version 2 is rolled_back"):
        release(ledger, ledger.models.candidate("m", 2))
    ledger.models.reopen("m", 2)
    judged = ledger.models.judge("m", 2, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=3)
    again = release(ledger, judged, now=LATER)
    assert (again.version, again.generation) == (2, 4)
    assert again.id != promoted.id
    assert release(ledger, judged) == again  # the newest of its releases
    assert ledger.models.candidate("m", 2).state is CandidateState.RELEASED


def race(opener: Opener, *acts: Callable[[Ledger], Release]) -> tuple[list[Release], list[EvergreenError]]:
    """Do all at once, each through its own connection: the releases made, and the errors raised."""
    ready = Barrier(len(acts))

    def run(act: Callable[[Ledger], Release]) -> Release | EvergreenError:
        ledger = opener()
        ready.wait(10)
        try:
            return act(ledger)
        except EvergreenError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        results = list(pool.map(run, acts))
    made = [result for result in results if isinstance(result, Release)]
    return made, [result for result in results if isinstance(result, EvergreenError)]


def test_of_rollbacks_at_once_one_wins(opener: Opener) -> None:
    ledger = opener()
    for version in range(1, 5):
        release(ledger, passed(ledger, version, seen=version - 1))

    def back_to(version: int, act: str) -> Callable[[Ledger], Release]:
        candidate = ledger.models.candidate("m", version)
        return lambda own: roll_back(own, candidate, seen=4, act=act, by=act)

    made, errors = race(opener, *(back_to(version, f"{version}-{n}") for version in (1, 2, 3) for n in (1, 2)))
    assert (len(made), len(errors)) == (1, 5)
    assert {type(error) for error in errors} == {PromotionConflict}
    champion = ledger.releases.champion("m")
    assert (champion.release_id, champion.generation) == (made[0].id, 5)
    assert [r.generation for r in ledger.releases.history("m")] == [1, 2, 3, 4, 5]
    assert [event.by for event in ledger.holds.history("m")] == [made[0].released_by]
    states = {c.version: c.state for c in ledger.models.candidates("m")}
    assert states.pop(4) is CandidateState.ROLLED_BACK
    assert set(states.values()) == {CandidateState.RELEASED}


def test_one_act_done_many_times_at_once_is_one_rollback(opener: Opener) -> None:
    ledger = opener()
    first = passed(ledger, 1, seen=0)
    release(ledger, first)
    release(ledger, passed(ledger, 2, seen=1))
    made, errors = race(opener, *[lambda own: roll_back(own, first)] * 6)
    assert errors == []
    assert len({r.id for r in made}) == 1
    assert ledger.releases.champion("m").generation == 3
    assert len(ledger.holds.history("m")) == 1


@pytest.mark.parametrize("attempt", range(3))
def test_of_a_rollback_and_a_release_at_once_one_wins(opener: Opener, attempt: int) -> None:
    ledger = opener()
    first = passed(ledger, 1, seen=0)
    release(ledger, first)
    release(ledger, passed(ledger, 2, seen=1))
    third = passed(ledger, 3, seen=2)
    acts = [lambda own: roll_back(own, first), lambda own: release(own, third)]
    made, errors = race(opener, *acts[:: 1 if attempt % 2 else -1])
    assert (len(made), [type(error) for error in errors]) == (1, [PromotionConflict])
    assert ledger.releases.champion("m").release_id == made[0].id
    rolled_back = made[0].kind is ReleaseKind.ROLLBACK
    assert (ledger.holds.applying("m") is not None) == rolled_back
    second, last = (ledger.models.candidate("m", version).state for version in (2, 3))
    assert (second is CandidateState.ROLLED_BACK) == rolled_back
    assert last is (CandidateState.PASSED if rolled_back else CandidateState.RELEASED)
