"""The seven tasks: each builds its ports and calls its step. Ids are handed on by XCom, never data."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import chain, task

from evergreen import wiring
from evergreen.core.records import RequestState, Verdict
from evergreen.core.spec import ApprovalMode
from evergreen.core.train_key import provenance
from evergreen.orchestration.descriptions import TASKS
from evergreen.orchestration.run_notes import cause_of, tell
from evergreen.orchestration.task_run import TaskRun, run_step
from evergreen.steps.admit import admit
from evergreen.steps.judge import judge
from evergreen.steps.pull import pull
from evergreen.steps.roll_out import roll_out
from evergreen.steps.train import train
from evergreen.steps.validate import validate

if TYPE_CHECKING:
    from airflow.sdk.definitions.xcom_arg import XComArg

    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)

RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=15)}


def seven_tasks(spec: ModelSpec) -> None:
    """Define the tasks of one model, in order, in the DAG that is being built."""
    steps = [_admit, _pull, _validate, _train, _judge, _approve, _roll_out]
    chain(*(step(spec) for step in steps))


def _admit(spec: ModelSpec) -> XComArg:
    @task(task_id="admit", doc_md=TASKS["admit"], **RETRIES)
    def run_admit() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "admit"):
            cause, detail = cause_of(run.context)
            request = admit(spec, run.ledger, run.source, cause=cause, run_id=run.run_id, detail=detail, now=run.now)
        return request.id

    return run_admit()


def _pull(spec: ModelSpec) -> XComArg:
    @task(task_id="pull", doc_md=TASKS["pull"], **RETRIES)
    def run_pull() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "pull"):
            snapshots = wiring.snapshots(run.settings)
            snapshot = pull(spec, run.ledger, run.source, snapshots, request_id=run.handed_on("admit"))
            log.info(
                "%s rows in %s daily parts, %s without a label left out, %s to %s",
                f"{snapshot.rows:,}",
                len(snapshot.parts),
                f"{snapshot.unlabelled:,}",
                snapshot.start,
                snapshot.as_of,
            )
        return snapshot.id

    return run_pull()


def _validate(spec: ModelSpec) -> XComArg:
    @task(task_id="validate", doc_md=TASKS["validate"], **RETRIES)
    def run_validate() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "validate"):
            suite = run.settings.root / "expectations" / f"{spec.validation.suite}.json"
            clean = validate(
                spec,
                run.ledger,
                wiring.snapshots(run.settings),
                wiring.validator(),
                wiring.registry(run.settings),
                json.loads(suite.read_text(encoding="utf-8")),
                request_id=run.handed_on("admit"),
                snapshot_id=run.handed_on("pull"),
            )
            log.info("%s rows passed suite %s, %s set aside", f"{clean.rows:,}", suite.name, f"{clean.quarantined:,}")
        return clean.id

    return run_validate()


def _train(spec: ModelSpec) -> XComArg:
    @task(task_id="train", doc_md=TASKS["train"], **RETRIES)
    def run_train() -> int:
        run = TaskRun.of(spec)
        with run_step(run, "train"):
            candidate = train(
                spec,
                run.ledger,
                wiring.snapshots(run.settings),
                wiring.trainer(),
                wiring.registry(run.settings),
                wiring.store(run.settings),
                request_id=run.handed_on("admit"),
                snapshot_id=run.handed_on("validate"),
                provenance=provenance(run.settings.root, spec.name),
                now=run.now,
            )
            log.info("Version %s: %s", candidate.version, candidate.metrics)
        return candidate.version

    return run_train()


def _judge(spec: ModelSpec) -> XComArg:
    @task.short_circuit(task_id="judge", doc_md=TASKS["judge"], **RETRIES)
    def run_judge() -> bool:
        run = TaskRun.of(spec)
        with run_step(run, "judge"):
            request_id = run.handed_on("admit")
            candidate = judge(
                spec,
                run.ledger,
                wiring.snapshots(run.settings),
                wiring.trainer(),
                wiring.registry(run.settings),
                wiring.store(run.settings),
                request_id=request_id,
                version=run.handed_on("train"),
            )
            assert candidate.verdict is not None, "judge returns a verdict"
            log.info("Judged on %s rows: %s", f"{candidate.verdict.rows:,}", candidate.verdict.reason)
            return _passed(run, request_id, candidate.verdict)

    return run_judge()


def _passed(run: TaskRun, request_id: str, verdict: Verdict) -> bool:
    """End the run where the verdict says so; the lease ends here in any case."""
    if verdict.passed:
        run.ledger.leases.release(run.spec.name, request_id)
    else:
        run.close("judge", RequestState.SERVED, verdict.reason)
    return verdict.passed


def _approve(spec: ModelSpec) -> Any:
    if spec.approval.mode is ApprovalMode.MANUAL:
        from evergreen.orchestration.approval import ApproveCandidate

        return ApproveCandidate(spec=spec, task_id="approve", doc_md=TASKS["approve"], **RETRIES)

    @task(task_id="approve", doc_md=TASKS["approve"], **RETRIES)
    def pass_on() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "approve"):
            log.info("approval.mode is auto: version %s passed its gates, nobody is asked", run.handed_on("train"))
        return "auto"

    return pass_on()


def _roll_out(spec: ModelSpec) -> XComArg:
    @task(task_id="roll_out", doc_md=TASKS["roll_out"], **RETRIES)
    def run_roll_out() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "roll_out"):
            who = run.handed_on("approve")
            release = roll_out(
                spec,
                run.ledger,
                wiring.registry(run.settings),
                request_id=run.handed_on("admit"),
                version=run.handed_on("train"),
                released_by=who,
                reason="gates passed, approval.mode is auto" if who == "auto" else f"approved by {who}",
                now=run.now,
            )
            tell(run.context, f"released version {release.version}")
        return release.id

    return run_roll_out()
