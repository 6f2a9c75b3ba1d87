"""The value of a quality metric and how sure it is; and those that follow from labels by bin of the prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.metrics import RANGES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SURE = 1.96  # standard errors on each side: 95 %


@dataclass(frozen=True)
class Quality:
    """A metric on `rows` rows. `error` is its standard error."""

    metric: str
    value: float
    error: float
    rows: int

    @property
    def interval(self) -> tuple[float, float]:
        """Where it is with a chance of 95 %, by the normal distribution, within the metric's range."""
        low, high = RANGES[self.metric]
        return max(low, self.value - SURE * self.error), min(high, self.value + SURE * self.error)


def of_mean(metric: str, rows: float, total: float, squares: float) -> Quality:
    """Of a mean over rows: of their sum, and the sum of their squares."""
    mean = total / rows
    return Quality(metric, mean, math.sqrt(max(squares / rows - mean**2, 0.0) / rows), round(rows))


def root(mean_square: Quality, metric: str) -> Quality:
    """The square root of a mean; its error by the slope of the root."""
    value = math.sqrt(max(mean_square.value, 0.0))
    return Quality(metric, value, mean_square.error / (2 * value) if value else 0.0, mean_square.rows)


def auc(ones: Floats, zeros: Floats) -> Quality | None:
    """Of rows of class 1 and of class 0 by bin of the prediction, lowest first; none where there are not both. Rows of
    one bin count half.

    The standard error is that of J. A. Hanley and B. J. McNeil, The meaning and use of the area under a ROC curve,
    Radiology 143 (1982).
    """
    above, below = float(ones.sum()), float(zeros.sum())
    if min(above, below) <= 0:
        return None
    wins = ones * (zeros.cumsum() - zeros / 2)
    area = min(float(wins.sum()) / (above * below), 1.0)
    twice_one, twice_zero = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (above - 1) * (twice_one - area**2) + (below - 1) * (twice_zero - area**2)
    return Quality("auc", area, math.sqrt(max(variance, 0.0) / (above * below)), round(above + below))


def average_precision(ones: Floats, zeros: Floats) -> Quality | None:
    """Of the same, none as well: precision averaged over the steps of recall, where within a bin the two classes come
    evenly mixed.

    The standard error is the binomial one of K. Boyd, K. H. Eng and C. D. Page, Area under the precision-recall curve,
    ECML PKDD (2013).
    """
    import numpy as np

    found, others = ones[::-1], zeros[::-1]
    above, below = float(found.sum()), float(others.sum())
    if min(above, below) <= 0:
        return None
    rows = found + others
    before, seen = found.cumsum() - found, rows.cumsum() - rows
    with np.errstate(divide="ignore", invalid="ignore"):
        share = found / rows
        slope = np.where(seen > 0, np.log1p(rows / np.maximum(seen, 1e-300)), 0.0)
    # The precision (before + share x) / (seen + x), averaged over the bin's rows, x from 0 to `rows`.
    mean = np.where(rows > 0, share + (before - share * seen) * slope / np.where(rows > 0, rows, 1), 0.0)
    value = min(max(float((found * mean).sum()) / above, 0.0), 1.0)
    return Quality("average_precision", value, math.sqrt(value * (1 - value) / above), round(above + below))
