"""The gates of a spec: which combinations can be judged, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.metrics import MEASURED, METRICS_BY_TASK, RANGES, Task
from evergreen.core.spec import ModelSpec
from records import make_spec

LEAST: dict[str, Any] = {
    "binary_classification": {"metric": "auc", "min": 0.6},
    "regression": {"metric": "mae", "max": 9},
}
CHAMPION = {"against": "champion"}


def spec_with(*gates: dict[str, Any], task: str = "binary_classification") -> ModelSpec:
    """A spec with these gates after one that alone would do."""
    gates = (LEAST.get(task, {"metric": "accuracy", "min": 0.5}), *gates)
    return make_spec(task=task, features={"columns": ["x", "carrier"]}, gates=list(gates))


@pytest.mark.parametrize(
    "gate",
    [
        {"metric": "auc", "min": 0.6, "max": 0.9},
        {"metric": "auc", **CHAMPION, "min_delta": -0.01},
        {"metric": "auc", **CHAMPION, "min_point_delta": 0.0, "min_delta": -0.01, "confidence": 0.99},
        {"metric": "auc", "min": 0.6, **CHAMPION, "min_delta": -0.01},
        {"metric": "logloss", **CHAMPION, "max_ratio": 1.05},
        {"metric": "auc", "slice": "carrier", **CHAMPION, "max_drop": 0.03},
        {"metric": "auc", "slice": "carrier", "min": 0.55},
        {"metric": "brier", "slice": "carrier", "max": 0.3, **CHAMPION, "max_drop": 0},
        {"metric": "accuracy", "threshold": 0.3, "min": 0.5},
        {"metric": "latency_p99_ms", "max": 20, **CHAMPION, "max_ratio": 1.5},
        {"metric": "size_mb", "max": 200},
        {"metric": "memory_mb", **CHAMPION, "max_ratio": 2},
    ],
)
def test_what_can_be_judged(gate: dict[str, Any]) -> None:
    assert spec_with(gate).gates[1].metric == gate["metric"]


@pytest.mark.parametrize(
    "gate", [{"metric": "quantile_loss", "quantile": 0.9, "max": 5}, {"metric": "bias", "min": -2, "max": 2}]
)
def test_what_can_be_judged_of_a_regression(gate: dict[str, Any]) -> None:
    assert spec_with(gate, task="regression").gates[1].of.label in ("quantile_loss@0.9", "bias")


WRONG = [
    # gate, key, found, allowed, do
    ({"metric": "auc"}, None, "no limit", "'min', 'max' or both", "Write what"),
    ({"metric": "auc", "confidence": 0.9}, None, "no limit", "'min', 'max' or both", ""),
    ({"metric": "auc", **CHAMPION}, None, "no limit", "min_delta, min_point_delta, max_ratio or max_drop", "Write"),
    ({"metric": "auc", "min": 0.6, **CHAMPION}, "against", "without a limit to it", "min_delta", "Add one of these"),
    ({"metric": "auc", "min_delta": 0}, "min_delta", "without 'against'", "with against: champion", "Add 'against:"),
    ({"metric": "auc", "min_point_delta": 0}, "min_point_delta", "without 'against'", "", ""),
    ({"metric": "logloss", "max_ratio": 1}, "max_ratio", "without 'against'", "", ""),
    ({"metric": "auc", "slice": "carrier", "max_drop": 0}, "max_drop", "without 'against'", "", ""),
    ({"metric": "auc", **CHAMPION, "max_drop": 0.1}, "max_drop", "no 'slice'", "with 'slice'", "Add 'slice'"),
    ({"metric": "auc", "slice": "carrier"}, None, "no limit", "'min', 'max' or both", ""),
    ({"metric": "auc", "slice": "carrier", **CHAMPION, "min_delta": 0}, "min_delta", "with 'slice'", "max_drop", "own"),
    ({"metric": "auc", "slice": "carier", "min": 0.5}, "slice", "'carier'", "x, carrier", "Did you mean 'carrier'?"),
    ({"metric": "auc", "slice": "y", "min": 0.5}, "slice", "'y'", "x, carrier", "Name a column of features.columns."),
    ({"metric": "auc", "threshold": 0.3, "min": 0.5}, "threshold", "of auc", "of accuracy", "Remove it"),
    ({"metric": "logloss", "quantile": 0.3, "max": 1}, "quantile", "of logloss", "of quantile_loss", "Remove it"),
    ({"metric": "size_mb", "min": 1}, "min", "'min' of size_mb", "max, or max_ratio", "how much it may be"),
    ({"metric": "memory_mb", **CHAMPION, "min_delta": 1}, "min_delta", "of memory_mb", "max, or max_ratio", ""),
    ({"metric": "memory_mb", "slice": "carrier", "max": 1}, "slice", "of memory_mb", "max, or max_ratio", ""),
    ({"metric": "auc", **CHAMPION, "max_ratio": 1.1}, "max_ratio", "of auc", "better where it is less", "min_delta"),
    ({"metric": "auc", "min": 60}, None, "min 60", "between 0 and 1", "no candidate could ever pass"),
    ({"metric": "auc", "max": -0.1}, None, "max -0.1", "between 0 and 1", ""),
    ({"metric": "auc", "min": 0.9, "max": 0.6}, None, "min 0.9, max 0.6", "min is below max", ""),
    ({"metric": "size_mb", "max": -1}, None, "max -1", "between 0 and inf", ""),
    ({"metric": "auc", **CHAMPION, "min_delta": 1.5}, "min_delta", "min_delta 1.5", "at most 1", "ever pass"),
    ({"metric": "mae", "max": 9}, "metric", "'mae'", "(for binary_classification)", "a metric that this task has"),
    ({"metric": "acu", "min": 0.6}, "metric", "'acu'", "auc", "Did you mean 'auc'?"),
    ({"metric": "latency_p99", "max": 9}, "metric", "'latency_p99'", "latency_p99_ms", "Did you mean"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "key", "found", "allowed", "do"), WRONG)
def test_what_cannot_be_judged_is_told(
    gate: dict[str, Any], key: str | None, found: str, allowed: str, do: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_with(gate)
    problems = caught.value.errors()
    assert len(problems) == 1, problems
    assert problems[0]["loc"] == (("gates", 1, key) if key else ("gates", 1))
    facts = problems[0]["ctx"]
    assert found in facts["found"]
    assert allowed in facts["allowed"]
    assert do in facts["do"]


@pytest.mark.parametrize("task", ["multiclass_classification", "regression"])
def test_a_threshold_is_for_two_classes(task: str) -> None:
    metric = "accuracy" if task.startswith("multi") else "mae"
    with pytest.raises(ValidationError, match="threshold"):
        spec_with({"metric": metric, "threshold": 0.3, "max": 0.9}, task=task)


def test_a_bias_has_no_ratio() -> None:
    with pytest.raises(ValidationError, match="max_ratio' of bias"):
        spec_with({"metric": "bias", **CHAMPION, "max_ratio": 1.1}, task="regression")


@pytest.mark.parametrize(
    "gates",
    [
        [{"metric": "auc", **CHAMPION, "min_delta": -0.01}],
        [{"metric": "auc", "slice": "carrier", "min": 0.5}],
        [{"metric": "latency_p99_ms", "max": 20}],
    ],
)
def test_gates_that_could_not_judge_a_first_model_are_refused(gates: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError) as caught:
        make_spec(features={"columns": ["x", "carrier"]}, gates=gates)
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("gates",)
    assert problem["ctx"] == {
        "found": "no gate with min or max on all rows",
        "allowed": "at least one, on auc, logloss, brier, average_precision, accuracy or calibration_error",
        "do": "Add one: without a champion it alone decides.",
    }


def test_every_problem_of_a_gate_is_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        spec_with({"metric": "auc", "threshold": 0.3, "min_delta": 0, "max_drop": 0.1})
    assert [problem["loc"][-1] for problem in caught.value.errors()] == [
        "min_delta",
        "max_drop",
        "max_drop",
        "threshold",
    ]


def test_every_metric_has_a_range() -> None:
    named = {name for task in Task for name in METRICS_BY_TASK[task]} | set(MEASURED)
    assert named == set(RANGES)
