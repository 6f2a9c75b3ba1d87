"""Every metric of a task (core.metrics), by scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn import metrics as skl

from evergreen.core.metrics import Task

MISSING = float("nan")


def measure(task: Task, truth: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """All metrics of the task; NaN for one that these rows cannot give (auc of one class).

    Predictions are probabilities of class 1, a row of probabilities for each class, or numbers.
    """
    predictions = predictions.astype(np.float64)
    found = {Task.BINARY: _binary, Task.MULTICLASS: _multiclass, Task.REGRESSION: _regression}[task](truth, predictions)
    return {name: float(value) for name, value in found.items()}


def _binary(truth: np.ndarray, chance: np.ndarray) -> dict[str, float]:
    both = len(np.unique(truth)) == 2
    return {
        "auc": skl.roc_auc_score(truth, chance) if both else MISSING,
        "logloss": skl.log_loss(truth, chance, labels=[0, 1]),
        "brier": skl.brier_score_loss(truth, chance, pos_label=1),
        "average_precision": skl.average_precision_score(truth, chance) if both else MISSING,
        "accuracy": skl.accuracy_score(truth, chance >= 0.5),
    }


def _multiclass(truth: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    classes = chances.shape[1]
    known = truth.max() < classes  # a class that training never saw has no probability
    chances = chances / chances.sum(axis=1, keepdims=True)
    return {
        "logloss": skl.log_loss(truth, chances, labels=range(classes)) if known else MISSING,
        "accuracy": skl.accuracy_score(truth, chances.argmax(axis=1)),
    }


def _regression(truth: np.ndarray, numbers: np.ndarray) -> dict[str, float]:
    return {
        "mae": skl.mean_absolute_error(truth, numbers),
        "rmse": skl.root_mean_squared_error(truth, numbers),
        "r2": skl.r2_score(truth, numbers) if len(truth) > 1 else MISSING,
    }
