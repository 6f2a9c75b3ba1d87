"""What rows must be to be learned from: asked of frames one after another, so that they need not be in memory together.

Asks the frames about themselves, so it needs no library here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import Task

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.spec import ModelSpec

CATEGORY_TYPES = ("String", "Categorical", "Enum", "Boolean", "Int", "UInt", "Null")
EXAMPLES = 5


def refuse_untrainable(spec: ModelSpec, frame: pl.DataFrame) -> None:
    """Raise TrainingRefused where nothing can be learned from these rows: see Trainable."""
    rows = Trainable(spec)
    rows.look(frame)
    rows.refuse()


class Trainable:
    """Whether something can be learned from the rows that it is shown.

    Not from: no row; a column that is gone; no label at all, one class only, or labels that the task does not know;
    text or a time where a number is asked for; a fraction as a category; an infinite number; a weight below 0.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self.labels = Labels(spec)
        self._known: Counter[str] = Counter()  # rows with a value, by category
        self._weight = 0.0

    def look(self, frame: pl.DataFrame) -> None:
        """Count these rows. Raises TrainingRefused for what no further row can make good."""
        spec = self._spec
        _refuse_missing_columns(spec, frame)
        self.labels.look(frame[spec.label.column])
        for column in spec.features.columns:
            if column in spec.features.categorical:
                _refuse_category_type(spec, frame[column])
                self._known[column] += frame.height - frame[column].null_count()
            else:
                _refuse_number(spec, frame[column])
        if spec.training.weights:
            _refuse_weights(spec, frame)
            self._weight += float(frame[spec.training.weights].sum())

    def refuse(self) -> None:
        """Raise TrainingRefused for what all rows together are not."""
        self.labels.refuse()
        for column in self._spec.features.categorical:
            if not self._known[column]:
                raise TrainingRefused(
                    f"{self._spec.name}: feature '{column}'",
                    found=f"no value in any of {self.labels.rows:,} rows",
                    allowed="at least one category",
                    do="Repair the source, or leave it out of features.columns until the source has it.",
                )
        if self._spec.training.weights and not self._weight:
            raise TrainingRefused(
                f"{self._spec.name}: training.weights '{self._spec.training.weights}'",
                found=f"0 in all {self.labels.rows:,} rows",
                allowed="a weight above 0 in some",
                do="Repair the column in the source, or remove training.weights.",
            )


class Labels:
    """Counts of the labels that it is shown; `classes`: rows by class, empty for a regression."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._where = f"{spec.name}: label '{spec.label.column}'"
        self.rows = self.missing = 0
        self.classes: Counter[float] = Counter()

    def look(self, label: pl.Series) -> None:
        """Count them. Raises TrainingRefused for a type or a number that is no label of the task."""
        self.rows += len(label)
        self.missing += label.null_count()
        if label.null_count() == len(label):
            return
        if not (label.dtype.is_numeric() or str(label.dtype) == "Boolean"):
            raise TrainingRefused(
                self._where,
                found=f"type {label.dtype}",
                allowed=_allowed_labels(self._spec.task),
                do="Encode the label in the source.",
            )
        if self._spec.task is Task.REGRESSION:
            _refuse_infinite(self._where, label)
            return
        counts = label.drop_nulls().value_counts(sort=False)
        self.classes.update(dict(counts.iter_rows()))

    def refuse(self) -> None:
        """Raise TrainingRefused for no row, no label, a class that the task does not know, or one class only."""
        if not self.rows:
            raise TrainingRefused(
                self._where, found="no row", allowed="rows with a label", do="Look at the source and at window.train."
            )
        if self.missing == self.rows:
            raise TrainingRefused(
                self._where,
                found=f"no value in any of {self.rows:,} rows",
                allowed="rows with a label",
                do="See whether labels arrive later than label.arrives_after says, or the source stopped writing them.",
            )
        if self._spec.task is not Task.REGRESSION:
            self._refuse_classes()

    def _refuse_classes(self) -> None:
        classes = sorted(self.classes)
        wrong = [value for value in classes if value != value or value != int(value) or value < 0]
        if self._spec.task is Task.BINARY:
            wrong = [value for value in classes if value not in (0, 1)]
        if wrong:
            raise TrainingRefused(
                self._where,
                found=", ".join(str(value) for value in wrong[:EXAMPLES]),
                allowed=_allowed_labels(self._spec.task),
                do="Encode the label in the source, or set another task.",
            )
        if len(classes) == 1:
            raise TrainingRefused(
                self._where,
                found=f"one class only: {classes[0]} in all {self.rows - self.missing:,} rows",
                allowed="at least two classes",
                do="Widen window.train, or look at how the source makes the label.",
            )


def refuse_new_classes(spec: ModelSpec, classes: Iterable[float], judged: Mapping[str, Any]) -> None:
    """Raise TrainingRefused for a class beyond those of the version that was judged; `judged`: its schema.json."""
    known = judged.get("classes")
    if known is not None and (new := [value for value in sorted(classes) if value >= known]):
        raise TrainingRefused(
            f"{spec.name}: training.refit",
            found=f"class {new[0]:g} in the holdout, which the version that was judged does not know",
            allowed=f"classes 0 to {known - 1}, as in window.train",
            do="Retrain when the class has reached the training window, or write training.refit: never until then.",
        )


def class_weights(classes: Mapping[float, int]) -> dict[float, float]:
    """A weight by class with which each class weighs the same, and all rows together as much as without.

    rows / (classes * rows of the class), as scikit-learn's class_weight="balanced" (compute_class_weight).
    """
    rows = sum(classes.values())
    return {value: rows / (len(classes) * count) for value, count in sorted(classes.items())}


def _refuse_missing_columns(spec: ModelSpec, frame: pl.DataFrame) -> None:
    weights = [spec.training.weights] if spec.training.weights else []
    wanted = [*spec.features.columns, spec.label.column, spec.source.event_time, *weights]
    if gone := [column for column in wanted if column not in frame.columns]:
        raise TrainingRefused(
            f"{spec.name}: columns {', '.join(gone)}",
            found="not in the training rows",
            allowed=", ".join(frame.columns),
            do="Correct features.columns, label.column or training.weights in model.yaml, or the source.",
        )


def _allowed_labels(task: Task) -> str:
    return {
        Task.BINARY: "0 and 1",
        Task.MULTICLASS: "whole class numbers from 0",
        Task.REGRESSION: "numbers",
    }[task]


def _refuse_category_type(spec: ModelSpec, values: pl.Series) -> None:
    if not str(values.dtype).startswith(CATEGORY_TYPES):
        raise TrainingRefused(
            f"{spec.name}: feature '{values.name}'",
            found=f"type {values.dtype}",
            allowed="text, whole numbers or true/false, as a category",
            do="Round or format it in the source, or leave it out of features.categorical.",
        )


def _refuse_weights(spec: ModelSpec, frame: pl.DataFrame) -> None:
    weights = frame[spec.training.weights or ""]
    where, allowed = f"{spec.name}: training.weights '{weights.name}'", "finite numbers from 0, in every row"
    do = "Repair the column in the source, or name another one."
    if not weights.dtype.is_numeric():
        raise TrainingRefused(where, found=f"type {weights.dtype}", allowed=allowed, do=do)
    if not (fine := (weights.is_finite() & (weights >= 0)).fill_null(False)).all():
        bad = frame.filter(~fine).select(spec.source.event_time, weights.name)
        examples = "; ".join(f"{value} at {at:%Y-%m-%d %H:%M}" for at, value in bad.head(EXAMPLES).iter_rows())
        raise TrainingRefused(where, found=f"{bad.height:,} rows such as {examples}", allowed=allowed, do=do)


def _refuse_number(spec: ModelSpec, values: pl.Series) -> None:
    where = f"{spec.name}: feature '{values.name}'"
    if not (values.dtype.is_numeric() or str(values.dtype) in ("Boolean", "Null")):
        raise TrainingRefused(
            where,
            found=f"type {values.dtype}, for example {values.drop_nulls().head(1).to_list()}",
            allowed="numbers, or true/false",
            do="Name it under features.categorical, or make it a number in the source.",
        )
    _refuse_infinite(where, values)


def _refuse_infinite(where: str, values: pl.Series) -> None:
    ends = (values.min(), values.max()) if values.dtype.is_float() else ()
    if any(end is not None and math.isinf(end) for end in ends):  # type: ignore[arg-type]
        infinite = int(values.is_infinite().sum())
        raise TrainingRefused(
            where,
            found=f"{infinite:,} infinite values",
            allowed="finite numbers, or no value",
            do="Write them as null in the source, or name the limits in the expectation suite.",
        )
