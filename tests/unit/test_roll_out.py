"""Roll-out on an in-memory ledger and registry."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    FLEET,
    ApprovalState,
    CandidateState,
    Release,
    RequestState,
    RolloutState,
    TriggerRequest,
)
from evergreen.core.triggers import judged_again
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.advance_rollouts import advance_rollouts
from evergreen.steps.roll_out import over, roll_out
from following import Serving
from judging import Killed, Mortal
from ledgers import passed, prepare, release, roll_back
from records import NOW, WATERMARK, make_candidate, make_request_args, make_spec, make_verdict

LATER = NOW + timedelta(hours=1)
SPEC = make_spec(serving={"pool": "fast"}, approval={"mode": "auto"})


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def judged(ledger: Ledger, registry: FakeRegistry, version: int, state: CandidateState = CandidateState.PASSED) -> str:
    """A candidate of this version with a verdict; returns its request's id."""
    run = registry.start_run("m", f"run-{version}", {})
    registry.register("m", run, {}, {"version": str(version)})
    request = ledger.requests.open(**make_request_args(run_id=f"run-{version}", dedupe_key=f"k{version}"))
    ledger.models.add_candidate(make_candidate(version=version, request_id=request.id, mlflow_run=run))
    seen = ledger.releases.champion("m").generation
    ledger.models.judge("m", version, verdict=make_verdict(), state=state, generation_seen=seen)
    return request.id


def go(ledger: Ledger, registry: FakeRegistry, request: str, version: int, **changes: Any) -> Release:
    arguments = {"released_by": "auto", "reason": "1 of 1 gates passed", "now": NOW, **changes}
    return roll_out(SPEC, ledger, registry, request_id=request, version=version, **arguments)


def test_a_passed_candidate_becomes_champion(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    release = go(ledger, registry, request, 1)
    assert ledger.releases.live("fast") == [release]
    assert (release.version, release.generation, release.request_id) == (1, 1, request)
    assert (release.released_by, release.reason) == ("auto", "1 of 1 gates passed")
    assert (release.watermark, release.released_at) == (WATERMARK, NOW)
    assert registry.pointers == {("m", "champion"): 1}
    assert registry.runs[ledger.models.candidate("m", 1).mlflow_run].status == "FINISHED"
    row = ledger.requests.get(request)
    assert (row.state, row.step) == (RequestState.SERVED, "roll_out")
    assert row.reason.startswith("released version 1; no replica of pool 'fast' is alive")
    assert row.closed_at == NOW


def test_the_former_champion_is_named_previous(ledger: Ledger, registry: FakeRegistry) -> None:
    for version in (1, 2, 3):
        go(ledger, registry, judged(ledger, registry, version), version)
    assert registry.pointers == {("m", "champion"): 3, ("m", "previous"): 2}


def test_aliases_follow_a_release_that_comes_while_they_are_set(ledger: Ledger) -> None:
    class Slow(FakeRegistry):
        def set_alias(self, model: str, alias: str, version: int) -> None:
            if ledger.releases.champion("m").generation == 1:
                release(ledger, passed(ledger, 2, seen=1))
                self.register("m", self.start_run("m", "run-2", {}), {}, {"version": "2"})
            super().set_alias(model, alias, version)

    slow = Slow()
    go(ledger, slow, judged(ledger, slow, 1), 1)
    assert slow.pointers == {("m", "champion"): 2, ("m", "previous"): 1}


def test_rolled_out_again_nothing_changes(ledger: Ledger, registry: FakeRegistry) -> None:
    first = judged(ledger, registry, 1)
    release = go(ledger, registry, first, 1)
    go(ledger, registry, judged(ledger, registry, 2), 2)
    before = ledger.requests.get(first)
    assert go(ledger, registry, first, 1, reason="again", now=LATER).id == release.id
    assert ledger.requests.get(first) == before
    assert registry.pointers == {("m", "champion"): 2, ("m", "previous"): 1}
    assert len(ledger.releases.history()) == 2


def test_killed_after_the_release_the_rest_is_made_up_for(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    released = release(ledger, ledger.models.candidate("m", 1), pool="fast")
    assert go(ledger, registry, request, 1, now=LATER) == released
    assert registry.pointers == {("m", "champion"): 1}
    assert ledger.requests.get(request).state is RequestState.SERVED


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (CandidateState.TRAINED, "is trained, and only one that passed its gates can be released"),
        (CandidateState.NOT_JUDGED, "is not_judged, and only one that passed its gates can be released"),
        (CandidateState.REJECTED, r"was refused by its gates \(1 of 1 gates passed\)"),
        (CandidateState.DECLINED, "was rejected by a person"),
        (CandidateState.ROLLED_BACK, "was rolled back, and that blocks it. `evergreen rollback m --to 1`"),
    ],
)
def test_only_what_passed_is_released(ledger: Ledger, registry: FakeRegistry, state: CandidateState, why: str) -> None:
    request = judged(ledger, registry, 1, state)
    with pytest.raises(EvergreenError, match=f"m: version 1 {why}.*Nothing was released"):
        go(ledger, registry, request, 1)
    assert ledger.releases.history() == []
    assert ledger.requests.get(request).state is RequestState.OPEN


def test_an_unknown_version_is_named(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    with pytest.raises(EvergreenError, match="no candidate of version 7"):
        go(ledger, registry, request, 7)


# ---------------------------------------------------------------- another was quicker


def again(ledger: Ledger) -> list[TriggerRequest]:
    """The requests that judge a version again."""
    return [request for request in ledger.requests.latest("m", limit=100) if judged_again(request)]


def beaten(ledger: Ledger, registry: FakeRegistry) -> str:
    """The request of version 1, which passed against the same champion as version 2, which was released."""
    early, late = judged(ledger, registry, 1), judged(ledger, registry, 2)
    go(ledger, registry, late, 2)
    return early


def test_the_loser_is_told_by_name_and_judged_again_once(ledger: Ledger, registry: FakeRegistry) -> None:
    early = beaten(ledger, registry)
    told = set()
    for _ in range(2):
        with pytest.raises(RunEnds, match=r"^version 2 became champion by run run-2 \(generation 1\) while") as ended:
            go(ledger, registry, early, 1)
        assert ended.value.served
        told.add(ended.value.reason)
    (opened,) = again(ledger)
    assert told == {ledger.requests.get(early).reason}
    assert ledger.requests.get(early).reason.endswith(f"; version 1 is judged again by request {opened.id}")
    assert (opened.queued, judged_again(opened), opened.detail["of"]) == (True, 1, early)
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED
    assert [event.version for event in ledger.releases.events("m")] == [2, 2]
    assert registry.pointers == {("m", "champion"): 2}


def test_who_loses_after_it_was_prepared_is_told_the_same(ledger: Ledger, registry: FakeRegistry) -> None:
    early, late = judged(ledger, registry, 1), judged(ledger, registry, 2)
    prepared = prepare(ledger, ledger.models.candidate("m", 1), pool="fast")
    go(ledger, registry, late, 2)
    with pytest.raises(RunEnds, match=r"^version 2 became champion by run run-2"):
        go(ledger, registry, early, 1)
    assert ledger.releases.get(prepared.id).state is RolloutState.ABORTED
    assert ledger.releases.events("m")[-1].reason == ledger.requests.get(early).reason
    assert len(again(ledger)) == 1


def test_a_rollback_is_named_as_one(ledger: Ledger, registry: FakeRegistry) -> None:
    for version in (1, 2):
        go(ledger, registry, judged(ledger, registry, version), version)
    request = judged(ledger, registry, 3)
    roll_back(ledger, ledger.models.candidate("m", 1), pool="fast")
    with pytest.raises(RunEnds, match=r"^ada rolled back to version 1 \(generation 3\) while version 3 waited"):
        go(ledger, registry, request, 3)


def test_what_is_judged_again_is_released_by_the_new_request(ledger: Ledger, registry: FakeRegistry) -> None:
    early = beaten(ledger, registry)
    with pytest.raises(RunEnds):
        go(ledger, registry, early, 1)
    before, (opened,) = ledger.requests.get(early), again(ledger)
    judged_again_for(ledger, opened.id)
    live = go(ledger, registry, opened.id, 1)
    assert (live.generation, ledger.requests.get(opened.id).state) == (2, RequestState.SERVED)
    assert go(ledger, registry, early, 1, now=LATER) == live  # the first run, cleared, changes nothing
    assert ledger.requests.get(early) == before


def test_a_release_of_before_it_was_judged_anew_is_dealt_with_first(ledger: Ledger, registry: FakeRegistry) -> None:
    early, late = judged(ledger, registry, 1), judged(ledger, registry, 2)
    stale = prepare(ledger, ledger.models.candidate("m", 1), pool="fast")
    go(ledger, registry, late, 2)
    other = ledger.requests.open(**make_request_args(run_id="run-9", dedupe_key="k9"))
    judged_again_for(ledger, other.id)
    live = go(ledger, registry, other.id, 1)
    assert (live.generation, ledger.releases.get(stale.id).state) == (2, RolloutState.ABORTED)
    assert ledger.requests.get(other.id).reason.startswith("released version 1")
    assert ledger.requests.get(early).reason.startswith("version 2 became champion by run run-2")


# ---------------------------------------------------------------- holds


@pytest.mark.parametrize(("what", "text"), [("m", "held"), (FLEET, "all models are held")])
def test_under_a_hold_nothing_is_released_by_itself(
    ledger: Ledger, registry: FakeRegistry, what: str, text: str
) -> None:
    request = judged(ledger, registry, 1)
    ledger.holds.place(what, by="alice", reason="wrong fares", now=NOW)
    with pytest.raises(RunEnds, match=f"^{text} since 2025-03-01 12:00 UTC by alice: wrong fares. Version 1") as ended:
        go(ledger, registry, request, 1)
    assert ended.value.served
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED
    assert ledger.releases.events() == []
    assert judged_again(again(ledger)[0]) == 1


def test_a_hold_after_a_person_approved_stops_the_release(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    approved(ledger, request)
    ledger.holds.place("m", by="bob", reason="wrong fares", now=LATER)
    for _ in range(2):
        with pytest.raises(RunEnds, match=r"^held since .* by bob: wrong fares\. Version 1 was not released"):
            go(ledger, registry, request, 1, released_by="ada", now=LATER)
    assert ledger.releases.history() == []
    assert ledger.releases.prepared() == []
    assert len(again(ledger)) == 1


def test_an_older_hold_does_not_hide_a_newer_one_on_all_models(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    ledger.holds.place("m", by="bob", reason="wrong fares", now=NOW)
    approved(ledger, request)  # knowing of it
    ledger.holds.place(FLEET, by="bob", reason="migration", now=LATER)
    with pytest.raises(RunEnds, match=r"^all models are held since .*--all"):
        go(ledger, registry, request, 1, released_by="ada", now=LATER)


def test_a_person_may_release_under_a_hold(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    ledger.holds.place("m", by="alice", reason="wrong fares", now=NOW)
    assert go(ledger, registry, request, 1, released_by="bob").version == 1


def test_a_hold_placed_after_the_release_does_not_undo_it(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    release = go(ledger, registry, request, 1)
    ledger.holds.place("m", by="alice", reason="wrong fares", now=NOW)
    assert go(ledger, registry, request, 1, now=LATER) == release


# ---------------------------------------------------------------- judged again meanwhile


def approved(ledger: Ledger, request: str) -> None:
    """By ada, on what is known of version 1 now."""
    candidate = ledger.models.candidate("m", 1)
    asked = ledger.approvals.ask(candidate, request_id=request, run_id="run-1", expires_at=LATER, now=NOW)
    ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="", now=NOW)


def judged_again_for(ledger: Ledger, request_id: str, **verdict: Any) -> None:
    """Version 1, for this request, against the champion of now."""
    seen, found = ledger.releases.champion("m").generation, make_verdict(request_id=request_id, **verdict)
    ledger.models.judge("m", 1, verdict=found, state=CandidateState.PASSED, generation_seen=seen)


def test_what_was_approved_is_released(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    approved(ledger, request)
    judged_again_for(ledger, "other")  # to the same verdict, against the same champion
    released = go(ledger, registry, request, 1, released_by="ada")
    answered = ledger.approvals.latest("m", 1)
    assert answered
    assert (released.version, released.approval_id) == (1, answered.id)


def test_what_is_overridden_is_released_with_its_approval_only(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1, CandidateState.TO_OVERRIDE)
    with pytest.raises(EvergreenError, match=r"version 1 is to_override\. Nothing was released"):
        go(ledger, registry, request, 1, released_by="ada")
    approved(ledger, request)
    assert go(ledger, registry, request, 1, released_by="ada").version == 1


def test_an_approval_does_not_stand_for_another_champion(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    approved(ledger, request)
    go(ledger, registry, judged(ledger, registry, 2), 2)
    judged_again_for(ledger, "other")
    with pytest.raises(
        RunEnds, match=r"^version 1 was judged again after ada approved it; version 1 is judged again by request"
    ):
        go(ledger, registry, request, 1, released_by="ada")
    assert [release.version for release in ledger.releases.history()] == [2]


def test_an_approval_does_not_stand_for_another_verdict(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    approved(ledger, request)
    judged_again_for(ledger, "other", reason="by gates that were loosened meanwhile")
    with pytest.raises(RunEnds, match="judged again after ada approved it"):
        go(ledger, registry, request, 1, released_by="ada")
    assert ledger.models.candidate("m", 1).state is CandidateState.PASSED


def test_what_passed_without_a_person_does_not_where_one_must_decide_by_now(
    ledger: Ledger, registry: FakeRegistry
) -> None:
    request = judged(ledger, registry, 1)
    judged_again_for(ledger, "other", ask_why="the champion cannot be compared: column 'x' is gone")
    with pytest.raises(RunEnds, match="column 'x' is gone"):
        go(ledger, registry, request, 1)
    assert ledger.releases.history() == []


def test_a_release_is_told_as_one_where_the_registry_does_not_answer(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    versions = dict(registry.versions)
    registry.versions.clear()  # it refuses to set an alias
    with pytest.raises(KeyError):
        go(ledger, registry, request, 1)
    assert ledger.requests.get(request).state is RequestState.SERVED
    assert ledger.requests.get(request).reason.startswith("released version 1")
    registry.versions.update(versions)
    go(ledger, registry, request, 1)
    assert registry.pointers == {("m", "champion"): 1}


# ---------------------------------------------------------------- aborted by a person, killed on the way


def test_a_run_whose_release_a_person_aborted_says_so(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    prepared = prepare(ledger, ledger.models.candidate("m", 1), pool="fast")
    ledger.releases.abort(prepared.id, by="bob", reason="wrong fares", now=LATER, decline=True)
    with pytest.raises(RunEnds, match=r"^version 1: aborted by bob: wrong fares$"):
        go(ledger, registry, request, 1, now=LATER)
    assert ledger.releases.prepared() == []
    assert again(ledger) == []


@pytest.mark.parametrize("call", range(1, 30))
def test_killed_at_any_call_and_run_again_there_is_one_release(call: int) -> None:
    ledger, registry = in_memory_ledger(), FakeRegistry()
    request, countdown = judged(ledger, registry, 1), [call]
    mortal = Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()})
    with suppress(Killed):
        go(mortal, Mortal(registry, countdown), request, 1)
    go(ledger, registry, request, 1)
    assert [event.state for event in ledger.releases.events("m")] == [RolloutState.PREPARED, RolloutState.LIVE]
    assert ledger.requests.get(request).state is RequestState.SERVED
    assert registry.pointers == {("m", "champion"): 1}


@pytest.mark.parametrize("call", range(1, 30))
def test_killed_at_any_call_the_loser_is_judged_again_once(call: int) -> None:
    ledger, registry = in_memory_ledger(), FakeRegistry()
    early, late = judged(ledger, registry, 1), judged(ledger, registry, 2)
    prepare(ledger, ledger.models.candidate("m", 1), pool="fast")
    go(ledger, registry, late, 2)
    countdown = [call]
    mortal = Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()})
    with suppress(Killed, RunEnds):
        go(mortal, registry, early, 1)
    with pytest.raises(RunEnds, match=r"^version 2 became champion by run run-2"):
        go(ledger, registry, early, 1)
    advance_rollouts(ledger, now=LATER)
    assert len(again(ledger)) == 1
    states = [event.state for event in ledger.releases.events("m") if event.version == 1]
    assert states == [RolloutState.PREPARED, RolloutState.ABORTED]


# ---------------------------------------------------------------- with a trial before it


TRIED = make_spec(approval={"mode": "auto"}, rollout={"shadow": "5m", "min_requests": 20})


def tried(ledger: Ledger, registry: FakeRegistry, request: str, version: int) -> Release:
    about = {"request_id": request, "version": version, "released_by": "auto", "reason": "gates", "now": NOW}
    return roll_out(TRIED, ledger, registry, **about)  # type: ignore[arg-type]


def test_the_first_version_of_a_model_is_live_at_once(ledger: Ledger, registry: FakeRegistry) -> None:
    assert tried(ledger, registry, judged(ledger, registry, 1), 1).state is RolloutState.LIVE


def test_a_later_one_comes_on_trial_and_nothing_is_projected_or_served(ledger: Ledger, registry: FakeRegistry) -> None:
    tried(ledger, registry, judged(ledger, registry, 1), 1)
    request = judged(ledger, registry, 2)
    made = tried(ledger, registry, request, 2)
    assert (made.state, made.plan, over(made)) == (RolloutState.SHADOW, TRIED.rollout and TRIED.rollout.plan, False)
    assert tried(ledger, registry, request, 2) == made  # and run again it is the same
    assert ledger.requests.get(request).state is RequestState.OPEN
    assert registry.pointers == {("m", "champion"): 1}


def test_a_newer_one_waits_behind_it(ledger: Ledger, registry: FakeRegistry) -> None:
    for version in (1, 2):
        tried(ledger, registry, judged(ledger, registry, version), version)
    made = tried(ledger, registry, judged(ledger, registry, 3), 3)
    assert (made.state, over(made)) == (RolloutState.PREPARED, False)


def test_killed_at_any_call_of_a_trial_s_release_the_retry_finds_it(ledger: Ledger) -> None:
    for call in range(1, 30):
        ledger, registry = in_memory_ledger(), FakeRegistry()
        tried(ledger, registry, judged(ledger, registry, 1), 1)
        request, countdown = judged(ledger, registry, 2), [call]
        with suppress(Killed):
            tried(
                Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()}), registry, request, 2
            )
        assert tried(ledger, registry, request, 2).state is RolloutState.SHADOW
        states = [event.state for event in ledger.releases.events("m") if event.version == 2]
        assert states == [RolloutState.PREPARED, RolloutState.SHADOW]


# ---------------------------------------------------------------- does serving answer?


def reason(ledger: Ledger, registry: FakeRegistry, serving: Serving) -> str:
    """The reason of a request that is rolled out while this serving runs."""
    serving.beat()
    request = judged(ledger, registry, 1)
    go(ledger, registry, request, 1, wait=serving.wait(30))
    return ledger.requests.get(request).reason


def test_the_reason_says_that_the_version_answers(ledger: Ledger, registry: FakeRegistry) -> None:
    serving = Serving(ledger, replicas=("one:1", "two:1"), lag=3)
    assert reason(ledger, registry, serving) == "released version 1, which answers"
    assert 3 <= serving.waited < 4


def test_the_release_stands_where_serving_does_not_follow_and_the_reason_says_who(
    ledger: Ledger, registry: FakeRegistry
) -> None:
    serving = Serving(ledger, replicas=("one:1", "two:1"), stuck=frozenset({"two:1"}))
    assert reason(ledger, registry, serving).startswith(
        "released version 1; after 30 s version 1 does not answer everywhere yet: two:1 reports no version"
    )
    assert ledger.releases.live("fast")[0].version == 1


def test_where_no_replica_lives_nothing_is_waited_for(ledger: Ledger, registry: FakeRegistry) -> None:
    serving = Serving(ledger, replicas=())
    assert reason(ledger, registry, serving).endswith("version 1 answers once one is started")
    assert serving.waited == 0
