"""The quality of answers before their labels are known, from a tally.

Of classifiers by confidence: a row that is said to be of class 1 with chance 0.8, after calibration, is a success four
times in five, so that every metric has an expectation. J. Kivimäki, J. Białek, J. K. Nurminen and W. Kuberski,
Confidence-based estimators for predictive performance in model monitoring, JAIR (2025; accuracy), and, with the same
authors, Performance estimation in binary classification using calibrated confidence (2025; CBPE, as in NannyML). For
regression by direct loss estimation, as NannyML calls it: a second model says the loss of a row (loss.ubj).

All rest on what training knew: features that move are seen, a world that answers otherwise to the same features is not.
The interval holds what chance gives, and by how much such estimates missed on the tail (`Reference.spread`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen.core.metrics import Task
from evergreen.core.monitoring import quality
from evergreen.core.monitoring.quality import Quality
from evergreen.core.monitoring.tally import ESTIMATED, EXPECTED, PREDICTIONS, Layout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def estimated(layout: Layout, vector: Floats) -> dict[str, Quality]:
    """By metric, spread included; none of a bundle without a reference, and of regression none without loss.ubj."""
    spread = layout.reference.spread
    by_chance = chance_alone(layout, vector) if layout.reference.rows else {}
    return {name: replace(one, error=math.hypot(one.error, spread.get(name, 0.0))) for name, one in by_chance.items()}


def chance_alone(layout: Layout, vector: Floats) -> dict[str, Quality]:
    """The same, with the error that chance gives: what is beyond it on the tail is the reference's spread."""
    found = [_of_sums(name, layout.part(vector, f"{ESTIMATED}.{name}")) for name in layout.estimated]
    if layout.reference.task is Task.BINARY:
        ones = layout.part(vector, EXPECTED)[:-1]
        zeros = layout.part(vector, PREDICTIONS)[:-1] - ones
        found += [quality.auc(ones, zeros), quality.average_precision(ones, zeros)]
    return {one.metric: one for one in found if one is not None and math.isfinite(one.value)}


def _of_sums(name: str, sums: Floats) -> Quality | None:
    rows, total, variance = map(float, sums)
    if not rows:
        return None
    mean = Quality(name, total / rows, math.sqrt(variance) / rows, round(rows))
    return quality.root(mean, name) if name == "rmse" else mean
