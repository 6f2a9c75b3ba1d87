"""Every metric of core.metrics, on rows: the label of each row and what a model said of it. Pure numpy.

Most metrics are a function of sums over rows (`columns`, `of_sums`), which core.resample draws again by the block;
auc and average_precision need the order of all rows (`auc`, `average_precision`). Labels have shape (rows,),
predictions (rows,), or (rows, classes) for multiclass. scikit-learn is the oracle in the tests.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core.metrics import METRICS_BY_TASK, PARAMETER, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evergreen.core.metrics import Task

    Array: TypeAlias = npt.NDArray[np.float64]

CALIBRATION_BINS = 10  # of equal width on the chance, as a calibration curve is drawn


def all_values(task: Task, label: Array, prediction: Array) -> dict[str, float]:
    """Every metric of the task, with its default parameter; NaN for one that these rows do not give."""
    return {name: value(Metric(name), label, prediction) for name in METRICS_BY_TASK[task]}


def value(metric: Metric, label: Array, prediction: Array) -> float:
    """The metric on these rows.

    NaN where they do not give it: no row, one class (auc, average_precision), one label (r2), a class that
    training never saw (logloss, brier), or a prediction that is no finite number.
    """
    if not is_given(label, prediction):
        return math.nan
    if metric.name == "auc":
        return auc(label, prediction)
    if metric.name == "average_precision":
        return average_precision(label, prediction)
    return float(of_sums(metric, columns(metric, label, prediction).sum(axis=1)))


def is_given(label: Array, prediction: Array) -> bool:
    """Whether there is a row, and every label and prediction is a finite number."""
    import numpy as np

    return len(label) > 0 and bool(np.isfinite(label).all() and np.isfinite(prediction).all())


# ---------------------------------------------------------------- functions of sums over rows


def columns(metric: Metric, label: Array, prediction: Array) -> Array:
    """What each row adds to the metric: shape (terms, rows), ones first. `of_sums` makes the metric of their sums."""
    import numpy as np

    label, prediction = label.astype(np.float64), prediction.astype(np.float64)
    terms = _classes(metric, label, prediction) if prediction.ndim == 2 else _terms(metric, label, prediction)
    return np.vstack([np.ones(len(label)), terms])


def of_sums(metric: Metric, sums: Array) -> Array:
    """The metric of summed columns: shape (terms, …) in, (…) out; NaN where it is not given."""
    import numpy as np

    rows: Array = sums[0]
    first: Array = sums[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric.name == "rmse":
            return np.sqrt(first / rows)
        if metric.name == "calibration_error":
            off: Array = np.abs(sums[1:]).sum(axis=0)
            return off / rows
        if metric.name == "r2":
            spread: Array = sums[3] - sums[2] ** 2 / rows
            return np.where(spread > sums[3] * 1e-12, 1 - first / spread, np.nan)
        return first / rows


def _terms(metric: Metric, label: Array, prediction: Array) -> Array:
    import numpy as np

    off = prediction - label
    match metric.name:
        case "logloss":
            return _surprise(np.where(label == 1, prediction, 1 - prediction))
        case "accuracy":
            right: Array = ((prediction >= _parameter(metric)) == (label == 1)).astype(np.float64)
            return right
        case "calibration_error":
            return _by_bin(prediction, off)
        case "mae":
            return np.abs(off)
        case "bias":
            return off
        case "quantile_loss":
            quantile = _parameter(metric)
            return np.maximum(-quantile * off, (1 - quantile) * off)
        case "r2":  # centred, so that the squares do not swallow the spread
            centred = label - label.mean()
            return np.vstack([off**2, centred, centred**2])
        case _:  # brier, rmse
            return off**2


def _classes(metric: Metric, label: Array, chances: Array) -> Array:
    import numpy as np

    truth = label.astype(np.int64)
    chances = chances / chances.sum(axis=1, keepdims=True)
    seen = truth < chances.shape[1]
    own = np.where(seen, np.take_along_axis(chances, np.where(seen, truth, 0)[:, None], axis=1)[:, 0], np.nan)
    right: Array = (chances.argmax(axis=1) == truth).astype(np.float64)
    match metric.name:
        case "logloss":
            return _surprise(own)
        case "brier":  # over all classes: 0 to 2
            squares: Array = (chances**2).sum(axis=1) - 2 * own + 1
            return squares
        case "calibration_error":  # of the class that is named
            top = chances.max(axis=1)
            return _by_bin(top, top - right)
        case _:
            return right


def _by_bin(chance: Array, off: Array) -> Array:
    import numpy as np

    own = np.clip((chance * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    return np.where(own == np.arange(CALIBRATION_BINS)[:, None], off, 0.0)


def _surprise(chance: Array) -> Array:
    import numpy as np

    edge = np.finfo(np.float64).eps
    loss: Array = -np.log(np.clip(chance, edge, 1 - edge))
    return loss


def _parameter(metric: Metric) -> float:
    return PARAMETER[metric.name] if metric.parameter is None else metric.parameter


# ---------------------------------------------------------------- metrics of the order of all rows


def auc(label: Array, prediction: Array) -> float:
    """How often a row of class 1 is above one of class 0, ties counting half; NaN for one class."""
    import numpy as np

    above, below = prediction[label == 1], np.sort(prediction[label != 1])
    if not (len(above) and len(below)):
        return math.nan
    above = np.sort(above)
    wins = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(wins.sum() / 2 / (len(above) * len(below)))


def average_precision(label: Array, prediction: Array) -> float:
    """Precision averaged over the steps of recall, without interpolation; NaN for one class."""
    import numpy as np

    order = np.argsort(-prediction, kind="stable")
    hits, scores = (label[order] == 1).astype(np.float64), prediction[order]
    if not 0 < hits.sum() < len(hits):
        return math.nan
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # rows of one score count together
    found = hits.cumsum()[last]
    return float((np.diff(found, prepend=0.0) * found / (last + 1)).sum() / hits.sum())
