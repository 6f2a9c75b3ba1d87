"""The evidence on a candidate: everything that the approval and its page show, as one structure that JSON can hold.

Sections that a task or a judgement does not have are none. Numbers that are not finite are none too. A champion's
part of each section is none where there is no champion, or where it could not be scored on these rows. Both lie in
the store, under `evidence/<model>/<version>/`: evidence.json and its charts, replaced at each judgement.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypedDict, cast

from evergreen.core import evidence_curves, evidence_rows, evidence_shifts, evidence_values, verdict_json
from evergreen.core.metrics import HIGHER_IS_BETTER, METRICS_BY_TASK, NEAREST_ZERO_IS_BEST, Metric, Task
from evergreen.core.refitting import refit_of
from evergreen.core.sampling import Looked, looked_at
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.judgement import Judgement
    from evergreen.core.spec import ModelSpec

EVIDENCE = "evidence.json"
FORMAT = 1
MOST_PARAMS = 40


class Evidence(TypedDict):
    """One candidate's evidence. The inner shapes stand beside the functions that make them."""

    format: int
    model: str
    version: int
    task: str
    owner: str
    request_id: str
    changed: dict[str, Any]  # what was fitted on and judged on, by which spec, against which champion
    verdict: dict[str, Any]  # as core.verdict_json writes it
    metric: dict[str, Any]  # the primary metric: name, which direction is better, and its absolute min and max
    by_period: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    curves: dict[str, Any] | None  # binary
    calibration: dict[str, Any] | None  # binary and multiclass
    confusion: dict[str, Any] | None  # multiclass
    residuals: dict[str, Any] | None  # regression
    shifts: dict[str, Any]
    disagreements: dict[str, Any] | None
    charts: list[str]  # names of the pictures beside it, filled in when they are stored


def key(model: str, version: int, name: str = EVIDENCE) -> str:
    """Where a file of the evidence lies in the store."""
    return f"evidence/{model}/{version}/{name}"


def evidence_of(judgement: Judgement) -> Evidence:
    """The evidence of a judgement. At most 200,000 rows are looked at, and the JSON stays under 300 kB."""
    spec, candidate = judgement.spec, judgement.candidate
    rows = looked_at(judgement.scored, judgement.fresh)
    scored = rows.scored
    metric = primary_metric(spec)
    made: dict[str, Any] = {
        "format": FORMAT,
        "model": spec.name,
        "version": candidate.version,
        "task": str(spec.task),
        "owner": spec.owner,
        "request_id": candidate.request_id,
        "changed": _changed(judgement, rows),
        "metric": {"name": metric.label, "better": _better(metric), **_limits(spec, metric)},
        "by_period": evidence_values.by_period(metric, scored),
        "slices": evidence_values.slices(spec, metric, rows),
        "curves": evidence_curves.curves(scored) if spec.task is Task.BINARY else None,
        "calibration": evidence_curves.calibration(scored) if spec.task is not Task.REGRESSION else None,
        "confusion": evidence_curves.confusion(scored) if spec.task is Task.MULTICLASS else None,
        "residuals": evidence_curves.residuals(scored) if spec.task is Task.REGRESSION and scored.rows else None,
        "shifts": evidence_shifts.shifts(spec, judgement.fitted, judgement.fresh),
        "disagreements": evidence_rows.disagreements(spec, rows),
        "charts": [],
    }
    exact = verdict_json.to_json(judgement.verdict)  # not rounded: a value just short of its limit must not reach it
    return cast(Evidence, {**finite(made), "verdict": exact})


def as_json(evidence: Evidence) -> bytes:
    """The bytes of evidence.json; the same evidence gives the same bytes."""
    return json.dumps(evidence, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def primary_metric(spec: ModelSpec) -> Metric:
    """The metric of the first gate that judges the task; a spec always has one."""
    return next(gate.of for gate in spec.gates if gate.metric in METRICS_BY_TASK[spec.task])


def finite(value: Any) -> Any:
    """The same structure with NaN and infinity as none, and floats rounded to six significant digits."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _better(metric: Metric) -> str:
    if metric.name in NEAREST_ZERO_IS_BEST:
        return "nearest to zero"
    return "higher" if metric.name in HIGHER_IS_BETTER else "lower"


def _limits(spec: ModelSpec, metric: Metric) -> dict[str, float | None]:
    """The strictest absolute limits of the primary metric, none where no gate has one."""
    gates = [gate for gate in spec.gates if gate.of == metric and not gate.slice]
    return {
        "min": max((gate.min for gate in gates if gate.min is not None), default=None),
        "max": min((gate.max for gate in gates if gate.max is not None), default=None),
    }


def _changed(judgement: Judgement, looked: Looked) -> dict[str, Any]:
    """Which rows, which spec, which champion."""
    spec, candidate, champion = judgement.spec, judgement.candidate, judgement.champion
    return {
        "fitted": _span(judgement.fitted, spec.source.event_time),
        "fresh": _span(judgement.fresh, spec.source.event_time),
        "looked_at": looked.scored.rows,
        "rounds": int(candidate.metrics["rounds"]) if "rounds" in candidate.metrics else None,
        "candidate": {
            "data_end": candidate.data_end.isoformat(),
            "snapshot": candidate.snapshot_id,
            "train_key": candidate.train_key,
            "bundle": candidate.bundle,
            "mlflow_run": candidate.mlflow_run,
            "refit_of": refit_of(candidate),
        },
        "champion": champion
        and {
            "version": champion.version,
            "data_end": champion.data_end.isoformat(),
            "bundle": champion.bundle,
            "compared": judgement.scored.champion is not None,
        },
        "spec": _spec_facts(spec),
    }


def _span(frame: pl.DataFrame, event_time: str) -> dict[str, Any]:
    times = frame[event_time]
    if not frame.height:
        return {"rows": 0, "from": None, "until": None}
    return {"rows": frame.height, "from": times.min().isoformat(), "until": times.max().isoformat()}  # type: ignore[union-attr]


def _spec_facts(spec: ModelSpec) -> dict[str, Any]:
    """What a reader compares with what they know of the model."""
    params = dict(list(spec.training.params.items())[:MOST_PARAMS])
    return {
        "label": spec.label.column,
        "label arrives after": format_duration(spec.label.arrives_after),
        "features": f"{len(spec.features.columns)}, of which {len(spec.features.categorical)} categorical",
        "window": f"train {spec.window.words}, holdout {format_duration(spec.window.holdout.length)}",
        "rounds": f"at most {spec.training.rounds.max}, "
        f"stopped after {spec.training.rounds.early_stopping} without progress",
        "parameters": ", ".join(f"{name} {value}" for name, value in params.items()) or "XGBoost's own",
    }
