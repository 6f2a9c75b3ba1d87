"""The quality of answers whose label is known, from a tally. scikit-learn is the oracle in the tests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evergreen.core import measure
from evergreen.core.metrics import Metric, Task
from evergreen.core.monitoring import quality
from evergreen.core.monitoring.quality import Quality
from evergreen.core.monitoring.tally import KNOWN, POSITIVES, REALISED, Layout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def realised(layout: Layout, vector: Floats) -> dict[str, Quality]:
    """By metric; those that these rows do not give are left out: no row, one class, one label."""
    found = [_of_sums(name, layout.part(vector, f"{REALISED}.{name}")) for name in layout.realised]
    if layout.reference.task is Task.BINARY:
        ones = layout.part(vector, POSITIVES)[:-1]
        zeros = layout.part(vector, KNOWN)[:-1] - ones
        found += [quality.auc(ones, zeros), quality.average_precision(ones, zeros)]
    return {one.metric: one for one in found if one is not None and math.isfinite(one.value)}


def _of_sums(name: str, sums: Floats) -> Quality | None:
    rows = float(sums[0])
    if rows < 0.5:  # what is left of sums after labels were taken out is no row
        return None
    if name == "r2":
        return Quality(
            name, float(measure.of_sums(Metric(name), sums)), _error_of_r2(*(sums / rows)[1:], rows), int(rows)
        )
    if name == "rmse":
        return quality.root(quality.of_mean(name, rows, float(sums[1]), float(sums[2])), name)
    if name == "calibration_error":  # the bins' signs do not change by chance where each has many rows
        return quality.of_mean(name, rows, float(abs(sums[1:-1]).sum()), float(sums[-1]))
    return quality.of_mean(name, rows, float(sums[1]), float(sums[2]))


def _error_of_r2(*means_and_rows: float) -> float:
    """By the delta method: 1 - mean(e²)/var(c) changes with a row by (e² - share * (c - mean)²) / var(c)."""
    e2, c, c2, e4, e2c, e2c2, c3, c4, rows = map(float, means_and_rows)
    spread = c2 - c**2
    if spread <= c2 * 1e-12:
        return 0.0
    share = e2 / spread
    cross = e2c2 - 2 * c * e2c + c**2 * e2
    fourth = c4 - 4 * c * c3 + 6 * c**2 * c2 - 3 * c**4
    return math.sqrt(max(e4 - 2 * share * cross + share**2 * fourth, 0.0) / rows) / spread
