"""Polars columns as pandas has them: plain numpy arrays.

Times are handed over as UTC without a zone: a suite's JSON can only name a limit as text, and the library cannot
compare that with a zoned time. Text is of dtype object (pandas' own text type is several times slower here).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
import polars as pl

TEXT = (pl.String, pl.Categorical, pl.Enum)


def to_pandas(frame: pl.DataFrame, nullable: Collection[str] = ()) -> pd.DataFrame:
    """A frame. The columns in `nullable` have the dtype that they would have with a missing value among them."""
    columns = {column.name: to_numpy(column, nullable=column.name in nullable) for column in frame.iter_columns()}
    return pd.DataFrame(columns, copy=False)


def to_numpy(column: pl.Series, *, nullable: bool = False) -> Any:
    """One column."""
    if nullable and not column.null_count():
        return to_numpy(pl.concat([column, pl.Series(column.name, [None], dtype=column.dtype)]))[:-1]
    column = _plain(column)
    return pd.Series(column.to_numpy(), dtype=object) if column.dtype == pl.String else column.to_numpy()


def changes_with_nulls(dtype: pl.DataType) -> bool:
    """Whether pandas has another dtype for it as soon as one value is missing."""
    return dtype.is_integer() or dtype == pl.Boolean


def from_physical(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """A column of that type from values as Polars holds them: a time as its number."""
    return pl.Series(values, dtype=pl.Series([], dtype=dtype).to_physical().dtype).cast(dtype)


def is_compared_as_stored(dtype: pl.DataType) -> bool:
    """Whether two values of such columns are equal to pandas just where the stored ones are."""
    return dtype == pl.String or dtype.is_integer() or dtype.is_float() or dtype.is_temporal()


def is_missing(column: pl.Series) -> pl.Series:
    """Null, or NaN, which are one to pandas."""
    return column.is_null() | column.is_nan().fill_null(False) if column.dtype.is_float() else column.is_null()


def plain(frame: pl.DataFrame) -> pl.DataFrame:
    """The same with types that pandas has too, so that values can be compared before they are handed over."""
    return frame.with_columns(_plain(column) for column in frame.iter_columns())


def _plain(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, TEXT):
        return column.cast(pl.String)
    if isinstance(column.dtype, pl.Decimal):
        return column.cast(pl.Float64)
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column
