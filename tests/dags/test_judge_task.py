"""What the task judge makes of a verdict: whether the run goes on, what its request says, and who is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from evergreen.core.records import ApprovalState, CandidateState, NoticeKind, RequestState, TriggerRequest
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.orchestration.deciding import _goes_on
from evergreen.orchestration.task_run import TaskRun
from records import NOW, make_candidate, make_request_args, make_spec, make_verdict


class Task:
    """What the task sees of Airflow's task instance."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def xcom_pull(self, task_ids: str) -> str:
        assert task_ids == "admit"
        return self._request_id

    def xcom_push(self, key: str, value: Any) -> None:
        """Kept by Airflow."""


class Judged:
    """A run whose candidate has its verdict; it holds the model's lease."""

    def __init__(self, state: CandidateState, detail: dict[str, Any], **verdict: Any) -> None:
        self.ledger = in_memory_ledger()
        request = self.ledger.requests.open(**make_request_args(detail=detail))
        self.ledger.requests.mark(request.id, now=NOW, state=RequestState.CLAIMED, step="judge")
        self.ledger.leases.acquire("m", request.id, LEASE_TTL, NOW)
        self.ledger.models.add_candidate(make_candidate(request_id=request.id))
        self.candidate = self.ledger.models.judge(
            "m", 1, verdict=make_verdict(**verdict), state=state, generation_seen=0
        )
        dag_run = SimpleNamespace(run_id="run-1", dag_id="m")
        self.run = TaskRun(make_spec(), {"ti": Task(request.id), "dag_run": dag_run})  # type: ignore[typeddict-item,arg-type]
        self.run.__dict__["ledger"] = self.ledger

    def goes_on(self) -> bool:
        return _goes_on(self.run, self.candidate)

    @property
    def request(self) -> TriggerRequest:
        assert self.run.request is not None
        return self.run.request

    @property
    def told(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.ledger.notices.latest(9)]


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://ops.example.com")


@pytest.mark.parametrize(
    ("state", "passed"), [(CandidateState.PASSED, True), (CandidateState.TO_OVERRIDE, False)], ids=str
)
def test_what_a_person_or_the_policy_decides_on_goes_on_without_the_lease(state: CandidateState, passed: bool) -> None:
    judged = Judged(state, {}, passed=passed)
    assert judged.goes_on()
    assert (judged.request.state, judged.ledger.leases.get("m")) == (RequestState.CLAIMED, None)
    assert judged.told == []


def test_what_its_gates_refused_ends_the_run_and_people_are_told_once() -> None:
    judged = Judged(CandidateState.REJECTED, {}, passed=False)
    for _ in range(2):  # the task is run again
        assert not judged.goes_on()
    assert (judged.request.state, judged.request.step, judged.request.reason) == (RequestState.SERVED, "judge", "auc")
    assert judged.ledger.leases.get("m") is None
    assert judged.told == [NoticeKind.REFUSED]
    (notice,) = judged.ledger.notices.latest(9)
    assert notice.link == "https://ops.example.com/evergreen/models/m/versions/1"  # its evidence


def test_what_could_not_be_judged_ends_the_run_and_nobody_needs_to_know() -> None:
    judged = Judged(CandidateState.NOT_JUDGED, {}, passed=False, judged=False, reason="not judged: 3 fresh rows")
    assert not judged.goes_on()
    assert (judged.request.state, judged.request.reason) == (RequestState.SERVED, "not judged: 3 fresh rows")
    assert judged.told == []


@pytest.mark.parametrize(
    ("state", "passed", "says"),
    [
        (CandidateState.PASSED, True, "dry run: version 1 passed; nothing was asked and nothing released"),
        (
            CandidateState.REJECTED,
            False,
            "dry run: version 1 would not have passed: auc; nothing was asked and nothing released",
        ),
    ],
    ids=["passed", "rejected"],
)
def test_a_dry_run_ends_whatever_the_verdict(state: CandidateState, passed: bool, says: str) -> None:
    judged = Judged(state, {"dry_run": True}, passed=passed)
    assert not judged.goes_on()
    assert (judged.request.state, judged.request.reason) == (RequestState.SERVED, says)
    assert judged.ledger.leases.get("m") is None
    assert judged.told == []


def test_a_version_that_an_override_released_goes_on_when_the_task_is_run_again() -> None:
    judged = Judged(CandidateState.TO_OVERRIDE, {"override": 1}, passed=False)
    request = judged.request
    asked = judged.ledger.approvals.ask(
        judged.candidate, request_id=request.id, run_id="run-1", expires_at=NOW, now=NOW, overrides="auc"
    )
    judged.ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="storm", now=NOW)
    release = judged.ledger.releases.prepare(
        judged.candidate, pool="default", released_by="ada", reason="storm", watermark=None, now=NOW,
        approval_id=asked.id,
    )  # fmt: skip
    judged.ledger.releases.go_live(release.id, NOW)
    judged.candidate = judged.ledger.models.candidate("m", 1)
    assert judged.candidate.state is CandidateState.RELEASED
    assert judged.goes_on()
