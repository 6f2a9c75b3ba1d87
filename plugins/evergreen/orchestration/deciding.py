"""The tasks that decide on a candidate: judge, approve, roll_out."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import task

from evergreen import wiring
from evergreen.core import notices
from evergreen.core.outcome import dry_run_ends, ends_with
from evergreen.core.records import CandidateState, RequestState
from evergreen.orchestration.approval import ApproveCandidate
from evergreen.orchestration.descriptions import TASKS
from evergreen.orchestration.pages import addresses
from evergreen.orchestration.roll_out import RollOut
from evergreen.orchestration.task_run import RETRIES, TaskRun, run_step
from evergreen.steps.judge import judge
from evergreen.steps.rehearse import rehearse
from evergreen.steps.report import report

if TYPE_CHECKING:
    from airflow.sdk.definitions.xcom_arg import XComArg

    from evergreen.core.records import Candidate
    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)

# Airflow tries a task anew that was answered before its scheduler had heard of the question: the answer counts, soon.
SOON: dict[str, Any] = {**RETRIES, "retry_delay": timedelta(seconds=2)}


def judge_task(spec: ModelSpec) -> XComArg:
    """The verdict, and the end of the run where it is not passed."""

    @task.short_circuit(task_id="judge", doc_md=TASKS["judge"], **RETRIES)
    def run_judge() -> bool:
        run = TaskRun.of(spec)
        with run_step(run, "judge"):
            candidate = _judged(run)
            assert candidate.verdict is not None, "judge returns a verdict"
            log.info("Judged on %s rows: %s", f"{candidate.verdict.rows:,}", candidate.verdict.reason)
            return _goes_on(run, candidate)

    return run_judge()


def _judged(run: TaskRun) -> Candidate:
    request_id, version = run.handed_on("admit"), run.handed_on("train")
    return run.in_child("judge", lambda own: _judge(own, request_id, version))


def _judge(run: TaskRun, request_id: str, version: int) -> Candidate:
    store, registry = wiring.store(run.settings), wiring.registry(run.settings)
    return judge(
        run.spec,
        run.ledger,
        wiring.snapshots(run.settings),
        wiring.trainer(run.settings),
        registry,
        store,
        rehearse=partial(rehearse, run.spec, wiring.slots(run.settings), wiring.serving_client(), store),
        report=partial(report, registry=registry, store=store, draw=wiring.evidence_charts()),
        request_id=request_id,
        version=version,
        lease=run.lease,
    )


def _goes_on(run: TaskRun, candidate: Candidate) -> bool:
    """End the run where nothing comes after the verdict; the lease ends here in any case."""
    dry_run = run.request is not None and run.request.detail.get("dry_run")
    ends = dry_run_ends(candidate) if dry_run else ends_with(candidate)
    if not ends:
        run.ledger.leases.release_all(run.handed_on("admit"))
        return True
    if candidate.state is CandidateState.REJECTED and not dry_run:
        notices.refused(run.ledger, candidate, addresses().version(run.spec.name, candidate.version), run.now)
    run.close("judge", RequestState.SERVED, ends)
    return False


def approve_task(spec: ModelSpec) -> Any:
    """One operator for every mode: whether a person is asked is known only when the verdict is."""
    return ApproveCandidate(spec=spec, task_id="approve", doc_md=TASKS["approve"], **SOON)


def roll_out_task(spec: ModelSpec) -> Any:
    """The release."""
    return RollOut(spec=spec, task_id="roll_out", doc_md=TASKS["roll_out"], **RETRIES)
