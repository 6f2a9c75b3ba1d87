"""The seven tasks: each builds its ports and calls its step. Ids are handed on by XCom, never data.

The heavy ones run their step in a child with a memory limit; what they need of Airflow is asked before.
Here are those that make a candidate; those that decide on it are in `deciding`.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from airflow.sdk import chain, task

from evergreen import wiring
from evergreen.core.bundle import sha256
from evergreen.core.errors import ValidationStopped
from evergreen.core.train_key import provenance
from evergreen.orchestration.deciding import approve_task, judge_task, roll_out_task
from evergreen.orchestration.descriptions import TASKS
from evergreen.orchestration.run_notes import cause_of, tell_cause, tell_data_docs, tell_window
from evergreen.orchestration.task_run import RETRIES, TaskRun, run_step
from evergreen.steps.admit import admit
from evergreen.steps.places import free_source
from evergreen.steps.pull import pull
from evergreen.steps.train import train
from evergreen.steps.validate import validate

if TYPE_CHECKING:
    from airflow.sdk.definitions.xcom_arg import XComArg

    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)


def seven_tasks(spec: ModelSpec) -> None:
    """Define the tasks of one model, in order, in the DAG that is being built."""
    steps = [_admit, _pull, _validate, _train, judge_task, approve_task, roll_out_task]
    chain(*(step(spec) for step in steps))


def _admit(spec: ModelSpec) -> XComArg:
    @task(task_id="admit", doc_md=TASKS["admit"], **RETRIES)
    def run_admit() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "admit"):
            cause, detail = cause_of(run.context)
            request = admit(spec, run.ledger, run.source, cause=cause, run_id=run.run_id, detail=detail, now=run.now)
            tell_cause(run.context, request)
        return request.id

    return run_admit()


def _pull(spec: ModelSpec) -> XComArg:
    @task(task_id="pull", doc_md=TASKS["pull"], **RETRIES)
    def run_pull() -> str:
        run = TaskRun.of(spec)
        with run_step(run, "pull"):
            request_id, connections = run.handed_on("admit"), run.known_connections()
            snapshot = run.in_child(
                "pull",
                lambda own: pull(
                    spec,
                    own.ledger,
                    wiring.source(spec.source, connections.get),
                    wiring.snapshots(own.settings),
                    wiring.store(own.settings),
                    request_id=request_id,
                    lease=own.lease,
                ),
            )
            free_source(spec, run.ledger, request_id)
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
            declared = suite.read_bytes()
            request_id, snapshot_id = run.handed_on("admit"), run.handed_on("pull")
            try:
                clean = run.in_child(
                    "validate",
                    lambda own: validate(
                        spec,
                        own.ledger,
                        wiring.snapshots(own.settings),
                        wiring.validator(store := wiring.store(own.settings), own.settings.training_memory_mb),
                        wiring.registry(own.settings),
                        store,
                        json.loads(declared),
                        suite_sha256=sha256(declared),
                        request_id=request_id,
                        snapshot_id=snapshot_id,
                        lease=own.lease,
                    ),
                )
            except ValidationStopped:
                tell_data_docs(run.context, spec.name, request_id)
                raise
            log.info("%s rows passed suite %s, %s set aside", f"{clean.rows:,}", suite.name, f"{clean.quarantined:,}")
        return clean.id

    return run_validate()


def _train(spec: ModelSpec) -> XComArg:
    @task(task_id="train", doc_md=TASKS["train"], **RETRIES)
    def run_train() -> int:
        run = TaskRun.of(spec)
        with run_step(run, "train"):
            request_id, snapshot_id = run.handed_on("admit"), run.handed_on("validate")
            candidate = run.in_child(
                "train",
                lambda own: train(
                    spec,
                    own.ledger,
                    wiring.snapshots(own.settings),
                    wiring.trainer(own.settings),
                    wiring.registry(own.settings),
                    wiring.store(own.settings),
                    request_id=request_id,
                    snapshot_id=snapshot_id,
                    provenance=provenance(own.settings.root, spec),
                    lease=own.lease,
                    now=own.now,
                    tuner=wiring.tuner(own.settings) if spec.training.tuning else None,
                ),
            )
            log.info("Version %s: %s", candidate.version, candidate.metrics)
            tell_window(run.context, candidate)
        return candidate.version

    return run_train()
