"""What the rows of a source must be before they become a snapshot. Asks frames about themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.errors import RowsRefused
from evergreen.core.metrics import Task

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.spec import ModelSpec

EXAMPLES = 3


def check_types(spec: ModelSpec, frame: pl.DataFrame) -> None:
    """Raise RowsRefused for a column of a type that the model cannot use, or a label that the task does not know."""
    for column in spec.features.columns:
        category = column in spec.features.categorical
        if not (_is_category(frame[column]) if category else _is_number(frame[column])):
            raise _wrong(
                spec,
                column,
                found=f"type {frame[column].dtype}, for example {_examples(frame[column])}",
                allowed="text, whole numbers or true/false (a category)" if category else "numbers or true/false",
                do="Bring its type back in the source, or move the column in or out of features.categorical.",
            )
    _check_label(spec, frame[spec.label.column])


def check_keys(spec: ModelSpec, key: pl.Series) -> None:
    """Raise RowsRefused for rows without a key."""
    if missing := key.null_count():
        raise _wrong(
            spec, key.name, found=f"{missing:,} rows without a key", allowed="a key in every row", do="Fill them."
        )


def keys_twice(spec: ModelSpec, keys: pl.Series) -> RowsRefused:
    """The error for keys that stand twice among the rows with a label, naming a few."""
    return _wrong(
        spec,
        spec.source.key,
        found=f"{len(keys):,} keys more than once, for example {_examples(keys)}",
        allowed="each key once in the window",
        do="Remove the copies in the source, or name a key in model.yaml that is unique.",
    )


def has_label(label: pl.Series) -> pl.Series:
    """Of each row, whether its label is there."""
    return label.is_not_null() & label.is_not_nan() if label.dtype.is_float() else label.is_not_null()


def check_labelled(spec: ModelSpec, rows: int, unlabelled: int) -> None:
    """Raise RowsRefused where too many of so many rows, or all, have no label."""
    if unlabelled == rows:
        raise _wrong(
            spec,
            spec.label.column,
            found=f"no label in any of {rows:,} rows",
            allowed="rows with a label",
            do="See that the source still writes labels, and that label.arrives_after is long enough.",
        )
    if unlabelled / rows > spec.label.max_missing:
        raise _wrong(
            spec,
            spec.label.column,
            found=f"{unlabelled / rows:.1%} of {rows:,} rows without a label",
            allowed=f"at most {spec.label.max_missing:.1%} (label.max_missing)",
            do="Wait for the labels, lengthen label.arrives_after, or raise label.max_missing.",
        )


def _check_label(spec: ModelSpec, label: pl.Series) -> None:
    if not _is_number(label):
        wrong = label.drop_nulls()
    elif spec.task is Task.REGRESSION:
        wrong = label.filter(label.is_infinite().fill_null(False)) if label.dtype.is_float() else label.clear()
    else:
        classes = label.drop_nulls().unique().sort()
        bad = [value for value in classes if value == value and not _is_class(value, spec.task)]
        wrong = classes.filter(classes.is_in(bad)) if bad else classes.clear()
    if len(wrong):
        allowed = {Task.BINARY: "0 and 1", Task.MULTICLASS: "whole numbers from 0", Task.REGRESSION: "finite numbers"}
        raise _wrong(
            spec,
            label.name,
            found=f"{_examples(wrong)} ({label.dtype})",
            allowed=f"{allowed[spec.task]}, or nothing where there is no label yet",
            do="Encode the label in the source, or set another task.",
        )


def _is_class(value: float, task: Task) -> bool:
    return value in (0, 1) if task is Task.BINARY else value >= 0 and float(value).is_integer()


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or str(column.dtype) == "Boolean"


def _is_category(column: pl.Series) -> bool:
    return column.dtype.is_integer() or str(column.dtype) in ("String", "Boolean")


def _examples(column: pl.Series) -> str:
    values = column.drop_nulls().head(EXAMPLES).to_list()
    return ", ".join(repr(value)[:40] for value in values) or "none"


def _wrong(spec: ModelSpec, column: str, *, found: str, allowed: str, do: str) -> RowsRefused:
    return RowsRefused(f"{spec.name}: column '{column}' of the source", found=found, allowed=allowed, do=do)
