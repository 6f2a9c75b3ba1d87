"""judge: the verdict on a candidate, on rows that it has never seen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused
from evergreen.core.gates import judge_gates
from evergreen.core.records import Candidate, CandidateState, Snapshot, Verdict
from evergreen.core.version_note import version_note
from evergreen.core.window import parts_between, window

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, Trainer
    from evergreen.core.spec import ModelSpec

_FINAL = (CandidateState.REJECTED, CandidateState.RELEASED)


def judge(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    trainer: Trainer,
    registry: Registry,
    store: Store,
    *,
    request_id: str,
    version: int,
) -> Candidate:
    """The candidate with its verdict, as passed, rejected or not_judged (which blocks no train key).

    Judged once for a request. A candidate that passed for another request is judged again, against the champion of
    now. Raises BundleRefused if the stored bundle is not what was registered.
    """
    candidate = ledger.models.candidate(spec.name, version)
    own = candidate.request_id == request_id
    if candidate.state in _FINAL or (own and candidate.state is CandidateState.PASSED):
        return candidate
    files = bundle.gather(candidate.bundle, lambda name: _get(store, candidate.bundle, name))
    generation = ledger.releases.champion(spec.name).generation
    snapshot = ledger.models.snapshot(spec.name, candidate.snapshot_id)
    bounds = window(spec, ledger.requests.get(request_id).as_of or snapshot.as_of)
    rows = _fresh_rows(
        spec, snapshots, snapshot, after=max(candidate.data_end, bounds.holdout_start), until=bounds.as_of
    )
    enough = rows.height >= spec.window.holdout.min_rows
    metrics = trainer.score(spec, files, rows) if enough else {}
    verdict = judge_gates(spec, metrics, rows.height)
    state = _state(verdict)
    run = _record(registry, candidate, request_id, verdict, metrics, generation)
    registry.describe(candidate.mlflow_run, version_note(spec, candidate, bounds, verdict))
    if state is not CandidateState.PASSED:  # nothing comes after
        registry.end_run(run)
    return ledger.models.judge(spec.name, version, verdict=verdict, state=state, generation_seen=generation)


def _get(store: Store, sealed: str, name: str) -> bytes:
    try:
        return store.get(bundle.key(sealed, name))
    except KeyError as error:
        raise BundleRefused(
            f"bundle {sealed[:12]}, {name}",
            found="no such file in the store",
            allowed="every file of a registered bundle",
            do="Restore it from the version's artifacts in MLflow (bundle/), or retrain on newer data.",
        ) from error


def _fresh_rows(
    spec: ModelSpec, snapshots: Snapshots, snapshot: Snapshot, *, after: datetime, until: datetime
) -> pl.DataFrame:
    """Labelled rows with `after < event_time <= until`."""
    import polars as pl

    event_time, label = pl.col(spec.source.event_time), pl.col(spec.label.column)
    frame = snapshots.read(parts_between(snapshot.parts, after, until) or snapshot.parts[:1], spec.columns)
    return frame.filter((event_time > after) & (event_time <= until) & label.is_not_null())


def _state(verdict: Verdict) -> CandidateState:
    if not verdict.judged:
        return CandidateState.NOT_JUDGED
    return CandidateState.PASSED if verdict.passed else CandidateState.REJECTED


def _record(
    registry: Registry,
    candidate: Candidate,
    request_id: str,
    verdict: Verdict,
    metrics: Mapping[str, float],
    generation: int,
) -> str:
    """Metrics, tags and the whole verdict, in the request's run."""
    known = {name: value for name, value in metrics.items() if math.isfinite(value)}
    run = registry.start_run(candidate.model, request_id, {"evergreen.request": request_id})
    registry.log(
        run,
        metrics={"holdout.rows": verdict.rows, **{f"holdout.{name}": value for name, value in known.items()}},
        tags={"evergreen.verdict": str(_state(verdict)), "evergreen.verdict_reason": verdict.reason},
    )
    whole = {
        "model": candidate.model,
        "version": candidate.version,
        "bundle": candidate.bundle,
        "generation_seen": generation,
        "verdict": asdict(verdict),
        "metrics": known,
    }
    registry.log_file(run, "judge/verdict.json", json.dumps(whole, indent=2, ensure_ascii=False).encode())
    return run
