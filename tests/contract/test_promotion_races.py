"""Twenty runs promote versions of one model at once: one wins, the others are told who did, and are judged again."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import training_data
from evergreen import wiring
from evergreen.adapters.mlflow_registry import MlflowRegistry
from evergreen.core.answering import Wait
from evergreen.core.errors import RunEnds
from evergreen.core.ports import Ledger, Registry
from evergreen.core.records import CandidateState, Cause, Release, RequestState
from evergreen.core.rows import Rows
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.roll_out import roll_out
from ledgers import Opener
from records import NOW, make_candidate, make_request_args, make_spec, make_verdict

RACERS = 20
MLFLOW = os.environ.get("EVERGREEN_TEST_MLFLOW")
MODEL = "raced"
SPEC = make_spec(name=MODEL, approval={"mode": "auto"})


def test_one_of_twenty_is_released_and_the_alias_says_so(opener: Opener) -> None:
    ledger = opener()
    registry: Registry = MlflowRegistry(MLFLOW, "mlflow-artifacts:/") if MLFLOW else FakeRegistry()
    requests = [_passed(ledger, registry, number) for number in range(RACERS)]
    versions = [int(candidate.version) for candidate in reversed(ledger.models.candidates(MODEL))]
    ready = Barrier(RACERS)

    def run(own: Ledger, request_id: str, version: int) -> Release | RunEnds:
        ready.wait(60)
        try:
            return roll_out(
                SPEC, own, registry, request_id=request_id, version=version, released_by="auto", reason="gates",
                now=NOW, wait=Wait(seconds=0),
            )  # fmt: skip
        except RunEnds as end:
            return end

    with ThreadPoolExecutor(RACERS) as pool:
        results = list(pool.map(run, [opener() for _ in requests], requests, versions))
    [won] = [result for result in results if isinstance(result, Release)]
    ended = {v: str(r.reason) for v, r in zip(versions, results, strict=True) if isinstance(r, RunEnds)}
    assert len(ended) == RACERS - 1
    winner = f"version {won.version} became champion"
    assert all(reason.startswith(winner) and f"while version {v} waited" in reason for v, reason in ended.items())
    assert ledger.releases.history(MODEL) == [ledger.releases.get(won.id)]
    assert ledger.releases.prepared() == []
    again = {one.detail["judge_again"]: one for one in ledger.requests.unfinished(MODEL)}
    assert set(again) == set(ended)
    assert all(again[version].id in reason for version, reason in ended.items())
    assert {ledger.requests.get(one).state for one in requests} == {RequestState.SERVED}
    assert registry.aliases(MODEL)["champion"] == won.version


@cache
def _files() -> dict[str, bytes]:
    """MLflow looks into what it keeps."""
    rows = Rows.of(training_data.make_rows(200))
    return dict(wiring.trainer().fit(training_data.make_spec(), rows).files) if MLFLOW else {}


def _passed(ledger: Ledger, registry: Registry, number: int) -> str:
    """The request of a new version that passed its gates while there was no champion."""
    asked = make_request_args(
        model=MODEL, cause=Cause.PERSON, dedupe_key=f"run:{number}", run_id=f"run-{number}", detail={"user": "ann"}
    )
    request = ledger.requests.open(**asked)
    run = registry.start_run(MODEL, request.id, {})
    version = registry.register(MODEL, run, _files(), {"evergreen.request": request.id})
    candidate = make_candidate(model=MODEL, version=version, request_id=request.id, mlflow_run=run)
    ledger.models.add_candidate(candidate)
    verdict, passed = make_verdict(request_id=request.id), CandidateState.PASSED
    ledger.models.judge(MODEL, version, verdict=verdict, state=passed, generation_seen=0)
    ledger.requests.mark(request.id, now=NOW, state=RequestState.CLAIMED, step="roll_out")
    return request.id
