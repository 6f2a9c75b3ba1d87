"""The approval's operator on the shipped in-memory ledger: who is not asked, and what each answer comes to."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from evergreen.adapters.airflow_api import Question
from evergreen.core import bundle, evidence, refitting
from evergreen.core.approval import dismissal
from evergreen.core.approvers import Approvers
from evergreen.core.errors import EvergreenError
from evergreen.core.records import ApprovalState, CandidateState, Cause, NoticeKind, RequestState
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.runs import InMemoryRuns
from evergreen.fakes.store import InMemoryStore
from evergreen.orchestration import asked_before, asking
from evergreen.orchestration.approval import ApproveCandidate, _reason_field, _what_to_ask
from evergreen.orchestration.evidence import Asked, body, headline
from evergreen.orchestration.roll_out import _approved
from evergreen.orchestration.task_run import TaskRun
from evergreen.steps.tend_approvals import tend_approvals
from ledgers import release
from records import make_candidate, make_request_args, make_snapshot, make_spec, make_verdict

PERSON = {"id": "oncall", "name": "oncall"}


@dataclass
class Task:
    """What the operator sees of Airflow's task instance."""

    handed_on: dict[str, Any] = field(default_factory=dict)
    pushed: dict[str, Any] = field(default_factory=dict)
    try_number: int = 1
    max_tries: int = 6  # as many as RETRIES has

    def xcom_pull(self, task_ids: str) -> Any:
        return self.handed_on[task_ids]

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class Played:
    """One run that has come to its approval."""

    def __init__(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
        monkeypatch.delenv("AIRFLOW__CORE__AUTH_MANAGER", raising=False)
        self.spec, self.ledger, self.task = make_spec(**changes), in_memory_ledger(), Task()
        monkeypatch.setattr(TaskRun, "ledger", self.ledger)
        request = self.ledger.requests.open(**make_request_args(cause=Cause.API, detail={"user": "anna"}))
        self.ledger.requests.mark(request.id, now=request.requested_at, state=RequestState.CLAIMED)
        self.ledger.models.add_snapshot(make_snapshot())
        self.ledger.models.add_candidate(make_candidate(request_id=request.id))
        self.judged()
        self.task.handed_on = {"admit": request.id, "train": 1}
        self.request_id = request.id
        self.context: Any = {"ti": self.task, "dag_run": SimpleNamespace(run_id="run-1", dag_id="m")}

    def judged(self, generation: int = 0, **changes: Any) -> None:
        verdict = make_verdict(**changes)
        self.ledger.models.judge("m", 1, verdict=verdict, state=CandidateState.PASSED, generation_seen=generation)

    def asked(self) -> None:
        """The question stands in the ledger, as the operator puts it there before Airflow's."""
        run = TaskRun(self.spec, self.context)
        candidate = self.ledger.models.candidate("m", 1)
        expires = run.now + timedelta(hours=1)
        self.ledger.approvals.ask(
            candidate, request_id=self.request_id, run_id="run-1", expires_at=expires, now=run.now
        )

    def operator(self) -> ApproveCandidate:
        return ApproveCandidate(spec=self.spec, task_id="approve")

    def answer(self, option: str, reason: Any = "", *, by: Any = PERSON, **more: Any) -> Any:
        event = {"chosen_options": [option], "params_input": {"reason": reason}, "responded_by_user": by, **more}
        return self.operator().execute_complete(self.context, event)

    @property
    def state(self) -> ApprovalState:
        return self.ledger.approvals.history("m")[-1].state


@pytest.fixture
def manual(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played(tmp_path, monkeypatch)
    played.asked()
    return played


@pytest.fixture
def auto(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(tmp_path, monkeypatch, approval={"mode": "auto"})


def execute(played: Played) -> Any:
    operator = played.operator()
    return type(operator).execute.__wrapped__(operator, played.context)  # Airflow minds calls from outside a task


def test_where_nobody_is_asked_the_release_says_why(auto: Played) -> None:
    assert execute(auto) == {"version": 1, "by": "auto", "reason": "gates passed, approval.mode is auto"}
    assert "passes without a person" in auto.task.pushed["reason"]
    assert auto.ledger.approvals.history("m") == []


@pytest.mark.parametrize("state", [CandidateState.REJECTED, CandidateState.TRAINED])
def test_a_candidate_that_cannot_be_released_is_not_asked_about(auto: Played, state: CandidateState) -> None:
    auto.ledger.models.judge("m", 1, verdict=make_verdict(passed=False), state=state, generation_seen=0)
    with pytest.raises(AirflowSkipException, match=f"nobody is asked, it is {state}"):
        execute(auto)


def test_a_champion_that_changed_after_the_verdict_is_not_asked_about(auto: Played) -> None:
    auto.judged(generation=1)
    with pytest.raises(AirflowSkipException, match="the champion has changed since it was judged"):
        execute(auto)


def test_a_run_that_asked_before_fails_where_airflow_cannot_be_asked_what_it_shows(manual: Played) -> None:
    with pytest.raises(AirflowFailException, match="EVERGREEN_AIRFLOW_URL"):
        execute(manual)
    assert manual.ledger.releases.history("m") == []


def test_an_approval_hands_on_who_and_why(manual: Played) -> None:
    told = manual.answer("Approve", "seen it")
    assert told == {"version": 1, "by": "oncall", "reason": "version 1: approved by oncall: seen it"}
    assert manual.state is ApprovalState.APPROVED


def fitted_again(played: Played) -> None:
    """Version 1 was judged and fitted again as version 2; train handed on version 1."""
    first = played.ledger.models.candidate("m", 1)
    until = first.data_end + timedelta(days=6)
    made_with = {**first.made_with, refitting.REFIT_OF: "1"}
    again = replace(first, version=2, train_key=refitting.train_key(first), made_with=made_with, data_end=until)
    played.ledger.models.add_candidate(again)
    both = {1: CandidateState.REFITTED, 2: CandidateState.PASSED}
    for version, state in both.items():
        played.ledger.models.judge("m", version, verdict=make_verdict(), state=state, generation_seen=0)


def test_of_what_was_fitted_again_that_version_is_let_through(auto: Played) -> None:
    fitted_again(auto)
    assert execute(auto) == {"version": 2, "by": "auto", "reason": "gates passed, approval.mode is auto"}
    made = auto.ledger.models.candidate("m", 2)
    release(auto.ledger, made)
    assert execute(auto)["version"] == 2  # run again after its release


def test_of_what_was_fitted_again_that_version_is_asked_about(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, monkeypatch)
    fitted_again(played)
    asked = _what_to_ask(TaskRun(played.spec, played.context), played.ledger.models.candidate("m", 2))
    keep(store := InMemoryStore(), 2, ["x"], "30d")
    asked = replace(asked, store=store)
    assert headline(asked) == "Release m version 2?"
    assert "candidate: version 2 (version 1 fitted again)" in body(asked)
    assert (
        "| fitted on | 1,234 rows, 2013-01-01 to 2013-02-20 00:00 UTC, judged so; then again on all rows to 2013-03-04 "
        in body(asked)
    )
    assert "rows that version 1 was not fitted on, by its answers; version 2 is that, fitted on them too: " in body(
        asked
    )


@pytest.mark.parametrize("reason", ["", " ", None, 7, ["x"]])
def test_a_rejection_without_words_is_void(manual: Played, reason: Any) -> None:
    with pytest.raises(AirflowSkipException, match="without a reason"):
        manual.answer("Reject", reason)
    assert manual.state is ApprovalState.VOID
    assert manual.ledger.models.candidate("m", 1).state is CandidateState.PASSED
    assert manual.ledger.requests.get(manual.request_id).state is RequestState.SERVED


@pytest.mark.parametrize("params", [None, {}, {"other": "x"}])
def test_a_form_that_comes_back_without_its_field_is_void(manual: Played, params: Any) -> None:
    with pytest.raises(AirflowSkipException, match="without a reason"):
        manual.answer("Reject", params_input=params)


def test_a_rejection_declines(manual: Played) -> None:
    with pytest.raises(AirflowSkipException, match="rejected by oncall: worse"):
        manual.answer("Reject", "worse")
    assert manual.ledger.models.candidate("m", 1).state is CandidateState.DECLINED


def test_a_timeout_is_told_from_a_person_by_who_answered(manual: Played) -> None:
    with pytest.raises(AirflowSkipException, match="expired"):
        manual.answer("Reject", by=None)
    assert manual.state is ApprovalState.EXPIRED
    assert manual.ledger.models.candidate("m", 1).state is CandidateState.PASSED


def test_the_first_answer_stands(manual: Played) -> None:
    manual.answer("Approve")
    assert manual.answer("Reject", "no") == {"version": 1, "by": "oncall", "reason": "version 1: approved by oncall"}
    assert manual.state is ApprovalState.APPROVED


# ---------------------------------------------------------------- a task that runs again


def shown(played: Played, *, text: str = "", answered: timedelta | None = None, option: str = "Approve") -> Question:
    """What Airflow shows of the run's question, answered so long after it was put."""
    run = TaskRun(played.spec, played.context)
    asked = _what_to_ask(run, played.ledger.models.candidate("m", 1))
    at = played.ledger.approvals.history("m")[-1].asked_at
    given: dict[str, Any] = {}
    if answered is not None:
        given = {
            "chosen": (option,), "params": {"reason": "seen"}, "responded_at": at + answered, "responded_by": PERSON,
        }  # fmt: skip
    return Question("m", "run-1", "Release m version 1?", text or body(asked), False, at, **given)


def again(played: Played, monkeypatch: pytest.MonkeyPatch, question: Question | None) -> Any:
    """Run the task again, while Airflow holds this."""
    monkeypatch.setattr(asked_before, "_shown", lambda run: question)
    return execute(played)


def test_an_answer_that_no_task_took_up_counts(manual: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    told = again(manual, monkeypatch, shown(manual, answered=timedelta(seconds=1)))
    assert told == {"version": 1, "by": "oncall", "reason": "version 1: approved by oncall: seen"}
    assert [one.state for one in manual.ledger.approvals.history("m")] == [ApprovalState.APPROVED]


def test_an_approval_that_was_kept_stands_when_the_task_runs_again(manual: Played) -> None:
    told = manual.answer("Approve", "seen")
    assert execute(manual) == told
    assert len(manual.ledger.approvals.history("m")) == 1


def test_a_kept_approval_does_not_stand_under_a_later_hold(manual: Played) -> None:
    manual.answer("Approve", "seen")
    later = TaskRun(manual.spec, manual.context).now + timedelta(minutes=1)
    manual.ledger.holds.place("m", by="ann", reason="wrong fares", now=later)
    with pytest.raises(AirflowFailException, match="has asked before"):  # so it looked at what Airflow shows
        execute(manual)


def test_a_rejection_stands(manual: Played) -> None:
    for again in (lambda: manual.answer("Reject", "worse"), lambda: execute(manual)):
        with pytest.raises(AirflowSkipException, match="version 1: rejected by oncall: worse"):
            again()


def test_what_came_of_nothing_stands_where_airflow_tries_again_and_is_asked_again_where_a_person_clears(
    manual: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = shown(manual)
    with pytest.raises(AirflowSkipException, match="expired"):
        manual.answer("Reject", by=None)
    manual.task.try_number = 2
    with pytest.raises(AirflowSkipException, match="expired"):
        execute(manual)
    manual.task.max_tries = 8  # what clearing does
    with pytest.raises(KeyError, match="task_instance"):
        again(manual, monkeypatch, question)
    assert [one.state for one in manual.ledger.approvals.history("m")] == [ApprovalState.EXPIRED, ApprovalState.OPEN]


def test_an_answer_under_another_text_does_not_count(manual: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirflowSkipException, match="would show the old text"):
        again(manual, monkeypatch, shown(manual, text="another champion", answered=timedelta(seconds=1)))
    assert manual.state is ApprovalState.VOID


def test_a_question_that_was_never_shown_is_put(manual: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match="task_instance"):
        again(manual, monkeypatch, None)
    assert len(manual.ledger.approvals.history("m")) == 1


@pytest.mark.parametrize("answered", [None, timedelta(seconds=-1)])
def test_without_an_answer_to_this_question_it_is_put_again(
    manual: Played, monkeypatch: pytest.MonkeyPatch, answered: timedelta | None
) -> None:
    question = shown(manual, answered=answered)
    with pytest.raises(KeyError, match="task_instance"):  # it has come to Airflow's own part, which a real task has
        again(manual, monkeypatch, question)
    assert [one.state for one in manual.ledger.approvals.history("m")] == [ApprovalState.OPEN]
    assert "waiting for approval of version 1" in manual.ledger.requests.get(manual.request_id).reason


# ---------------------------------------------------------------- form and text


def test_the_form_demands_a_reason_only_where_an_approval_needs_it() -> None:
    assert _reason_field("").schema["type"] == ["null", "string"]
    assert _reason_field("held since noon").schema["minLength"] == 1


def keep(store: InMemoryStore, version: int, features: list[str], train: str) -> str:
    """A bundle with these features, and the evidence of a version that was fitted with this window; the bundle's id."""
    schema = json.dumps({"features": [{"name": name} for name in features]}).encode()
    sealed, files = bundle.seal({bundle.SCHEMA: schema})
    for name, data in files.items():
        store.put(bundle.key(sealed, name), data)
    fitted = {"rows": 1234, "from": "2013-01-01T00:00:00+00:00", "until": "2013-02-20T00:00:00+00:00"}
    told = {"changed": {"fitted": fitted, "spec": {"window": f"train {train}", "rounds": "at most 30"}}}
    store.put(evidence.key("m", version), json.dumps(told).encode())
    return sealed


def test_what_changed_against_the_champion_is_on_the_page(auto: Played) -> None:
    store = InMemoryStore()
    old = make_candidate(version=3, train_key="old", bundle=keep(store, 3, ["x", "hour"], "30d"))
    new = make_candidate(version=4, train_key="new", bundle=keep(store, 4, ["x", "wind"], "60d"))
    auto.ledger.models.add_candidate(old)
    auto.ledger.models.judge("m", 3, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    passed = auto.ledger.models.candidate("m", 3)
    now = TaskRun(auto.spec, auto.context).now
    release(auto.ledger, passed, released_by="ann", reason="", watermark=None, now=now)
    text = body(Asked(auto.spec, new, make_verdict(), auto.ledger, store, "", "a hold", "held", Approvers(False)))
    assert "| | candidate: version 4 | champion: version 3 |" in text
    assert "| fitted on | 1,234 rows, 2013-01-01 to 2013-02-26 00:00 UTC |" in text
    assert "| features | 2 (added `wind`, removed `hour`) | 2 |" in text
    assert "| spec | window: train 60d (was train 30d) | – |" in text
    assert "an approval needs one too (held)" in text


def test_the_text_does_not_change_by_itself_and_no_name_breaks_its_tables(auto: Played) -> None:
    [gate] = make_verdict().gates
    verdict = make_verdict(gates=(gate, replace(gate, slice="a|b", note="x|y\nz")))
    candidate = auto.ledger.models.candidate("m", 1)
    asked = Asked(
        auto.spec, candidate, verdict, auto.ledger, InMemoryStore(), "http://mlflow", "a hold", "", Approvers(False)
    )
    text = body(asked)
    assert text == body(asked)
    rows = [line for line in text.splitlines() if line.startswith("| auc")]
    assert [row.count("|") for row in rows] == [8, 8]
    assert "30 rows, 2013-02-27 to 2013-02-28" in text
    assert "no champion yet" in text


# ---------------------------------------------------------------- what overtakes a question


def older(played: Played) -> str:
    """Version 1 waits, asked about by its run; this run is about version 2 by now. The id of the question on 1."""
    played.asked()
    asked = played.ledger.approvals.history("m")[-1]
    request = played.ledger.requests.open(**make_request_args(cause=Cause.API, run_id="run-2", dedupe_key="2"))
    played.ledger.requests.mark(request.id, now=request.requested_at, state=RequestState.CLAIMED)
    played.ledger.models.add_candidate(make_candidate(version=2, request_id=request.id))
    played.ledger.models.judge("m", 2, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    return asked.id


def newer(played: Played) -> Any:
    """Version 2 comes to its approval, in a run of its own."""
    request = played.ledger.requests.for_run("m", "run-2")
    assert request
    own, before = Task(handed_on={"admit": request.id, "train": 2}), played.context
    played.context = {"ti": own, "dag_run": SimpleNamespace(run_id="run-2", dag_id="m")}
    try:
        return execute(played)
    finally:
        played.context = before


def state_of(played: Played, approval_id: str) -> ApprovalState:
    return next(one.state for one in played.ledger.approvals.history("m") if one.id == approval_id)


DISMISSAL = {"id": "1", "name": "admin"}


def test_a_newer_version_that_is_asked_about_supersedes_and_the_older_run_ends_with_that(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(tmp_path, monkeypatch)
    question = older(played)
    with pytest.raises(KeyError, match="task_instance"):  # it has come to Airflow's own part
        newer(played)
    assert state_of(played, question) is ApprovalState.SUPERSEDED
    asked = played.ledger.approvals.history("m")[0]
    told = "version 1: superseded: version 2 came before an answer"
    for option, by in (("Reject", DISMISSAL), ("Approve", PERSON)):  # Airflow is told, or a person clicks meanwhile
        with pytest.raises(AirflowSkipException, match=told):
            played.answer(option, dismissal(asked) if by is DISMISSAL else "seen", by=by)
    assert state_of(played, question) is ApprovalState.SUPERSEDED
    assert played.ledger.requests.get(played.request_id).reason == told
    assert played.ledger.models.candidate("m", 1).state is CandidateState.PASSED


def test_a_person_who_was_quicker_than_the_newer_version_stands(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, monkeypatch)
    question = older(played)
    assert played.answer("Approve", "seen")["version"] == 1
    with pytest.raises(KeyError, match="task_instance"):
        newer(played)
    assert state_of(played, question) is ApprovalState.APPROVED


def test_a_newer_version_that_passes_without_a_person_supersedes_too(auto: Played) -> None:
    question = older(auto)  # while it was held, say
    assert newer(auto)["by"] == "auto"
    assert state_of(auto, question) is ApprovalState.SUPERSEDED


def test_an_older_version_is_not_asked_about_while_a_newer_one_waits(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(tmp_path, monkeypatch)
    older(played)
    with pytest.raises(KeyError, match="task_instance"):
        newer(played)
    played.task.max_tries = 8  # a person clears the older run
    monkeypatch.setattr(asked_before, "_shown", lambda run: None)
    with pytest.raises(AirflowSkipException, match="version 1: superseded: version 2 came before an answer"):
        execute(played)


def judging_again(played: Played) -> list[Any]:
    return [one for one in played.ledger.requests.latest("m", limit=50) if "judge_again" in one.detail]


def crown_another(played: Played, version: int = 0) -> None:
    """Another version becomes champion meanwhile, an older one."""
    played.ledger.models.add_candidate(make_candidate(version=version, train_key="other"))
    played.ledger.models.judge("m", version, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    release(played.ledger, played.ledger.models.candidate("m", version))


def test_an_answer_after_the_champion_changed_is_void_and_one_request_judges_again(manual: Played) -> None:
    crown_another(manual)
    for _ in range(2):  # the task is killed, and takes the answer up once more
        with pytest.raises(AirflowSkipException, match="but the champion has changed") as ended:
            manual.answer("Approve", "seen")
        manual.task.try_number += 1
    [again] = judging_again(manual)
    assert (again.detail["judge_again"], again.detail["of"]) == (1, manual.request_id)
    assert f"Request {again.id} judges it again" in str(ended.value)
    assert manual.ledger.requests.get(manual.request_id).reason == str(ended.value)
    assert manual.state is ApprovalState.VOID


def test_an_answer_after_a_newer_version_was_released_comes_too_late(manual: Played) -> None:
    crown_another(manual, version=2)
    with pytest.raises(AirflowSkipException, match="superseded: version 2 came before an answer"):
        manual.answer("Approve", "seen")
    assert manual.state is ApprovalState.SUPERSEDED
    assert judging_again(manual) == []


def test_a_hold_after_the_question_has_it_judged_again_and_a_missing_reason_does_not(manual: Played) -> None:
    with pytest.raises(AirflowSkipException, match="`evergreen retrain m` asks again"):
        manual.answer("Reject")
    assert judging_again(manual) == []
    manual.asked()
    later = TaskRun(manual.spec, manual.context).now + timedelta(minutes=1)
    manual.ledger.holds.place("m", by="ann", reason="wrong fares", now=later)
    with pytest.raises(AirflowSkipException, match="judges it again"):
        manual.answer("Approve", "seen")
    assert len(judging_again(manual)) == 1


def test_a_version_that_was_released_meanwhile_is_not_judged_again(manual: Played) -> None:
    release(manual.ledger, manual.ledger.models.candidate("m", 1))
    with pytest.raises(AirflowSkipException, match="version 1 is released by now"):
        manual.answer("Approve", "seen")
    assert judging_again(manual) == []


def test_a_champion_that_changed_before_the_question_has_it_judged_again(auto: Played) -> None:
    crown_another(auto)
    with pytest.raises(AirflowSkipException, match="the champion has changed since it was judged") as ended:
        execute(auto)
    [again] = judging_again(auto)
    assert again.id in str(ended.value)


def test_a_text_that_is_old_has_it_judged_again(manual: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirflowSkipException, match="judges it again"):
        again(manual, monkeypatch, shown(manual, text="another champion"))
    assert len(judging_again(manual)) == 1


def test_what_was_ended_at_once_ends_the_run_with_the_same_request(manual: Played) -> None:
    crown_another(manual)
    page = "{}/{}".format
    now = TaskRun(manual.spec, manual.context).now
    tend_approvals(manual.ledger, {"m": manual.spec}, InMemoryRuns(), now=now, page=page)
    [again] = judging_again(manual)
    ended = manual.ledger.approvals.history("m")[-1]
    with pytest.raises(AirflowSkipException, match=f"Request {again.id} judges it again"):
        manual.answer("Reject", dismissal(ended), by=DISMISSAL)
    assert judging_again(manual) == [again]
    assert manual.ledger.approvals.history("m")[-1] == ended


def test_people_are_told_once_that_a_question_waits(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, monkeypatch)
    monkeypatch.setattr(asked_before, "_shown", lambda run: None)
    for _ in range(2):
        with pytest.raises(KeyError, match="task_instance"):
            execute(played)
    [notice] = played.ledger.notices.latest(10)
    assert (notice.kind, notice.title) == (NoticeKind.APPROVAL_NEEDED, "m version 1 waits for approval")
    assert notice.link.endswith("/dags/m/runs/run-1/tasks/approve/required_actions")


# ---------------------------------------------------------------- overrides


@pytest.fixture
def refused(auto: Played) -> Played:
    """Its gates refused the version, and anna wants it all the same."""
    failed = make_verdict(passed=False)
    auto.ledger.models.judge("m", 1, verdict=failed, state=CandidateState.TO_OVERRIDE, generation_seen=0)
    detail = {"override": 1, "reason": "the airport is shut", "user": "anna"}
    asked = make_request_args(cause=Cause.PERSON, detail=detail, run_id="run-3", dedupe_key="3")
    auto.request_id = auto.task.handed_on["admit"] = auto.ledger.requests.open(**asked).id
    auto.context["dag_run"].run_id = "run-3"
    return auto


def test_an_override_always_asks_and_says_what_it_sets_aside(refused: Played) -> None:
    with pytest.raises(KeyError, match="task_instance"):
        execute(refused)
    [asked] = refused.ledger.approvals.history("m")
    assert (asked.state, asked.overrides) == (ApprovalState.OPEN, "auc ≥ 0.6 (0.5)")
    about = _what_to_ask(TaskRun(refused.spec, refused.context), refused.ledger.models.candidate("m", 1))
    assert headline(about) == "Release m version 1? Overrides auc ≥ 0.6 (0.5)."
    assert "**An approval overrides gates that failed:** auc ≥ 0.6 (0.5)." in body(about)
    assert "Asked for by anna: the airport is shut." in body(about)
    assert about.explain == "it sets aside gates that failed: auc ≥ 0.6 (0.5)"


def test_an_override_that_is_approved_stands_in_the_release_and_among_the_events(refused: Played) -> None:
    with pytest.raises(KeyError, match="task_instance"):
        execute(refused)
    handed_on = refused.answer("Approve", "JFK is shut")
    assert handed_on["reason"] == "version 1: approved by oncall, overriding auc ≥ 0.6 (0.5): JFK is shut"
    assert execute(refused) == handed_on  # the task runs again
    [event] = refused.ledger.events.history("m")
    assert (event.what, event.detail, event.by) == ("override", handed_on["reason"], "oncall")


@pytest.mark.parametrize(("option", "reason"), [("Approve", ""), ("Reject", "no")])
def test_an_override_without_a_reason_or_rejected_leaves_the_version_refused(
    refused: Played, option: str, reason: str
) -> None:
    with pytest.raises(KeyError, match="task_instance"):
        execute(refused)
    with pytest.raises(AirflowSkipException):
        refused.answer(option, reason)
    assert refused.ledger.models.candidate("m", 1).state is CandidateState.REJECTED
    assert refused.ledger.events.history("m") == []


# ---------------------------------------------------------------- roles and four-eyes

FOUR_EYES = {"mode": "manual", "approvers": ["role:Approver"], "four_eyes": True}


@pytest.fixture
def composed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Played:
    """In the compose shape; anna started the run."""
    played = Played(tmp_path, monkeypatch, approval=FOUR_EYES)
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", asking.AUTH_MANAGER)
    played.asked()
    return played


def text(played: Played) -> str:
    return body(_what_to_ask(TaskRun(played.spec, played.context), played.ledger.models.candidate("m", 1)))


def who(played: Played) -> list[str]:
    return [user["id"] for user in asking.assigned(asking.approvers(TaskRun(played.spec, played.context)))]


def test_airflow_is_told_who_may_answer_and_people_too(composed: Played) -> None:
    assert who(composed) == ["role:Approver", "not:anna"]
    assert "Who may answer: whoever has the role Approver or Admin" in text(composed)
    assert "not anna, who started this run" in text(composed)


def test_where_airflow_knows_no_roles_it_is_told_nobody(composed: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (None, "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"):
        if other:
            monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", other)
        else:
            monkeypatch.delenv("AIRFLOW__CORE__AUTH_MANAGER")
        assert who(composed) == []
        assert "roles and four-eyes are not enforced" in text(composed)


def test_an_answer_of_whoever_started_the_run_is_void(composed: Played) -> None:
    with pytest.raises(AirflowSkipException, match=r"approved by Anna, who started the run \(approval.four_eyes\)"):
        composed.answer("Approve", "mine", by={"id": "3", "name": "Anna"})
    assert composed.state is ApprovalState.VOID


@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_an_answer_of_the_platforms_own_account_decides_on_nothing(
    composed: Played, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("EVERGREEN_AIRFLOW_USER", "evergreen")
    with pytest.raises(AirflowSkipException, match="the platform's own account, which decides on nothing"):
        composed.answer(option, "odd", by={"id": "9", "name": "evergreen"})
    assert composed.state is ApprovalState.VOID
    assert composed.ledger.models.candidate("m", 1).state is CandidateState.PASSED


def test_another_answers(composed: Played) -> None:
    assert composed.answer("Approve", "seen", by={"id": "4", "name": "bert"})["by"] == "bert"


def test_the_auth_manager_is_the_one_that_is_named() -> None:
    module, name = asking.AUTH_MANAGER.rsplit(".", 1)
    assert importlib.util.find_spec(module) is not None
    assert name == "EvergreenAuthManager"


# ---------------------------------------------------------------- what the release asks for


def test_a_task_that_was_marked_as_done_approves_no_other_version(manual: Played) -> None:
    manual.task.handed_on["approve"] = manual.answer("Approve", "seen it")
    assert _approved(TaskRun(manual.spec, manual.context), 1)["by"] == "oncall"
    with pytest.raises(EvergreenError, match="did not let version 2 through"):
        _approved(TaskRun(manual.spec, manual.context), 2)
    manual.task.handed_on["approve"] = None
    with pytest.raises(EvergreenError, match="'approve' handed nothing on"):
        _approved(TaskRun(manual.spec, manual.context), 1)
