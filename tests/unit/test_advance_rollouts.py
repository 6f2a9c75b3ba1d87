"""The pass over prepared releases, on SQLite and in memory: who is found dead in between, who loses, who is held."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evergreen.core.errors import RunEnds
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    ApprovalState,
    Candidate,
    CandidateState,
    RequestState,
    RolloutState,
    TriggerRequest,
)
from evergreen.core.triggers import judged_again
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.abort import NothingToAbort, abort
from evergreen.steps.advance_rollouts import OWN_TURN, advance_rollouts
from evergreen.steps.roll_out import roll_out
from judging import Killed, Mortal
from ledgers import LATER, opener_of, prepare, release, roll_back
from records import NOW, make_candidate, make_request_args, make_spec, make_verdict

MANUAL = make_spec(approval={"mode": "manual"})


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return opener_of(request.param, tmp_path)()


def judged(ledger: Ledger, version: int, *, model: str = "m", **changes: Any) -> Candidate:
    """A candidate that passed in a run that has come to its release."""
    run = f"run-{version}"
    opened = ledger.requests.open(**make_request_args(model=model, run_id=run, dedupe_key=run))
    ledger.requests.mark(opened.id, now=NOW, state=RequestState.CLAIMED, step="roll_out")
    ledger.models.add_candidate(make_candidate(model=model, version=version, request_id=opened.id))
    asked = {"verdict": make_verdict(), "state": CandidateState.PASSED, **changes}
    seen = ledger.releases.champion(model).generation
    return ledger.models.judge(model, version, generation_seen=seen, **asked)


def approve(ledger: Ledger, candidate: Candidate) -> str:
    """By ada; the approval's id."""
    asked = ledger.approvals.ask(
        candidate, request_id=candidate.request_id, run_id=f"run-{candidate.version}", expires_at=LATER, now=NOW
    )
    return ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="", now=NOW).id


def again(ledger: Ledger) -> list[TriggerRequest]:
    return [request for request in ledger.requests.latest("m", limit=100) if judged_again(request)]


def test_a_release_whose_run_died_goes_live_and_its_request_is_served(ledger: Ledger) -> None:
    first, other = judged(ledger, 1), judged(ledger, 1, model="n")
    for candidate in (first, other):
        prepare(ledger, candidate)
    told = advance_rollouts(ledger, now=LATER)
    assert told == ["m: version 1 was released, generation 1", "n: version 1 was released, generation 1"]
    request = ledger.requests.get(first.request_id)
    assert (request.state, request.step, request.reason) == (RequestState.SERVED, "roll_out", "released version 1")
    assert ledger.models.candidate("m", 1).state is CandidateState.RELEASED
    assert advance_rollouts(ledger, now=LATER) == []


def test_a_run_that_failed_for_good_is_served_too(ledger: Ledger) -> None:
    candidate = judged(ledger, 1)
    prepare(ledger, candidate)
    ledger.requests.mark(candidate.request_id, now=NOW, state=RequestState.FAILED, step="roll_out", reason="killed")
    advance_rollouts(ledger, now=LATER)
    assert ledger.requests.get(candidate.request_id).state is RequestState.SERVED


def test_a_release_is_left_to_its_own_run_for_a_while(ledger: Ledger) -> None:
    prepare(ledger, judged(ledger, 1))
    assert advance_rollouts(ledger, now=NOW) == []
    assert ledger.releases.prepared() != []
    assert len(advance_rollouts(ledger, now=NOW + OWN_TURN)) == 1
    assert ledger.releases.champion("m").generation == 1
    prepare(ledger, judged(ledger, 2))
    assert len(advance_rollouts(ledger, now=NOW - timedelta(days=1))) == 1  # the clock was set back
    assert ledger.releases.champion("m").generation == 2


def test_a_run_that_died_after_its_release_went_live_is_served_once_it_is_late(ledger: Ledger) -> None:
    candidate = judged(ledger, 1)
    release(ledger, candidate)
    assert advance_rollouts(ledger, now=NOW) == []
    assert ledger.requests.get(candidate.request_id).state is RequestState.CLAIMED
    assert advance_rollouts(ledger, now=LATER) == ["m: version 1 was released, generation 1"]
    assert ledger.requests.get(candidate.request_id).reason == "released version 1"
    assert advance_rollouts(ledger, now=LATER) == []


def test_of_two_that_were_approved_one_wins_and_the_other_is_told_and_judged_again(ledger: Ledger) -> None:
    loser, winner = judged(ledger, 1), judged(ledger, 2)
    for candidate in (loser, winner):
        approve(ledger, candidate)
    registry = FakeRegistry()
    for candidate in (winner, loser):
        registry.register("m", registry.start_run("m", f"run-{candidate.version}", {}), {}, {})

    def go(candidate: Candidate) -> Any:
        return roll_out(
            MANUAL, ledger, _Runs(registry), request_id=candidate.request_id, version=candidate.version,
            released_by="ada", reason="approved by ada", now=NOW,
        )  # fmt: skip

    go(winner)
    for _ in range(2):
        with pytest.raises(RunEnds, match=r"^version 2 became champion by run run-2 \(generation 1\) while version 1"):
            go(loser)
    (opened,) = again(ledger)
    assert (opened.queued, judged_again(opened), opened.detail["of"]) == (True, 1, loser.request_id)
    told = ledger.requests.get(loser.request_id)
    assert told.state is RequestState.SERVED
    assert told.reason.endswith(f"version 1 is judged again by request {opened.id}")
    # its run judges it against the new champion, a person approves, and it is released
    verdict = make_verdict(request_id=opened.id)
    anew = ledger.models.judge("m", 1, verdict=verdict, state=CandidateState.PASSED, generation_seen=1)
    asked = ledger.approvals.ask(anew, request_id=opened.id, run_id=opened.run_id, expires_at=LATER, now=NOW)
    ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="", now=NOW)
    live = go(replace(loser, request_id=opened.id))
    assert (live.version, live.generation, live.approval_id) == (1, 2, asked.id)
    assert [one.state for one in ledger.releases.history("m")] == [RolloutState.REPLACED, RolloutState.LIVE]
    assert len(again(ledger)) == 1


class _Runs(FakeRegistry):
    """Knows the versions, and any run."""

    def __init__(self, inner: FakeRegistry) -> None:
        super().__init__()
        self.versions = inner.versions

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """It was another's."""


def test_the_loser_of_two_prepared_is_aborted_by_name(ledger: Ledger) -> None:
    winner, loser = judged(ledger, 1), judged(ledger, 2)
    for candidate in (winner, loser):
        prepare(ledger, candidate, approval_id=approve(ledger, candidate), released_by="ada")
    told = advance_rollouts(ledger, now=LATER)
    (opened,) = again(ledger)
    reason = (
        "version 1 became champion by run run-1 (generation 1) while version 2 waited; "
        f"version 2 is judged again by request {opened.id}"
    )
    assert told == ["m: version 1 was released, generation 1", f"m: version 2 was not released: {reason}"]
    assert ledger.requests.get(loser.request_id).reason == reason
    assert ledger.models.candidate("m", 2).state is CandidateState.PASSED
    assert advance_rollouts(ledger, now=LATER) == []
    assert len(again(ledger)) == 1


def test_a_hold_of_after_the_approval_aborts_it_and_one_of_before_does_not(ledger: Ledger) -> None:
    candidate = judged(ledger, 1)
    ledger.holds.place("m", by="bob", reason="wrong fares", now=NOW)
    prepare(ledger, candidate, approval_id=approve(ledger, candidate), released_by="ada")
    assert advance_rollouts(ledger, now=LATER) == ["m: version 1 was released, generation 1"]
    ledger.holds.lift("m", by="bob", reason="repaired", now=NOW)
    held = judged(ledger, 2)
    prepare(ledger, held, approval_id=approve(ledger, held), released_by="ada")
    ledger.holds.place("m", by="bob", reason="wrong again", now=LATER)
    (told,) = advance_rollouts(ledger, now=LATER)
    assert told.startswith("m: version 2 was not released: held since ")
    assert ledger.requests.get(held.request_id).state is RequestState.SERVED


def test_a_rollback_meanwhile_is_named(ledger: Ledger) -> None:
    for version in (1, 2):
        release(ledger, judged(ledger, version))
    prepare(ledger, judged(ledger, 3))
    roll_back(ledger, ledger.models.candidate("m", 1))
    told = advance_rollouts(ledger, now=LATER)[0]
    assert "ada rolled back to version 1 (generation 3) while version 3 waited" in told


def test_one_that_cannot_be_advanced_keeps_none_of_the_others(ledger: Ledger) -> None:
    for model in ("m", "n"):
        prepare(ledger, judged(ledger, 1, model=model))

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(ledger.models, name)

        def candidate(self, model: str, version: int) -> Candidate:
            if model == "m":
                raise KeyError("a row that is not there")
            return ledger.models.candidate(model, version)

    with pytest.raises(KeyError, match="a row that is not there"):
        advance_rollouts(replace(ledger, models=Broken()), now=LATER)
    assert [one.model for one in ledger.releases.history()] == ["n"]


@pytest.mark.parametrize("call", range(1, 40))
def test_killed_at_any_call_the_next_pass_ends_what_was_begun(call: int, tmp_path: Path) -> None:
    ledger = opener_of("memory", tmp_path)()
    winner, loser = judged(ledger, 1), judged(ledger, 2)
    for candidate in (winner, loser):
        prepare(ledger, candidate)
    countdown = [call]
    with suppress(Killed):
        mortal = Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()})
        advance_rollouts(mortal, now=LATER)
    advance_rollouts(ledger, now=LATER)
    assert ledger.releases.prepared() == []
    assert [one.version for one in ledger.releases.history("m")] == [1]
    assert ledger.requests.get(loser.request_id).state is RequestState.SERVED
    assert len(again(ledger)) == 1


# ---------------------------------------------------------------- a person's abort


def test_a_person_aborts_a_prepared_release(ledger: Ledger) -> None:
    candidate = judged(ledger, 1)
    prepare(ledger, candidate)
    for _ in range(2):  # the same again makes up for a kill
        (ended,) = abort(ledger, "m", by="bob", reason=" wrong\nfares ", now=LATER)
        assert (ended.version, ended.state) == (1, RolloutState.ABORTED)
    assert ledger.models.candidate("m", 1).state is CandidateState.DECLINED
    request = ledger.requests.get(candidate.request_id)
    assert (request.state, request.reason) == (RequestState.SERVED, "version 1: aborted by bob: wrong fares")
    assert [(e.what, e.by, e.detail) for e in ledger.events.history("m")] == [
        ("release aborted", "bob", "version 1: aborted by bob: wrong fares")
    ]
    assert again(ledger) == []
    assert advance_rollouts(ledger, now=LATER) == []


def test_where_nothing_is_on_its_way_the_right_command_is_named(ledger: Ledger) -> None:
    def told() -> str:
        with pytest.raises(NothingToAbort) as refused:
            abort(ledger, "m", by="bob", reason="wrong fares", now=LATER)
        return str(refused.value)

    assert "found no release" in told()
    release(ledger, judged(ledger, 1))
    assert "version 1, which is live" in told()
    assert "`evergreen rollback m --reason …`" in told()
    waiting = judged(ledger, 2)
    ledger.approvals.ask(waiting, request_id=waiting.request_id, run_id="run-2", expires_at=LATER, now=NOW)
    assert "version 2, which waits for approval" in told()
    assert "`evergreen reject m --reason …`" in told()
