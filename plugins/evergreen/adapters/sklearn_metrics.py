"""Every metric of a task (core.metrics), by scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn import metrics as skl

from evergreen.core.metrics import Task

MISSING = float("nan")
CALIBRATION_BINS = 10


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
        "calibration_error": _calibration_error(truth, chance),
    }


def _multiclass(truth: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    classes = chances.shape[1]
    known = truth.max() < classes  # a class that training never saw has no probability
    chances = chances / chances.sum(axis=1, keepdims=True)
    return {
        "logloss": skl.log_loss(truth, chances, labels=range(classes)) if known else MISSING,
        "accuracy": skl.accuracy_score(truth, chances.argmax(axis=1)),
        "brier": skl.brier_score_loss(truth, chances, labels=range(classes), scale_by_half=False) if known else MISSING,
        "calibration_error": _calibration_error(truth == chances.argmax(axis=1), chances.max(axis=1)),
    }


def _regression(truth: np.ndarray, numbers: np.ndarray) -> dict[str, float]:
    return {
        "mae": skl.mean_absolute_error(truth, numbers),
        "rmse": skl.root_mean_squared_error(truth, numbers),
        "r2": skl.r2_score(truth, numbers) if len(np.unique(truth)) > 1 else MISSING,
        "bias": np.mean(numbers - truth),
        "quantile_loss": skl.mean_pinball_loss(truth, numbers, alpha=0.5),
    }


def _calibration_error(happened: np.ndarray, chance: np.ndarray) -> float:
    """How far the chance is from how often it happened: the mean over ten bins of equal width, by their rows.

    For several classes: of the class that is named. scikit-learn draws such a curve and gives no number of it.
    """
    bins = np.digitize(chance, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
    apart = [abs(happened[bins == at].mean() - chance[bins == at].mean()) for at in np.unique(bins)]
    return float(np.average(apart, weights=np.unique(bins, return_counts=True)[1]))
