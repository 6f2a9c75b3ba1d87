"""Counts and sums of rows, from which every metric of a window follows: one vector, and adding two vectors up merges
what they tell. Rows are read once, windows are sums.

A layout says what lies where in the vector. It follows from the bundle's reference alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring import terms
from evergreen.core.monitoring.bins import NumberBins, offsets
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
REQUESTS, FAILED, LATENCY = "requests", "failed", "latency"  # of serving's counters: of a version, not of a slice
LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # serving.metrics.BUCKETS
BY_ORDER = ("auc", "average_precision")  # follow from the bins, and have no sums of their own
DELAY_HOURS = (0.1, 0.5, 1, 2, 4, 8, 12, 24, 36, 48, 72, 96, 168, 336, 720)  # bounds of label delays


@dataclass(frozen=True)
class Rows:
    """Answers, one entry a row. `features`: float32 of a number, a bin of a category (encoding); one that is not logged
    is left out. `prediction` has shape (rows,), or (rows, classes) for multiclass.

    `groups`: which of the vectors each row goes into; rows of -1 go nowhere. Shape (rows,), or (ways, rows) where a row
    goes into several. `losses`, shape (rows, 2), of regression: the absolute and the squared error that loss.ubj says.
    """

    features: Mapping[str, npt.NDArray[Any]]
    prediction: Floats
    groups: Ints
    losses: Floats | None = None


@dataclass(frozen=True)
class Labels:
    """Answers whose label is known, shapes as those of Rows; a label of a class is its number. `delay`: hours between
    the answer and the label; below 0 are clocks that differ."""

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
        sizes |= {DELAYS: len(DELAY_HOURS) + 1, REQUESTS: 1, FAILED: 1, LATENCY: len(LATENCY_SECONDS) + 1}
        if reference.task is Task.BINARY:
            sizes |= dict.fromkeys((EXPECTED, KNOWN, POSITIVES), reference.prediction.size)
        self.realised = tuple(name for name in METRICS_BY_TASK[reference.task] if name not in BY_ORDER)
        self.estimated = tuple(name for name in ESTIMATES[reference.task] if name not in BY_ORDER)
        sizes |= {f"{REALISED}.{name}": terms.count(name) for name in self.realised}
        sizes |= {f"{ESTIMATED}.{name}": terms.OF_ESTIMATE for name in self.estimated}
        self._parts: dict[str, slice[int, int]] = {}
        self.size = 0
        for name, size in sizes.items():
            self._parts[name] = slice(self.size, self.size + size)
            self.size += size

    def part(self, vector: Floats, name: str) -> Floats:
        """A part of a vector, or of rows of vectors. KeyError for a part that this task has not."""
        return vector[..., self._parts[name]]

    def start(self, name: str) -> int:
        """Where a part begins. KeyError for a part that this task has not."""
        return self._parts[name].start

    def start_of_feature(self, position: int) -> int:
        """Where the counts of one feature begin, by its place in the reference."""
        return self.start(FEATURES) + self._offsets[position]

    def feature(self, vector: Floats, position: int) -> Floats:
        """The counts of one feature, by its place in the reference."""
        start = self.start_of_feature(position)
        return vector[..., start : start + self.reference.features[position].size]


class _Entry(NamedTuple):
    """One number that each row adds to the vector: the cell (one, or one a row), and the number (none: 1)."""

    cell: Ints | int
    amount: Floats | None = None


def add_rows(layout: Layout, rows: Rows, vectors: Floats) -> None:
    """Count answers into `vectors`, shape (groups, layout.size), C-contiguous float64, in place."""
    _add(vectors, rows.groups, list(_of_rows(layout, rows)), 1)


def add_labels(layout: Layout, labels: Labels, vectors: Floats, sign: int = 1) -> None:
    """Count labels into `vectors`, shape (groups, layout.size), in place; -1 takes out what was counted before, such as
    a label that was corrected since. A row whose label or prediction is no finite number is not counted."""
    given = terms.given(labels.label, labels.prediction)
    if not given.all():
        groups = labels.groups[..., given]
        labels = Labels(labels.prediction[given], labels.label[given], labels.delay[given], groups)
    _add(vectors, labels.groups, list(_of_labels(layout, labels)), sign)


def _of_rows(layout: Layout, rows: Rows) -> Iterator[_Entry]:
    reference = layout.reference
    yield _Entry(layout.start(ROWS))
    for position, bins in enumerate(reference.features):
        values = rows.features.get(bins.name)
        if values is not None:
            bin_of = bins.index(values) if isinstance(bins, NumberBins) else values
            yield _Entry(bin_of + layout.start_of_feature(position))
    named = terms.named(rows.prediction)
    bin_of = reference.prediction.index(named)
    yield _Entry(bin_of + layout.start(PREDICTIONS))
    chance = reference.calibrated(named)
    if reference.task is Task.BINARY:
        yield _Entry(bin_of + layout.start(EXPECTED), terms.known(chance))
    for name in layout.estimated:
        columns = terms.estimated(reference.task, name, named, chance, rows.losses)
        yield from _sums(layout, f"{ESTIMATED}.{name}", columns)


def _of_labels(layout: Layout, labels: Labels) -> Iterator[_Entry]:
    import numpy as np

    reference = layout.reference
    yield _Entry(layout.start(LABELLED))
    yield _Entry(layout.start(DELAYS) + np.searchsorted(DELAY_HOURS, labels.delay))
    if reference.task is Task.BINARY:
        bin_of = reference.prediction.index(labels.prediction)
        yield _Entry(layout.start(KNOWN) + bin_of)
        yield _Entry(layout.start(POSITIVES) + bin_of, (labels.label == 1).astype(np.float64))
    for name in layout.realised:
        columns = terms.realised(name, labels.label, labels.prediction, reference.label_mean)
        yield from _sums(layout, f"{REALISED}.{name}", columns)


def _sums(layout: Layout, part: str, columns: Floats) -> Iterator[_Entry]:
    for at, column in enumerate(columns, start=layout.start(part)):
        yield _Entry(at, column)


def _add(vectors: Floats, groups: Ints, entries: list[_Entry], sign: int) -> None:
    """One bincount for all counts and one for all sums, for each way in which rows are grouped."""
    import numpy as np

    size = vectors.shape[1]
    for way in np.atleast_2d(groups):
        inside = way >= 0
        chosen = slice(None) if inside.all() else np.flatnonzero(inside)
        base = way[chosen].astype(np.int64) * size
        for weighted in (False, True):
            of_kind = [entry for entry in entries if (entry.amount is not None) is weighted]
            if not (of_kind and len(base)):
                continue
            cells = np.concatenate([base + (e.cell if isinstance(e.cell, int) else e.cell[chosen]) for e in of_kind])
            amounts = np.concatenate([e.amount[chosen] for e in of_kind if e.amount is not None]) if weighted else None
            vectors += sign * np.bincount(cells, amounts, minlength=vectors.size).reshape(vectors.shape)
