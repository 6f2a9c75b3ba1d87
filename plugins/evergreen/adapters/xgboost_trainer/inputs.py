"""Rows as XGBoost takes them: which have a label, and a feature's values as serving sends them.

Categories go in as `pl.Enum` of the sorted values seen in these rows; the bundle keeps that list, and serving sends
a value's index in it. A value that is not in the list is a missing value, here and there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import xgboost as xgb

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

TAIL = 0.15

Categories = dict[str, list[str] | None]  # by feature, in the spec's order; none for a number


def has_label(spec: ModelSpec) -> pl.Expr:
    """Which rows have one."""
    label = pl.col(spec.label.column)
    return label.is_not_null() & label.cast(pl.Float64).is_not_nan()


def categories_of(spec: ModelSpec, rows: pl.DataFrame) -> Categories:
    """What each categorical feature's values are, sorted."""

    def seen(column: str) -> list[str]:
        return rows[column].cast(pl.String).drop_nulls().unique().sort().to_list()

    return {column: seen(column) if column in spec.features.categorical else None for column in spec.features.columns}


def inputs_of(rows: pl.DataFrame, categories: Categories) -> pl.DataFrame:
    """The features: Float32, and Enum. A category that is not in the list becomes a missing value."""
    return rows.select(
        pl.col(name).cast(pl.Float32) if known is None else _category(rows.schema[name], name, pl.Enum(known))
        for name, known in categories.items()
    )


def _category(found: pl.DataType, name: str, wanted: pl.Enum) -> pl.Expr:
    column = pl.col(name)
    return column if found == wanted else column.cast(pl.String).cast(wanted, strict=False)


def predict(booster: xgb.Booster, inputs: pl.DataFrame) -> np.ndarray:
    """What a booster answers to these inputs, float32."""
    answers: np.ndarray = booster.predict(xgb.DMatrix(inputs, enable_categorical=True))
    return answers
