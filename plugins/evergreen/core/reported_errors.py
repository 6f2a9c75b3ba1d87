"""How a model errs, from answers whose label is known, part after part: memory does not grow with the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evergreen.core.metrics import Task
from evergreen.core.monitoring.encoding import features_of, predictions_of
from evergreen.core.reported_examples import JOINED, Examples
from evergreen.core.reported_slices import Slices, sums

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from evergreen.core.monitoring.reference import Reference

    Floats = npt.NDArray[np.float64]

MOST_CLASSES = 20
CHANCES, RESIDUAL_BINS, TENTHS = 10, 30, 10
LOSSES = {
    Task.BINARY: "squared error of the chance (Brier)",
    Task.MULTICLASS: "share that named another class",
    Task.REGRESSION: "absolute error",
}


@dataclass
class Errors:
    """Sums over labelled answers of one version; none where the task has no such, or no answer has come.

    `confusion[true][said]` counts answers, class 1 of two from the chance `threshold` on. `chances`: rows, sum of what
    was said and sum of what came true, by CHANCES bins of the chance (of the class that is named). `residuals` counts
    prediction - label in RESIDUAL_BINS bins over [-scale, scale], the end ones hold all beyond; `scale` is in the
    label's unit. `tenths`: rows and sums of prediction, label and absolute error by tenths of training's predictions.
    """

    task: Task
    reference: Reference
    hidden: frozenset[str] = frozenset()
    threshold: float = 0.5
    scale: float = 0.0
    confusion: Any = None
    chances: Any = None
    residuals: Any = None
    tenths: Any = None
    slices: Slices = field(init=False)
    examples: Examples = field(init=False)

    def __post_init__(self) -> None:
        self.slices, self.examples = Slices(self.task, self.reference, self.hidden), Examples(self.hidden)

    @property
    def rows(self) -> int:
        """How many answers were added."""
        return self.slices.rows

    def add(self, frame: pl.DataFrame) -> None:
        """Add answers: the columns of a part of predictions, and JOINED, a label that the task may have."""
        import numpy as np

        if frame.is_empty():
            return
        label, said = frame[JOINED].to_numpy().astype(np.float64), predictions_of(frame)
        if self.task is Task.REGRESSION:
            self._add_residuals(label, said)
        else:
            self._add_classes(label, said)
        single = said if said.ndim == 1 else np.zeros(len(label))
        self.slices.add(features_of(frame, self.reference), _losses(self.task, label, said), single, label)
        self.examples.add(frame, label, said)

    def _add_classes(self, label: Floats, said: Floats) -> None:
        import numpy as np

        if self.task is Task.BINARY:
            named, chance, true, classes = (said >= self.threshold).astype(np.int64), said, label, 2
        else:
            named, chance, classes = said.argmax(axis=1), said.max(axis=1), said.shape[1]
            true = (named == label).astype(np.float64)
        if classes <= MOST_CLASSES:
            table = np.bincount(label.astype(np.int64) * classes + named, minlength=classes**2)
            self.confusion = _sum(self.confusion, table.reshape(classes, classes))
        bins = np.clip((chance * CHANCES).astype(np.int64), 0, CHANCES - 1)
        self.chances = _sum(self.chances, sums(bins, CHANCES, chance, true))

    def _add_residuals(self, label: Floats, said: Floats) -> None:
        import numpy as np

        residual = said - label
        self.scale = self.scale or _scale(self.reference, residual)
        bins = ((residual / self.scale + 1) / 2 * RESIDUAL_BINS).clip(0, RESIDUAL_BINS - 1).astype(np.int64)
        self.residuals = _sum(self.residuals, np.bincount(bins, minlength=RESIDUAL_BINS))
        predictions = self.reference.prediction
        if sum(predictions.counts):
            groups = predictions.groups[predictions.index(said)]
            self.tenths = _sum(self.tenths, sums(groups, TENTHS + 1, said, label, abs(residual)))


def _losses(task: Task, label: Floats, said: Floats) -> Floats:
    """By row, in the unit of LOSSES."""
    if task is Task.MULTICLASS:
        wrong: Floats = (said.argmax(axis=1) != label).astype(label.dtype)
        return wrong
    off: Floats = said - label
    return off**2 if task is Task.BINARY else abs(off)


def _sum(before: Any, more: Any) -> Any:
    return more if before is None else before + more


def _scale(reference: Reference, residual: Floats) -> float:
    """Three standard errors of the rows held back at training; of a bundle that does not say, of the first part."""
    import numpy as np

    known = reference.quality.get("rmse") or float(np.sqrt((residual**2).mean()))
    return 3 * known if math.isfinite(known) and known > 0 else 1.0
