"""Records with sensible defaults, for any test: `make_candidate(version=2)`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from evergreen.core.records import Candidate, CandidateState, Cause, GateResult, GateState, Part, Snapshot, Verdict
from evergreen.core.spec import ModelSpec

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
WATERMARK = datetime(2013, 3, 1, 23, tzinfo=UTC)
AS_OF = datetime(2013, 2, 28, 23, tzinfo=UTC)


def make_spec(**changes: Any) -> ModelSpec:
    """A small binary classifier's spec; whole top-level keys are replaced."""
    defaults = {
        "name": "m",
        "owner": "ops@example.com",
        "task": "binary_classification",
        "source": {"connection": "warehouse", "table": "rows", "event_time": "at", "key": "id"},
        "label": {"column": "y", "arrives_after": "1d"},
        "features": {"columns": ["x"]},
        "window": {"train": "60d", "holdout": {"length": "7d", "min_rows": 10}},
        "triggers": [{"new_data": {"min_rows": 5}}],
        "validation": {"suite": "m"},
        "gates": [{"metric": "auc", "min": 0.6}],
    }
    return ModelSpec.model_validate({**defaults, **changes})


def make_request_args(**changes: Any) -> dict[str, Any]:
    """Arguments of TriggerRequests.open."""
    defaults = {
        "model": "m",
        "source": "warehouse/rows/at",
        "cause": Cause.NEW_DATA,
        "dedupe_key": f"new_data:{WATERMARK.isoformat()}",
        "run_id": "run-1",
        "watermark": WATERMARK,
        "as_of": AS_OF,
        "detail": {},
        "now": NOW,
    }
    return {**defaults, **changes}


def make_snapshot(model: str = "m", id: str = "snap-1", **changes: Any) -> Snapshot:
    """Two days of data."""
    made = Snapshot(
        id=id,
        model=model,
        start=datetime(2013, 2, 27, tzinfo=UTC),
        as_of=AS_OF,
        rows=30,
        unlabelled=1,
        quarantined=0,
        schema_hash="schema-1",
        parts=tuple(
            Part(day=date(2013, 2, day), key=f"snapshots/{model}/{day}.parquet", rows=15, sha256=f"part-{day}")
            for day in (27, 28)
        ),
    )
    return replace(made, **changes)


def make_verdict(*, passed: bool = True, **changes: Any) -> Verdict:
    """A verdict on one gate."""
    state = GateState.PASSED if passed else GateState.FAILED
    gate = GateResult(metric="auc", limit="≥ 0.6", state=state, candidate=0.7 if passed else 0.5, rows=2000)
    made = Verdict(
        judged=True, passed=passed, rows=2000, gates=(gate,), reason="1 of 1 gates passed" if passed else "auc"
    )
    return replace(made, **changes)


def make_candidate(model: str = "m", version: int = 1, **changes: Any) -> Candidate:
    """A trained candidate. Each version has its own train key and bundle."""
    made = Candidate(
        model=model,
        version=version,
        request_id=f"request-{version}",
        train_key=f"{model}-key-{version}",
        snapshot_id="snap-1",
        data_end=datetime(2013, 2, 26, tzinfo=UTC),
        bundle=f"{version:064x}",
        mlflow_run=f"mlflow-{version}",
        metrics={"auc": 0.7},
        state=CandidateState.TRAINED,
        verdict=None,
        generation_seen=0,
        created_at=NOW,
    )
    return replace(made, **changes)
