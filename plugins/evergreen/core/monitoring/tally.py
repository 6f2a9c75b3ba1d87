"""Counts and sums of rows, from which every metric of a window follows: one vector, and adding two vectors up merges
what they tell. Rows are read once, windows are sums.

A layout says what lies where in the vector. It follows from the bundle's reference alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring.bins import offsets
from evergreen.core.monitoring.names import ESTIMATES
from evergreen.core.monitoring.reference import Reference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

ROWS, FEATURES, PREDICTIONS, LABELLED, DELAYS = "rows", "features", "predictions", "labelled", "delays"
EXPECTED = "expected"  # by bin of the prediction, the calibrated chances summed up (binary)
POSITIVES = "positives"  # by bin of the prediction, labels 1 among those that are known (binary)
KNOWN = "known"  # by bin of the prediction, labels that are known (binary)
REALISED, ESTIMATED = "realised", "estimated"  # families: realised.<metric>, estimated.<metric>
BY_ORDER = ("auc", "average_precision")  # follow from the bins, and have no sums of their own
DELAY_HOURS = (0.1, 0.5, 1, 2, 4, 8, 12, 24, 36, 48, 72, 96, 168, 336, 720)  # bounds of label delays
TERMS = {"calibration_error": 10, "r2": 3}  # sums of a metric, beside its count of rows and, of one sum, of squares


@dataclass(frozen=True)
class Rows:
    """Answers, one entry a row. `features`: float32 of a number, a bin of a category (index_of). `groups`: which of the
    vectors each row goes into; rows of -1 go nowhere."""

    features: Mapping[str, Floats | Ints]
    prediction: Floats
    groups: Ints


@dataclass(frozen=True)
class Labels:
    """Answers whose label is known. `delay`: hours between the answer and the label; below 0 are clocks that differ."""

    prediction: Floats
    label: Floats
    delay: Floats
    groups: Ints


class Layout:
    """Where each count lies."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._offsets = offsets(reference.features)
        sizes = {ROWS: 1, FEATURES: self._offsets[-1], PREDICTIONS: reference.prediction.size, LABELLED: 1}
        sizes[DELAYS] = len(DELAY_HOURS) + 1
        if reference.task is Task.BINARY:
            sizes |= dict.fromkeys((EXPECTED, KNOWN, POSITIVES), reference.prediction.size)
        for metric in METRICS_BY_TASK[reference.task]:
            if metric not in BY_ORDER:
                sizes[f"{REALISED}.{metric}"] = TERMS.get(metric, 1) + 2
        for metric in ESTIMATES[reference.task]:
            if metric not in BY_ORDER:
                sizes[f"{ESTIMATED}.{metric}"] = 3  # rows, values, and the variance that chance adds
        self._parts: dict[str, slice] = {}
        self.size = 0
        for name, size in sizes.items():
            self._parts[name] = slice(self.size, self.size + size)
            self.size += size

    def part(self, vector: Floats, name: str) -> Floats:
        """A part of a vector, or of rows of vectors. KeyError for a part that this task has not."""
        return vector[..., self._parts[name]]

    def feature(self, vector: Floats, position: int) -> Floats:
        """The counts of one feature, by its place in the reference."""
        start = self._parts[FEATURES].start
        return vector[..., start + self._offsets[position] : start + self._offsets[position + 1]]
