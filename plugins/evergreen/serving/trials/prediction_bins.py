"""The bins in which a guard counts predictions: of a class each, or of the deciles of the champion's golden ones.

They rest on the champion's bundle alone, so that all workers of all replicas have the same and their counts add up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from evergreen.core.records import PREDICTION_BINS

_EDGES = PREDICTION_BINS - 1
_AROUND = (0.001, 0.01, 0.1, 1.0)  # of one golden value: how far from it edges lie


class PredictionBins:
    """Counts rows by their prediction. `golden` are the champion's: numbers, or one list a row of multiclass."""

    def __init__(self, golden: Sequence[Any]) -> None:
        self.edges = [] if golden and isinstance(golden[0], list) else edges(golden)

    def count(self, predictions: np.ndarray, cells: memoryview, first: int) -> None:
        """Add rows to the PREDICTION_BINS cells from `first` on. `predictions` is (rows,) or (rows, classes)."""
        if predictions.ndim == 1 and len(predictions) == 1:  # the hot path
            cells[first + bisect_left(self.edges, float(predictions[0]))] += 1
            return
        for position, rows in enumerate(np.bincount(self._bins(predictions), minlength=PREDICTION_BINS).tolist()):
            if rows:
                cells[first + position] += rows

    def _bins(self, predictions: np.ndarray) -> np.ndarray:
        found: np.ndarray
        if predictions.ndim == 2:  # the likeliest class; rare ones beyond the bins share the last
            found = np.minimum(predictions.argmax(axis=1), _EDGES)
        else:
            found = np.searchsorted(self.edges, predictions, side="left")
        return found


def edges(golden: Sequence[float]) -> list[float]:
    """At most 9 edges, between golden values and on none: rounding must not move a frequent value across one.

    Of few distinct values the deciles fall together; then the widest gaps are halved, so that predictions that golden
    rows lack are told apart too. Of one value: both sides of it, at distances that tell any spread from a constant.
    """
    values, counts = np.unique(np.asarray(golden, dtype=np.float64), return_counts=True)
    if len(values) < 2:
        centre = float(values[0]) if len(values) else 0.0
        away = [part * max(abs(centre), 1.0) for part in _AROUND]
        return sorted([centre - far for far in away] + [centre + far for far in away])
    below = np.cumsum(counts) / counts.sum()
    at = {int(np.searchsorted(below, share)) for share in np.arange(1, PREDICTION_BINS) / PREDICTION_BINS}
    found = sorted(float(values[i] + values[i + 1]) / 2 for i in at if i + 1 < len(values))
    return _filled(found, values.tolist())


def _filled(found: list[float], values: list[float]) -> list[float]:
    while len(found) < _EDGES:
        low, high = max(pairwise(sorted([*found, *values])), key=lambda gap: gap[1] - gap[0])
        if not low < (low + high) / 2 < high:
            break  # as near as numbers can be
        found = sorted([*found, (low + high) / 2])
    return found
