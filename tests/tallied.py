"""Made-up answers and labels of each task, the reference they are measured against, and tallies of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evergreen.core.measure import all_values
from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import category_bins, number_bins
from evergreen.core.monitoring.reference import PREDICTION, PREDICTION_BINS, Reference
from evergreen.core.monitoring.tally import Labels, Layout, Rows, add_labels, add_rows

CARRIERS = ("AA", "B6", "UA")
UNSEEN, MISSING = len(CARRIERS), len(CARRIERS) + 1  # bins of a carrier


@dataclass(frozen=True)
class World:
    """Rows with all that may be known of them."""

    delay: np.ndarray
    carrier: np.ndarray
    prediction: np.ndarray
    label: np.ndarray
    waited: np.ndarray
    losses: np.ndarray

    @property
    def size(self) -> int:
        return len(self.label)

    def rows(self, groups: np.ndarray | None = None) -> Rows:
        groups = np.zeros(self.size, dtype=np.int64) if groups is None else groups
        return Rows({"delay": self.delay, "carrier": self.carrier}, self.prediction, groups, self.losses)

    def labels(self, groups: np.ndarray | None = None) -> Labels:
        groups = np.zeros(self.size, dtype=np.int64) if groups is None else groups
        return Labels(self.prediction, self.label, self.waited, groups)

    def take(self, chosen: np.ndarray | slice) -> World:
        return World(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def world(task: Task, size: int, seed: int = 0, *, off: float = 0.0) -> World:
    """Chances are right, errors of a number are normal with a deviation that differs by row and is known.
    `off` moves the feature and, by it, what the model says."""
    rng = np.random.default_rng(seed)
    delay = rng.normal(off, 1, size).astype(np.float32)
    spread = rng.uniform(1, 4, size)
    losses = np.column_stack([spread * np.sqrt(2 / np.pi), spread**2])
    if task is Task.BINARY:
        prediction = 1 / (1 + np.exp(1 - delay.astype(np.float64)))
        label = (rng.random(size) < prediction).astype(np.float64)
    elif task is Task.MULTICLASS:
        prediction = rng.dirichlet((1 + off, 1, 1), size)
        label = (rng.random((size, 1)) > prediction.cumsum(axis=1)).sum(axis=1).clip(max=2).astype(np.float64)
    else:
        prediction = 300 + 50 * delay.astype(np.float64)
        label = prediction + rng.normal(size=size) * spread
    return World(delay, rng.integers(0, 3, size), prediction, label, rng.exponential(20, size), losses)


def reference(task: Task, size: int = 5000, seed: int = 99) -> Reference:
    """Of rows of the same world; its chances are right as they are said."""
    at = world(task, size, seed)
    said = at.prediction if at.prediction.ndim == 1 else at.prediction.max(axis=1)
    return Reference(
        task=task,
        rows=size,
        features=(number_bins("delay", at.delay), category_bins("carrier", CARRIERS, at.carrier)),
        prediction=number_bins(PREDICTION, said.astype(np.float32), PREDICTION_BINS),
        quality=all_values(task, at.label, at.prediction),
        label_mean=float(at.label.mean()) if task is Task.REGRESSION else 0.0,
    )


def layout(task: Task, **changes: object) -> Layout:
    return Layout(replace(reference(task), **changes))  # type: ignore[arg-type]


def tally(of: Layout, *, rows: World | None = None, labels: World | None = None) -> np.ndarray:
    """One vector of these."""
    vectors = np.zeros((1, of.size))
    if rows is not None:
        add_rows(of, rows.rows(), vectors)
    if labels is not None:
        add_labels(of, labels.labels(), vectors)
    return vectors[0]
