"""How good the answers are, in more than one number: ROC, precision and recall, calibration, confusion, residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen.core.measure import CALIBRATION_BINS

if TYPE_CHECKING:
    import numpy as np

    from evergreen.core.scored import Scored

MOST_POINTS = 100
MOST_CLASSES = 15
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HISTOGRAM_BINS, DECILES = 30, 10

Made = TypeVar("Made")


def _both(scored: Scored, make: Callable[[np.ndarray, np.ndarray], Made]) -> dict[str, Made | None]:
    """The same of both models; none for a champion that there is not."""
    return {
        "candidate": make(scored.label, scored.candidate),
        "champion": None if scored.champion is None else make(scored.label, scored.champion),
    }


# ---------------------------------------------------------------- binary


def curves(scored: Scored) -> dict[str, Any] | None:
    """{roc: points [false positive rate, true positive rate], precision_recall: points [recall, precision]} of both.

    At most 100 points each, at ranks spread evenly over the rows; rows of one score are never parted. None where
    there is no row, or one class only. `rate` is the share of class 1: the precision of saying 1 to all.
    """
    positives = float((scored.label == 1).mean()) if scored.rows else 0.0
    if not 0 < positives < 1:
        return None
    return {"rate": positives, "roc": _both(scored, roc), "precision_recall": _both(scored, precision_recall)}


def roc(label: np.ndarray, prediction: np.ndarray) -> list[list[float]]:
    """From (0, 0) to (1, 1)."""
    hits, rows = _ranked(label, prediction)
    false = rows - hits
    points = zip((false / false[-1]).tolist(), (hits / hits[-1]).tolist(), strict=True)
    return [[0.0, 0.0], *(list(point) for point in points)]


def precision_recall(label: np.ndarray, prediction: np.ndarray) -> list[list[float]]:
    """From the highest scores to all rows."""
    hits, rows = _ranked(label, prediction)
    return [list(point) for point in zip((hits / hits[-1]).tolist(), (hits / rows).tolist(), strict=True)]


def _ranked(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of class 1 and all rows, among those from the highest score down to each of the chosen thresholds."""
    import numpy as np

    order = np.argsort(-prediction, kind="stable")
    scores, hits = prediction[order], (label[order] == 1).cumsum().astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # where a score's last row stands
    wanted = np.linspace(0, len(scores) - 1, MOST_POINTS - 1)
    chosen = np.unique(last[np.searchsorted(last, wanted)])
    return hits[chosen], chosen + 1.0


# ---------------------------------------------------------------- calibration


def calibration(scored: Scored) -> dict[str, Any]:
    """Of both: [{mean, observed, rows}] by ten bins of equal width on the chance, those with rows.

    Multiclass: the chance of the class that is named, and how often it was right. The bins are those of the metric
    calibration_error.
    """
    return _both(scored, _calibration)


def _calibration(label: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
    import numpy as np

    chance, right = prediction, label
    if prediction.ndim == 2:
        chance = prediction.max(axis=1) / prediction.sum(axis=1)
        right = prediction.argmax(axis=1) == label
    own = np.clip((chance * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    rows, chances, rights = (np.bincount(own, w, CALIBRATION_BINS) for w in (None, chance, right))
    return [
        {"mean": chances[at] / rows[at], "observed": rights[at] / rows[at], "rows": int(rows[at])}
        for at in np.flatnonzero(rows)
    ]


# ---------------------------------------------------------------- multiclass


def confusion(scored: Scored) -> dict[str, Any]:
    """{classes, candidate, champion: [[rows said, by class], by true class]}; beyond 15 classes the last is 'other'."""
    import numpy as np

    classes = int(max(scored.label.max(), scored.candidate.shape[1] - 1)) + 1 if scored.rows else 0
    shown = np.argsort(-np.bincount(scored.label.astype(np.int64), minlength=classes), kind="stable")[:MOST_CLASSES]
    shown.sort()
    place = np.full(classes, len(shown))
    place[shown] = np.arange(len(shown))
    size = len(shown) + (classes > len(shown))

    def table(label: np.ndarray, prediction: np.ndarray) -> list[list[int]]:
        cells = place[label.astype(np.int64)] * size + place[prediction.argmax(axis=1)]
        return [[int(n) for n in row] for row in np.bincount(cells, minlength=size * size).reshape(size, size)]

    names = [str(name) for name in shown] + ["other"] * (classes > len(shown))
    return {"classes": names, **_both(scored, table)}


# ---------------------------------------------------------------- regression


def residuals(scored: Scored) -> dict[str, Any]:
    """{quantiles: [0.05 …], deciles, histogram}. A residual is prediction - label, as in the metric bias.

    deciles, of both: [{rows, predicted, actual, residuals: one for each quantile}] by the model's own prediction.
    histogram: {edges, candidate, champion: rows a bin} from the 1st to the 99th percentile; the end bins hold the rest.
    """
    return {
        "quantiles": list(QUANTILES),
        "deciles": _both(scored, _deciles),
        "histogram": _histogram(scored),
    }


def _deciles(label: np.ndarray, prediction: np.ndarray) -> list[dict[str, Any]]:
    import numpy as np

    order = np.argsort(prediction, kind="stable")
    return [
        {
            "rows": len(rows),
            "predicted": float(prediction[rows].mean()),
            "actual": float(label[rows].mean()),
            "residuals": np.quantile(prediction[rows] - label[rows], QUANTILES).tolist(),
        }
        for rows in np.array_split(order, DECILES)
        if len(rows)
    ]


def _histogram(scored: Scored) -> dict[str, Any]:
    import numpy as np

    answers = [scored.candidate] if scored.champion is None else [scored.candidate, scored.champion]
    low, high = np.quantile(np.concatenate([answer - scored.label for answer in answers]), [0.01, 0.99])
    edges = np.linspace(low, max(high, np.nextafter(low, np.inf)), HISTOGRAM_BINS + 1)

    def counts(label: np.ndarray, prediction: np.ndarray) -> list[int]:
        inside = np.clip(prediction - label, edges[0], edges[-1])
        return [int(n) for n in np.histogram(inside, edges)[0]]

    return {"edges": edges.tolist(), **_both(scored, counts)}
