"""The pass over questions that wait: what is ended at once, who is told, and that Airflow waits no longer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from evergreen.core.addresses import Addresses
from evergreen.core.approval import dismissal
from evergreen.core.errors import ServiceFailed
from evergreen.core.ports import Ledger
from evergreen.core.records import Approval, ApprovalState, CandidateState, NoticeKind, RequestState, TriggerRequest
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.runs import InMemoryRuns
from evergreen.steps.overtaken import judge_anew, supersede
from evergreen.steps.tend_approvals import LOST, tend_approvals
from ledgers import release
from records import NOW, make_candidate, make_request_args, make_spec, make_verdict

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OPEN, APPROVED, VOID, SUPERSEDED, EXPIRED = (
    ApprovalState.OPEN, ApprovalState.APPROVED, ApprovalState.VOID, ApprovalState.SUPERSEDED, ApprovalState.EXPIRED,
)  # fmt: skip
MOVED = "the champion has changed since the question was put"


class World:
    """Runs of the model `m` that wait for a person, on the shipped fakes."""

    def __init__(self) -> None:
        self.ledger: Ledger = in_memory_ledger()
        self.runs, self.dismissed = InMemoryRuns(), dict[str, datetime]()

    def request(self, run_id: str, **changes: Any) -> TriggerRequest:
        """A claimed request whose run waits at approve."""
        opened = self.ledger.requests.open(**make_request_args(dedupe_key=run_id, run_id=run_id, **changes))
        return self.ledger.requests.mark(opened.id, now=NOW, state=RequestState.CLAIMED, step="approve")

    def passed(self, version: int, *, failing: bool = False) -> None:
        """A version that judge has judged now."""
        self.ledger.models.add_candidate(make_candidate(version=version))
        state = CandidateState.TO_OVERRIDE if failing else CandidateState.PASSED
        seen = self.ledger.releases.champion("m").generation
        verdict = make_verdict(passed=not failing)
        self.ledger.models.judge("m", version, verdict=verdict, state=state, generation_seen=seen)

    def ask(self, version: int, *, at: datetime = NOW, overrides: str = "") -> Approval:
        """Its run waits for an answer, in the ledger and in Airflow."""
        self.passed(version, failing=bool(overrides))
        run_id = f"run-{version}-{len(self.ledger.approvals.history('m'))}"
        request = self.request(run_id)
        self.runs.wait("m", run_id)
        return self.ledger.approvals.ask(
            self.ledger.models.candidate("m", version),
            request_id=request.id, run_id=run_id, expires_at=at + DAY, now=at, overrides=overrides,
        )  # fmt: skip

    def crown(self, version: int) -> None:
        """Another version becomes champion."""
        self.passed(version)
        release(self.ledger, self.ledger.models.candidate("m", version))

    def tend(self, now: datetime = NOW, **approval: Any) -> list[str]:
        specs = {"m": make_spec(approval=approval)}
        page = Addresses.under("https://airflow.example").question
        return tend_approvals(self.ledger, specs, self.runs, now=now, page=page, dismissed=self.dismissed)

    def again(self, asked: Approval) -> Approval:
        """As the ledger has it now."""
        return next(one for one in self.ledger.approvals.history("m") if one.id == asked.id)

    def judging_again(self) -> list[TriggerRequest]:
        return [one for one in self.ledger.requests.latest("m", limit=50) if "judge_again" in one.detail]


@pytest.fixture
def world() -> World:
    return World()


def test_a_question_that_all_still_holds_for_is_left_alone(world: World) -> None:
    asked = world.ask(7)
    world.ledger.holds.place("m", by="ann", reason="wrong fares", now=NOW)  # the answer is void then, or the hold gone
    assert world.tend(NOW + HOUR) == []
    assert world.again(asked) == asked
    assert world.runs.waits("m", asked.run_id)
    assert world.ledger.notices.latest(10) == []


# ---------------------------------------------------------------- superseded


def test_a_newer_version_that_is_asked_about_ends_the_older_question_and_its_wait(world: World) -> None:
    older, newer = world.ask(7), world.ask(8)
    told = world.tend()
    assert told[0] == "m: version 7: superseded: version 8 came before an answer"
    assert (world.again(older).state, world.again(older).answered_by) == (SUPERSEDED, None)
    assert world.again(newer).state is OPEN
    assert world.runs.dismissed == {("m", older.run_id): dismissal(world.again(older))}
    assert world.runs.waits("m", newer.run_id)
    assert world.ledger.models.candidate("m", 7).state is CandidateState.PASSED  # nothing is blocked
    assert world.judging_again() == []


def test_a_newer_version_that_passes_without_a_question_supersedes_even_once_it_is_champion(world: World) -> None:
    asked = world.ask(7)
    world.crown(8)
    world.tend()
    assert (world.again(asked).state, world.again(asked).reason) == (SUPERSEDED, "version 8 came before an answer")
    assert world.judging_again() == []


@pytest.mark.parametrize("first", ["person", "newer version"])
def test_of_a_person_and_a_newer_version_at_once_the_first_decides(world: World, first: str) -> None:
    asked, _ = world.ask(7), world.ask(8)

    def answers() -> None:
        world.ledger.approvals.answer(asked.id, state=APPROVED, by="ann", reason="seen", now=NOW)

    if first == "person":
        answers()
        assert supersede(world.ledger, "m", NOW) == []
        assert world.again(asked).state is APPROVED
        return
    assert [ended.id for ended in supersede(world.ledger, "m", NOW)] == [asked.id]
    answers()
    assert (world.again(asked).state, world.again(asked).answered_by) == (SUPERSEDED, None)


def test_whoever_answers_between_the_look_and_the_superseding_is_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = world.ask(7), world.ask(8)
    seen = world.ledger.approvals.history("m")
    world.ledger.approvals.answer(asked.id, state=APPROVED, by="ann", reason="seen", now=NOW)
    monkeypatch.setattr(world.ledger.approvals, "history", lambda model=None: seen)
    assert supersede(world.ledger, "m", NOW) == []
    monkeypatch.undo()
    assert world.again(asked).state is APPROVED


def test_an_override_that_is_superseded_leaves_its_version_refused(world: World) -> None:
    asked, _ = world.ask(7, overrides="auc ≥ 0.6 (0.5)"), world.ask(8)
    world.tend()
    assert world.again(asked).state is SUPERSEDED
    assert world.ledger.models.candidate("m", 7).state is CandidateState.REJECTED


# ---------------------------------------------------------------- another champion


def test_where_the_champion_changed_nobody_reads_the_question_any_more_and_it_is_judged_again_once(
    world: World,
) -> None:
    asked = world.ask(7)
    world.crown(6)  # an older run was approved after this one had asked
    told = world.tend()
    [again] = world.judging_again()
    assert (again.detail["judge_again"], again.detail["because"], again.detail["of"]) == (7, MOVED, asked.request_id)
    assert again.queued
    assert (world.again(asked).state, world.again(asked).reason) == (VOID, MOVED)
    assert f"Request {again.id} judges it again" in told[0]
    assert world.runs.dismissed == {("m", asked.run_id): dismissal(world.again(asked))}
    assert world.tend(NOW + HOUR) == []
    assert world.judging_again() == [again]


def test_a_request_that_judges_the_version_again_already_is_enough(world: World) -> None:
    asked = world.ask(7)
    world.crown(6)
    world.tend()
    world.crown(5)  # before it was served
    about: dict[str, Any] = {"request_id": asked.request_id, "because": MOVED, "now": NOW}
    assert [judge_anew(world.ledger, "m", 7, **about)] == world.judging_again()


def test_what_has_ended_is_not_judged_again(world: World) -> None:
    asked = world.ask(7)
    release(world.ledger, world.ledger.models.candidate("m", 7))  # by another of its requests
    told = world.tend()
    assert (world.again(asked).state, world.again(asked).reason) == (VOID, "version 7 is released by now")
    assert "`evergreen retrain m` asks again" in told[0]
    assert world.judging_again() == []


def test_an_override_is_not_asked_for_again_by_itself(world: World) -> None:
    world.ask(7, overrides="auc ≥ 0.6 (0.5)")
    world.crown(6)
    assert "`evergreen approve m --override --version 7` asks again" in world.tend()[0]
    assert world.ledger.models.candidate("m", 7).state is CandidateState.REJECTED
    assert world.judging_again() == []


def test_the_question_of_the_version_that_is_judged_again_stays(world: World) -> None:
    world.ask(7)
    world.crown(6)
    world.tend()
    anew = world.ask(7, at=NOW + HOUR)
    assert world.tend(NOW + HOUR) == []
    assert world.again(anew).state is OPEN


# ---------------------------------------------------------------- runs that are lost


def test_a_question_that_airflow_has_lost_expires_and_its_request_is_closed(world: World) -> None:
    asked = world.ask(7)
    assert world.tend(NOW + DAY + LOST - HOUR / 60) == []
    told = world.tend(NOW + DAY + LOST)
    request = world.ledger.requests.get(asked.request_id)
    assert world.again(asked).state is EXPIRED
    assert (request.state, request.step) == (RequestState.SERVED, "approve")
    assert "approval expired, nobody answered in time" in request.reason
    assert told == [f"m: {request.reason}"]
    assert world.ledger.models.candidate("m", 7).state is CandidateState.PASSED


@pytest.mark.parametrize("state", [RequestState.FAILED, RequestState.SERVED])
def test_a_question_whose_run_has_ended_is_void(world: World, state: RequestState) -> None:
    asked = world.ask(7)
    world.ledger.requests.mark(asked.request_id, now=NOW, state=state, reason="Airflow has lost the run")
    assert world.tend(NOW + timedelta(seconds=5)) == []  # it may be about to say that it waits
    world.tend(NOW + HOUR)
    assert (world.again(asked).state, world.again(asked).reason) == (
        VOID,
        "its run has ended: Airflow has lost the run",
    )


# ---------------------------------------------------------------- Airflow's wait


def test_airflow_is_told_each_minute_until_the_run_has_taken_the_answer_up(world: World) -> None:
    asked, _ = world.ask(7), world.ask(8)
    world.tend()
    for seconds, again in ((2, False), (58, False), (60, True), (62, False), (125, True)):
        world.runs.wait("m", asked.run_id)  # killed before it had the answer
        world.runs.dismissed.clear()
        assert world.tend(NOW + timedelta(seconds=seconds)) == []
        assert bool(world.runs.dismissed) is again
    world.ledger.requests.mark(asked.request_id, now=NOW, state=RequestState.SERVED)
    world.tend(NOW + HOUR)
    assert world.runs.waits("m", asked.run_id) is False
    assert len(world.dismissed) == 1


def test_after_a_day_airflow_is_left_alone(world: World) -> None:
    asked, _ = world.ask(7), world.ask(8)
    supersede(world.ledger, "m", NOW)
    world.tend(NOW + DAY)
    assert world.runs.waits("m", asked.run_id)


def test_where_airflow_is_away_the_ledger_is_in_order_and_the_next_pass_tells_it(world: World) -> None:
    asked, _ = world.ask(7), world.ask(8)
    world.runs.away = True
    with pytest.raises(ServiceFailed):
        world.tend()
    assert world.again(asked).state is SUPERSEDED
    world.runs.away = False
    world.tend(NOW + timedelta(seconds=2))
    assert not world.runs.waits("m", asked.run_id)


def test_a_run_that_was_cleared_and_asks_again_is_not_dismissed(world: World) -> None:
    asked = world.ask(7)
    world.ledger.approvals.answer(asked.id, state=VOID, by=None, reason="cleared", now=NOW)
    candidate = world.ledger.models.candidate("m", 7)
    world.ledger.approvals.ask(
        candidate, request_id=asked.request_id, run_id=asked.run_id, expires_at=NOW + DAY, now=NOW
    )
    assert world.tend() == []
    assert world.runs.waits("m", asked.run_id)


def test_what_a_person_answered_needs_no_dismissal(world: World) -> None:
    asked = world.ask(7)
    world.ledger.approvals.answer(asked.id, state=VOID, by="ann", reason="without a reason", now=NOW)
    assert world.tend() == []
    assert world.runs.dismissed == {}


# ---------------------------------------------------------------- people


def test_people_are_reminded_and_others_told_once_each_with_the_page_to_act_on(world: World) -> None:
    asked = world.ask(7)
    told = {"remind_after": "4h", "escalate_after": "12h"}
    assert world.tend(NOW + 4 * HOUR - HOUR / 60, **told) == []
    assert world.tend(NOW + 4 * HOUR, **told) == ["m: version 7 still waits for approval: reminder"]
    assert world.tend(NOW + 5 * HOUR, **told) == []
    assert world.tend(NOW + 12 * HOUR, **told) == ["m: version 7 still waits for approval: escalation"]
    assert world.tend(NOW + 13 * HOUR, **told) == []
    sent = world.ledger.notices.latest(10)
    assert [notice.kind for notice in sent] == [NoticeKind.ESCALATION, NoticeKind.REMINDER]
    address = f"https://airflow.example/dags/m/runs/{asked.run_id}/tasks/approve/required_actions"
    assert {notice.link for notice in sent} == {address}


def test_nobody_is_reminded_of_what_has_ended_or_was_never_to_be_reminded_of(world: World) -> None:
    world.ask(7)
    assert world.tend(NOW + 23 * HOUR) == []
    assert world.tend(NOW + DAY, remind_after="1h") == []
    page = "{}/{}".format
    assert tend_approvals(world.ledger, {}, world.runs, now=NOW + 5 * HOUR, page=page) == []  # its spec is broken
    assert world.ledger.notices.latest(10) == []


def test_questions_of_other_models_are_no_concern(world: World) -> None:
    asked = world.ask(7)
    world.ledger.models.add_candidate(make_candidate(model="n", version=8))
    world.ledger.models.judge("n", 8, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    request = world.request("run-n", model="n")
    passed = world.ledger.models.candidate("n", 8)
    world.ledger.approvals.ask(passed, request_id=request.id, run_id="run-n", expires_at=NOW + DAY, now=NOW)
    assert world.tend() == []
    assert world.again(asked).state is OPEN
