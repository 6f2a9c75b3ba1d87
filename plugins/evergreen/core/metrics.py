"""The metrics that gates may name, by task, and the direction in which each is better."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """What kind of answer a model gives."""

    BINARY = "binary_classification"
    MULTICLASS = "multiclass_classification"
    REGRESSION = "regression"


METRICS_BY_TASK: dict[Task, tuple[str, ...]] = {
    Task.BINARY: ("auc", "logloss", "brier", "average_precision", "accuracy"),
    Task.MULTICLASS: ("logloss", "accuracy"),
    Task.REGRESSION: ("mae", "rmse", "r2"),
}

HIGHER_IS_BETTER = frozenset({"auc", "average_precision", "accuracy", "r2"})
