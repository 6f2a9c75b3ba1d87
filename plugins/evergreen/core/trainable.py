"""What a frame must be to be learned from. Asks the frame about itself, so it needs no library here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import Task

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.spec import ModelSpec

CATEGORY_TYPES = ("String", "Categorical", "Enum", "Boolean", "Int", "UInt", "Null")
EXAMPLES = 5


def refuse_untrainable(spec: ModelSpec, frame: pl.DataFrame) -> None:
    """Raise TrainingRefused where nothing can be learned from these rows.

    No row; a column that is gone; no label at all, one class only, or labels that the task does not know; text or a
    time where a number is asked for; a fraction as a category; an infinite number.
    """
    _refuse_missing_columns(spec, frame)
    refuse_label(spec, frame)
    for column in spec.features.columns:
        _refuse_feature(spec, frame, column)


def _refuse_missing_columns(spec: ModelSpec, frame: pl.DataFrame) -> None:
    wanted = [*spec.features.columns, spec.label.column, spec.source.event_time]
    if gone := [column for column in wanted if column not in frame.columns]:
        raise TrainingRefused(
            f"{spec.name}: columns {', '.join(gone)}",
            found="not in the training rows",
            allowed=", ".join(frame.columns),
            do="Correct features.columns or label.column in model.yaml, or the source.",
        )


def refuse_label(spec: ModelSpec, frame: pl.DataFrame) -> None:
    """Raise TrainingRefused where these labels cannot be learned."""
    where = f"{spec.name}: label '{spec.label.column}'"
    label = frame[spec.label.column]
    if frame.height == 0:
        raise TrainingRefused(
            where, found="no row", allowed="rows with a label", do="Look at the source and at window.train."
        )
    if label.null_count() == frame.height:
        raise TrainingRefused(
            where,
            found=f"no value in any of {frame.height:,} rows",
            allowed="rows with a label",
            do="See whether labels arrive later than label.arrives_after says, or the source stopped writing them.",
        )
    if not (label.dtype.is_numeric() or str(label.dtype) == "Boolean"):
        raise TrainingRefused(
            where, found=f"type {label.dtype}", allowed=_allowed_labels(spec.task), do="Encode the label in the source."
        )
    if spec.task is Task.REGRESSION:
        _refuse_infinite(where, label)
    else:
        _refuse_classes(spec, label.drop_nulls(), where)


def _refuse_classes(spec: ModelSpec, label: pl.Series, where: str) -> None:
    classes = label.unique().sort().to_list()
    wrong = [value for value in classes if value != value or value != int(value) or value < 0]
    if spec.task is Task.BINARY:
        wrong = [value for value in classes if value not in (0, 1)]
    if wrong:
        raise TrainingRefused(
            where,
            found=", ".join(str(value) for value in wrong[:EXAMPLES]),
            allowed=_allowed_labels(spec.task),
            do="Encode the label in the source, or set another task.",
        )
    if len(classes) == 1:
        raise TrainingRefused(
            where,
            found=f"one class only: {classes[0]} in all {len(label):,} rows",
            allowed="at least two classes",
            do="Widen window.train, or look at how the source makes the label.",
        )


def _allowed_labels(task: Task) -> str:
    return {
        Task.BINARY: "0 and 1",
        Task.MULTICLASS: "whole class numbers from 0",
        Task.REGRESSION: "numbers",
    }[task]


def _refuse_feature(spec: ModelSpec, frame: pl.DataFrame, column: str) -> None:
    if column in spec.features.categorical:
        _refuse_category(spec, frame[column])
    else:
        _refuse_number(spec, frame[column])


def _refuse_category(spec: ModelSpec, values: pl.Series) -> None:
    where = f"{spec.name}: feature '{values.name}'"
    if not str(values.dtype).startswith(CATEGORY_TYPES):
        raise TrainingRefused(
            where,
            found=f"type {values.dtype}",
            allowed="text, whole numbers or true/false, as a category",
            do="Round or format it in the source, or leave it out of features.categorical.",
        )
    if values.null_count() == len(values):
        raise TrainingRefused(
            where,
            found=f"no value in any of {len(values):,} rows",
            allowed="at least one category",
            do="Repair the source, or leave it out of features.columns until the source has it.",
        )


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
    if values.dtype.is_float() and (infinite := int(values.is_infinite().sum())):
        raise TrainingRefused(
            where,
            found=f"{infinite:,} infinite values",
            allowed="finite numbers, or no value",
            do="Write them as null in the source, or name the limits in the expectation suite.",
        )
