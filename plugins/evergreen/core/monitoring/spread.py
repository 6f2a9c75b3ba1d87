"""By how much estimates of quality miss beyond what chance explains: tried on the tail, by stretches of time.

Each stretch is estimated as the monitor would, by a calibration of the others, and compared with what was true of it.
Of the squared misses what chance adds is taken off; the root of what is left is one standard deviation of the rest, in
the metric's own unit. Answers mean another thing at other times, and estimates must not look surer than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen.core.measure import value
from evergreen.core.metrics import Metric, Task
from evergreen.core.monitoring.estimated import chance_alone
from evergreen.core.monitoring.tally import Layout, Rows, add_rows
from evergreen.core.monitoring.terms import named

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evergreen.core.monitoring.reference import Calibrate, Reference

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

STRETCHES = 8
LEAST = 240  # rows of a tail: with fewer it is not tried, and the spread is not known


@dataclass(frozen=True)
class Tail:
    """The newest rows of training, in order of time. `label`: (rows,); `prediction`: (rows,), or (rows, classes).

    `losses`: of a regression, (rows, 2) expected absolute and squared errors, each row's by a booster that was fitted
    on rows of other times; none where there are too few rows for that.
    """

    label: Floats
    prediction: Floats
    losses: Floats | None = None

    def happened(self) -> Floats:
        """Of a classifier: 1 where what `named` gives the chance of is true, else 0."""
        import numpy as np

        if self.prediction.ndim == 1:
            return self.label
        right: Floats = (self.prediction.argmax(axis=1) == self.label).astype(np.float64)
        return right


def spread_of(reference: Reference, tail: Tail, calibrate: Calibrate) -> dict[str, float]:
    """By estimated metric. Left out is one that fewer than half of the stretches give; all, where rows are too few."""
    misses: dict[str, list[float]] = {}
    for own, others in _stretches(len(tail.label)):
        for name, miss in _misses(reference, tail, own, others, calibrate).items():
            misses.setdefault(name, []).append(miss)
    return {
        name: math.sqrt(max(sum(found) / len(found), 0.0))
        for name, found in misses.items()
        if 2 * len(found) >= STRETCHES
    }


def _stretches(rows: int) -> Iterator[tuple[Ints, Ints]]:
    """The rows of each stretch, and all others."""
    import numpy as np

    if rows < LEAST:
        return
    every = np.arange(rows)
    for own in np.array_split(every, STRETCHES):
        yield own, np.delete(every, own)


def _misses(reference: Reference, tail: Tail, own: Ints, others: Ints, calibrate: Calibrate) -> Mapping[str, float]:
    """By metric the squared miss, less what chance adds to it."""
    import numpy as np

    known = replace(reference, features=())
    if reference.task is not Task.REGRESSION:
        line = calibrate(named(tail.prediction[others]), tail.happened()[others])
        known = replace(known, calibration=line)
    layout = Layout(known)
    vector = np.zeros((1, layout.size))
    losses = None if tail.losses is None else tail.losses[own]
    add_rows(layout, Rows({}, tail.prediction[own], np.zeros(len(own), dtype=np.int64), losses), vector)
    found = {}
    for name, estimate in chance_alone(layout, vector[0]).items():
        realised = value(Metric(name), tail.label[own], tail.prediction[own])
        found[name] = (realised - estimate.value) ** 2 - estimate.error**2
    return {name: miss for name, miss in found.items() if math.isfinite(miss)}
