"""The pass over prepared releases, on SQLite and in memory: who is found dead in between, who loses, who is held."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evergreen.core.addresses import Addresses
from evergreen.core.errors import RunEnds
from evergreen.core.history import history_of
from evergreen.core.judged_anew import taken_up
from evergreen.core.lineage import of_release
from evergreen.core.outcome import what_became
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    LATENCY_BOUNDS,
    PREDICTION_BINS,
    ApprovalState,
    ArmCount,
    Candidate,
    CandidateState,
    NoticeKind,
    Release,
    RequestState,
    RolloutPlan,
    RolloutState,
    TriggerRequest,
    Trip,
    TripKind,
)
from evergreen.core.retention import ModelFacts, needed_versions
from evergreen.core.spec import Retention
from evergreen.core.triggers import judged_again
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.abort import NothingToAbort, abort
from evergreen.steps.advance_rollouts import OWN_TURN, advance_rollouts
from evergreen.steps.again import judge_again
from evergreen.steps.promote import NotPromoted, promote
from evergreen.steps.roll_out import roll_out
from evergreen.steps.tell_people import tell_people
from judging import Killed, Mortal
from ledgers import LATER, opener_of, prepare, release, roll_back
from records import NOW, make_candidate, make_request_args, make_snapshot, make_spec, make_verdict

MANUAL = make_spec(approval={"mode": "manual"})
TRIED = make_spec(approval={"mode": "auto"}, rollout={"shadow": "5m"})


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


# ---------------------------------------------------------------- trials

PLAN = RolloutPlan(
    shadow=timedelta(minutes=5), canary=(5, 50), step=timedelta(minutes=5), bake=timedelta(minutes=5),
    min_requests=20, error_rate=0.01,
)  # fmt: skip
SHADOW = NOW + OWN_TURN  # when a trial of these tests begins
STAGES = ["shadow", "canary-5", "canary-50", "bake"]


def on_trial(ledger: Ledger, version: int = 2, model: str = "m", plan: RolloutPlan = PLAN) -> Release:
    """Version 1 is live, and this one has come into shadow."""
    if ledger.releases.champion(model).generation == 0:
        first = judged(ledger, 1, model=model)
        release(ledger, first)
        ledger.requests.mark(first.request_id, now=NOW, state=RequestState.SERVED, step="roll_out", reason="")
    made = prepare(ledger, judged(ledger, version, model=model), plan=plan)
    assert f"{model}: version {version} is on trial: shadow" in advance_rollouts(ledger, now=SHADOW)
    return ledger.releases.get(made.id)


def counted(ledger: Ledger, made: Release, requests: int, *, faults: int = 0, replica: str = "blue") -> None:
    """What a replica has counted of it in the stage that it is in now."""
    stage = ledger.releases.get(made.id).stage
    told = (requests, faults, (requests, *[0] * len(LATENCY_BOUNDS)), (requests, *[0] * (PREDICTION_BINS - 1)))
    ledger.trials.count([ArmCount(made.id, stage, "challenger", replica, "boot-1", *told)])


def test_a_trial_goes_through_its_stages_to_live_and_its_request_is_served(ledger: Ledger) -> None:
    made, now = on_trial(ledger), SHADOW
    for stage, following in zip(STAGES, [*STAGES[1:], "live"], strict=True):
        assert ledger.releases.get(made.id).stage == stage
        for replica in ("blue", "green"):  # neither has enough of them alone
            counted(ledger, made, 10, replica=replica)
        assert advance_rollouts(ledger, now=now + timedelta(minutes=4)) == []  # its time is not over
        now += timedelta(minutes=5)
        told = (
            "m: version 2 was released, generation 2"
            if following == "live"
            else f"m: version 2 is on trial: {following}"
        )
        assert advance_rollouts(ledger, now=now) == [told]
    request = ledger.requests.latest("m")[0]
    assert (request.state, request.reason) == (RequestState.SERVED, "released version 2")
    events = [e for e in ledger.releases.events("m") if e.version == 2]
    assert [e.state.value for e in events] == ["prepared", "shadow", "canary", "canary", "bake", "live"]
    assert events[3].reason.startswith("it answers 50 % of callers, after canary-5: 20 requests in 5 min, 0.00% failed")


def test_a_stage_that_is_short_of_requests_waits(ledger: Ledger) -> None:
    made = on_trial(ledger)
    counted(ledger, made, 19)
    for hours in range(1, 5):
        assert advance_rollouts(ledger, now=SHADOW + timedelta(hours=hours)) == []
    counted(ledger, made, 1, replica="green")
    assert advance_rollouts(ledger, now=SHADOW + timedelta(hours=5)) == ["m: version 2 is on trial: canary-5"]


def test_requests_of_another_stage_do_not_count(ledger: Ledger) -> None:
    made = on_trial(ledger)
    counted(ledger, made, 500)
    advance_rollouts(ledger, now=LATER)
    assert advance_rollouts(ledger, now=LATER + timedelta(hours=1)) == []
    assert ledger.releases.get(made.id).stage == "canary-5"


def test_a_trip_rolls_it_back_and_it_does_not_return(ledger: Ledger) -> None:
    made = on_trial(ledger)
    ledger.trials.trip(Trip(made.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", SHADOW))
    reason = "version 2 was rolled back in shadow by its guard: 5 of 5 requests failed"
    assert advance_rollouts(ledger, now=SHADOW) == [f"m: version 2 was not released: {reason}"]
    assert ledger.releases.get(made.id).state is RolloutState.ROLLED_BACK
    assert ledger.models.candidate("m", 2).state is CandidateState.ROLLED_BACK
    request = ledger.requests.latest("m")[0]
    assert (request.state, request.reason) == (RequestState.SERVED, reason)
    assert ledger.releases.live("default")[0].version == 1
    assert (again(ledger), ledger.holds.applying("m")) == ([], None)
    assert advance_rollouts(ledger, now=LATER) == []
    for _ in range(2):  # its run comes back, and is run again by a person
        with pytest.raises(RunEnds, match=f"^{reason}$"):
            roll_out(
                TRIED,
                ledger,
                FakeRegistry(),
                request_id=request.id,
                version=2,
                released_by="auto",
                reason="",
                now=LATER,
            )


def test_what_no_replica_could_say_alone_rolls_back_and_is_a_trip(ledger: Ledger) -> None:
    made = on_trial(ledger)
    for replica in ("blue", "green"):
        counted(ledger, made, 10, faults=1, replica=replica)
    (told,) = advance_rollouts(ledger, now=SHADOW)
    assert "by its guard: 2 of its 20 requests failed" in told
    trip = ledger.trials.trips([made.id])[made.id]
    assert (trip.replica, trip.kind) == ("all replicas", TripKind.ERROR_RATE)


def test_a_newer_version_waits_for_the_end_of_a_trial_and_has_its_own_then(ledger: Ledger) -> None:
    first = on_trial(ledger)
    second = prepare(ledger, judged(ledger, 3), plan=PLAN)
    assert advance_rollouts(ledger, now=SHADOW) == []
    assert ledger.releases.get(second.id).state is RolloutState.PREPARED
    ledger.trials.trip(Trip(first.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", SHADOW))
    told = advance_rollouts(ledger, now=SHADOW)
    assert [one.partition(":")[2].split(" by")[0] for one in told] == [
        " version 2 was not released: version 2 was rolled back in shadow", " version 3 is on trial: shadow"
    ]  # fmt: skip


def test_where_the_trial_is_won_the_one_that_waited_is_judged_again(ledger: Ledger) -> None:
    first = on_trial(ledger, plan=replace(PLAN, canary=(), bake=timedelta(0)))
    prepare(ledger, judged(ledger, 3), plan=PLAN)
    counted(ledger, first, 20)
    told = advance_rollouts(ledger, now=LATER)
    assert told[0] == "m: version 2 was released, generation 2"
    assert "version 2 became champion by run run-2 (generation 2) while version 3 waited" in told[1]
    assert [judged_again(request) for request in again(ledger)] == [3]


def test_a_hold_and_a_rollback_end_a_trial(ledger: Ledger) -> None:
    held = on_trial(ledger)
    ledger.holds.place("m", by="bob", reason="wrong fares", now=LATER)
    (told,) = advance_rollouts(ledger, now=LATER)
    assert "version 2 was not released: held since" in told
    assert ledger.releases.get(held.id).state is RolloutState.ABORTED
    assert ledger.models.candidate("m", 2).state is CandidateState.PASSED
    assert [judged_again(request) for request in again(ledger)] == [2]


def test_where_nothing_is_on_trial_a_thousand_models_cost_no_read_each(ledger: Ledger) -> None:
    class Counting:
        def __init__(self, part: Any) -> None:
            self.part, self.calls = part, list[str]()

        def __getattr__(self, name: str) -> Any:
            self.calls.append(name)
            return getattr(self.part, name)

    for number in range(20):
        first = judged(ledger, 1, model=f"m{number}")
        release(ledger, first)
        ledger.requests.mark(first.request_id, now=NOW, state=RequestState.SERVED, step="roll_out", reason="")
    counting = {name: Counting(part) for name, part in vars(ledger).items()}
    assert advance_rollouts(Ledger(**counting), now=LATER) == []  # type: ignore[arg-type]
    assert sum(len(part.calls) for part in counting.values()) == 4


@pytest.mark.parametrize("call", range(1, 40))
def test_killed_at_any_call_a_trip_is_carried_out_by_the_next_pass(call: int, tmp_path: Path) -> None:
    ledger = opener_of("memory", tmp_path)()
    made = on_trial(ledger)
    counted(ledger, made, 20, faults=2)
    countdown = [call]
    with suppress(Killed):
        advance_rollouts(Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()}), now=SHADOW)
    advance_rollouts(ledger, now=SHADOW)
    assert ledger.releases.get(made.id).state is RolloutState.ROLLED_BACK
    assert ledger.models.candidate("m", 2).state is CandidateState.ROLLED_BACK
    assert ledger.requests.latest("m")[0].state is RequestState.SERVED
    assert again(ledger) == []


# ---------------------------------------------------------------- what others see of a trial


def test_a_version_on_trial_is_needed_by_its_files_and_judged_by_nobody_else(ledger: Ledger) -> None:
    on_trial(ledger)
    facts = ModelFacts(ledger.models.candidates("m"), ledger.releases.history("m"), on_trial=frozenset({2}))
    assert needed_versions(facts, Retention(), LATER)[2] == "it is on trial"
    made = ledger.releases.on_trial()[0]
    waiting = ledger.requests.get(ledger.models.candidate("m", 2).request_id)
    asked = judge_again(ledger, ledger.models.candidate("m", 2), waiting, "a person wants it", LATER)
    with pytest.raises(RunEnds, match=r"nothing to judge: version 2 is on trial \(shadow\)"):
        taken_up(ledger, asked)
    assert ledger.releases.on_trial() == [made]
    assert what_became(ledger, ledger.models.candidate("m", 2)) == "is on trial (shadow)"


def test_people_are_told_once_that_a_guard_rolled_it_back(ledger: Ledger) -> None:
    made = on_trial(ledger)
    ledger.trials.trip(Trip(made.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", SHADOW))
    advance_rollouts(ledger, now=SHADOW)
    for _ in range(2):
        tell_people(ledger, ["m"], Addresses.under("http://airflow"), now=SHADOW)
    told = [notice for notice in ledger.notices.latest(50) if notice.kind is NoticeKind.ROLLED_BACK]
    assert [notice.title for notice in told] == ["m version 2 was rolled back on its trial"]
    assert "by its guard: 5 of 5 requests failed. The champion answers all callers" in told[0].text
    candidate = ledger.models.candidate("m", 2)
    assert what_became(ledger, candidate).startswith(
        "was rolled back (version 2 was rolled back in shadow by its guard"
    )


def test_a_trace_and_the_history_tell_each_stage(ledger: Ledger) -> None:
    made = on_trial(ledger)
    ledger.models.add_snapshot(make_snapshot())
    assert ": version 2, on trial (shadow), prepared" in of_release(ledger, made.id).says
    counted(ledger, made, 20)
    advance_rollouts(ledger, now=LATER)
    assert [entry.what for entry in history_of(ledger, "m") if entry.version == 2] == [
        "prepared", "on trial: shadow", "on trial: canary"
    ]  # fmt: skip
    abort(ledger, "m", by="bob", reason="wrong fares", now=LATER)
    assert ": version 2, aborted, prepared" in of_release(ledger, made.id).says


# ---------------------------------------------------------------- a person's promotion


def test_a_person_need_not_wait_for_the_end_of_a_trial(ledger: Ledger) -> None:
    on_trial(ledger)
    for _ in range(2):  # the same again makes up for a kill
        live = promote(ledger, "m", by="eve", reason=" few\ncallers ", now=LATER)
        assert (live.version, live.state, live.generation) == (2, RolloutState.LIVE, 2)
    request = ledger.requests.latest("m")[0]
    assert (request.state, request.reason) == (
        RequestState.SERVED, "released version 2: promoted by eve: few callers"
    )  # fmt: skip
    event = next(e for e in ledger.releases.events("m") if e.version == 2 and e.state is RolloutState.LIVE)
    assert (event.by, event.reason) == ("eve", "few callers")
    assert [(e.what, e.by) for e in ledger.events.history("m")] == [("promoted", "eve")]
    assert advance_rollouts(ledger, now=LATER) == []


def test_what_rolls_back_cannot_be_promoted_over(ledger: Ledger) -> None:
    def told() -> str:
        with pytest.raises(NotPromoted) as refused:
            promote(ledger, "m", by="eve", reason="few callers", now=LATER)
        return str(refused.value)

    assert "found no release" in told()
    made = on_trial(ledger)
    counted(ledger, made, 20, faults=1)
    assert "1 of its 20 requests failed" in told()
    ledger.trials.trip(Trip(made.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", SHADOW))
    assert "5 of 5 requests failed" in told()
    advance_rollouts(ledger, now=SHADOW)
    assert "found version 2, which is rolled back" in told()
    held = on_trial(ledger, 3)
    ledger.holds.place("m", by="bob", reason="wrong fares", now=LATER)
    assert "found held since" in told()
    assert ledger.releases.get(held.id).state is RolloutState.SHADOW  # nothing was changed
    ledger.holds.lift("m", by="bob", reason="", now=LATER)
    waiting = judged(ledger, 4)
    ledger.approvals.ask(waiting, request_id=waiting.request_id, run_id="run-4", expires_at=LATER, now=NOW)
    promote(ledger, "m", by="eve", reason="few callers", now=LATER)
    with pytest.raises(NotPromoted, match="version 4, which waits for approval"):
        promote(ledger, "m", by="eve", reason="another", now=LATER)


@pytest.mark.parametrize("call", range(1, 40))
def test_killed_at_any_call_a_promotion_is_done_by_the_same_again(call: int, tmp_path: Path) -> None:
    ledger = opener_of("memory", tmp_path)()
    on_trial(ledger)
    countdown = [call]
    with suppress(Killed):
        mortal = Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()})
        promote(mortal, "m", by="eve", reason="few callers", now=LATER)
    promote(ledger, "m", by="eve", reason="few callers", now=LATER)
    assert ledger.releases.live("default")[0].version == 2
    assert ledger.requests.latest("m")[0].reason == "released version 2: promoted by eve: few callers"


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


def test_a_person_aborts_a_trial_and_what_waits_for_it(ledger: Ledger) -> None:
    made = on_trial(ledger)
    behind = prepare(ledger, judged(ledger, 3), plan=PLAN)
    ended = abort(ledger, "m", by="bob", reason="wrong fares", now=LATER)
    assert [(one.id, one.state) for one in ended] == [(one.id, RolloutState.ABORTED) for one in (made, behind)]
    assert [ledger.models.candidate("m", version).state for version in (2, 3)] == [CandidateState.DECLINED] * 2
    request = ledger.requests.latest("m")[0]
    for _ in range(2):
        with pytest.raises(RunEnds, match=r"^version 3: aborted by bob: wrong fares$"):
            roll_out(
                TRIED,
                ledger,
                FakeRegistry(),
                request_id=request.id,
                version=3,
                released_by="auto",
                reason="",
                now=LATER,
            )


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
