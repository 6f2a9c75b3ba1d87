"""The metrics that gates may name, by task: their parameter, their range, and the direction in which each is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Values = TypeVar("Values", float, "npt.NDArray[np.float64]")  # one value, or one of each draw


class Task(StrEnum):
    """What kind of answer a model gives."""

    BINARY = "binary_classification"
    MULTICLASS = "multiclass_classification"
    REGRESSION = "regression"


METRICS_BY_TASK: dict[Task, tuple[str, ...]] = {
    Task.BINARY: ("auc", "logloss", "brier", "average_precision", "accuracy", "calibration_error"),
    Task.MULTICLASS: ("logloss", "accuracy", "brier", "calibration_error"),
    Task.REGRESSION: ("mae", "rmse", "r2", "bias", "quantile_loss"),
}
MEASURED = ("size_mb", "latency_p99_ms", "memory_mb")  # of the bundle and of the rehearsal, for any task

HIGHER_IS_BETTER = frozenset({"auc", "average_precision", "accuracy", "r2"})
NEAREST_ZERO_IS_BEST = frozenset({"bias"})  # mean of (prediction - label)
PARAMETER = {"accuracy": 0.5, "quantile_loss": 0.5}  # threshold on the probability of class 1; quantile

_FRACTION, _LOSS = (0.0, 1.0), (0.0, math.inf)
RANGES = {
    "auc": _FRACTION, "average_precision": _FRACTION, "accuracy": _FRACTION, "calibration_error": _FRACTION,
    "brier": (0.0, 2.0), "logloss": _LOSS, "mae": _LOSS, "rmse": _LOSS, "quantile_loss": _LOSS,
    "r2": (-math.inf, 1.0), "bias": (-math.inf, math.inf),
    "size_mb": _LOSS, "latency_p99_ms": _LOSS, "memory_mb": _LOSS,
}  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """A metric with its parameter: accuracy's threshold, quantile_loss's quantile, none for the others."""

    name: str
    parameter: float | None = None

    @property
    def label(self) -> str:
        """'auc', 'accuracy@0.3'; the default parameter is left out."""
        if self.parameter is None or self.parameter == PARAMETER.get(self.name):
            return self.name
        return f"{self.name}@{self.parameter:g}"

    def improvement(self, candidate: Values, champion: Values) -> Values:
        """How much better the candidate is: positive is better, whatever the metric's direction."""
        if self.name in NEAREST_ZERO_IS_BEST:
            return abs(champion) - abs(candidate)
        return candidate - champion if self.name in HIGHER_IS_BETTER else champion - candidate
