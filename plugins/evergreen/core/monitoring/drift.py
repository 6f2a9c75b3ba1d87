"""How far the rows of a window are from those of training, feature by feature, from counts by bin. Pure numpy.

The population stability index is N. Siddiqi's (Credit Risk Scorecards, 2006; by his rule of thumb under 0.1 is small,
over 0.25 large). Samples of one population have one above 0, the more so the fewer rows and the more groups: that mean
is taken off (B. Yurdakul and J. Naranjo, Statistical properties of the population stability index, Journal of Risk
Model Validation 14, 2020), so that windows of any size are read by one scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evergreen.core import guarding
from evergreen.core.monitoring.bins import Bins, NumberBins

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_MISSING, _UNSEEN = -1, -2  # bins, from the last


def psi(bins: Bins, counts: Floats) -> float:
    """Of counts by bin against training's, less what chance alone gives, at least 0. NaN where either has no row."""
    import numpy as np

    before, after = (np.bincount(bins.groups, weights=one).tolist() for one in (bins.counts, counts))
    if not (sum(before) and sum(after)):
        return math.nan
    return max(0.0, guarding.psi(before, after) - guarding.psi_expected(before, after))


def wasserstein(bins: NumberBins, counts: Floats) -> float:
    """How far a value must be moved on average to make training's distribution of the window's, in training's standard
    deviations: the area between the two cumulative distributions (L. N. Vaserstein, 1969), exact for values that are
    the centres of their bins. Values outside of what training saw count as its smallest and largest one.

    NaN where either has no known value, or training's values do not differ.
    """
    import numpy as np

    before, after = (np.asarray(one, dtype=np.float64)[:_MISSING] for one in (bins.counts, counts))
    if not (before.sum() and after.sum() and bins.std):
        return math.nan
    apart = np.cumsum(after / after.sum() - before / before.sum())[:-1]
    return float((np.abs(apart) * np.diff(bins.centres)).sum() / bins.std)


def missing(counts: Floats) -> float:
    """The fraction of rows without a value. NaN without a row."""
    return _fraction(float(counts[_MISSING]), counts)


def out_of_range(counts: Floats) -> float:
    """The fraction of rows whose number is below or above all that training saw. NaN without a row."""
    return _fraction(float(counts[0] + counts[_UNSEEN]), counts)


def unseen(counts: Floats) -> float:
    """The fraction of rows whose category training never saw. NaN without a row."""
    return _fraction(float(counts[_UNSEEN]), counts)


def missing_at_training(bins: Bins) -> float:
    """The fraction of training's rows without a value. NaN without a row."""
    rows = sum(bins.counts)
    return bins.counts[_MISSING] / rows if rows else math.nan


def _fraction(part: float, counts: Floats) -> float:
    rows = float(counts.sum())
    return part / rows if rows else math.nan
