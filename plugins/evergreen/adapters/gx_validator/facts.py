"""Sums, counts and ends of a column, of each part by itself and of several parts together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from evergreen.adapters.gx_validator import frames


@dataclass(frozen=True)
class ColumnFacts:
    """Of the rows of a part. `ends` are the least and the greatest value as Polars holds them (a time as its number),
    none where all are missing; `sums` has one for each part with values, `mean` and `squares` (the sum of the squared
    distances from the mean) are of numbers alone.
    """

    elements: int = 0
    missing: int = 0
    ends: list[Any] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, column: pl.Series) -> ColumnFacts:
        """The rows of one part, with types that pandas has too."""
        missing = frames.is_missing(column)
        there = column.filter(~missing)
        counts = len(column), int(missing.sum())
        if not len(there):
            return cls(*counts)
        held = there.to_physical()
        ends = [end for end in (held.min(), held.max()) if end is not None]  # what has no order has none
        if not column.dtype.is_numeric():
            return cls(*counts, ends)
        values = there.cast(pl.Float64)
        mean = float(values.mean())  # type: ignore[arg-type]  # it is not empty
        total = float(there.sum()) if there.dtype.is_float() else int(there.sum())
        return cls(*counts, ends, [total], mean, float(((values - mean) ** 2).sum()))

    @classmethod
    def together(cls, of_parts: Sequence[ColumnFacts]) -> ColumnFacts:
        """Of parts one after the other. Chan, Golub and LeVeque: means and squares of two sets give those of both."""
        judged, mean, squares = 0, 0.0, 0.0
        for one in of_parts:
            if many := one.elements - one.missing:
                all_of, apart = judged + many, one.mean - mean
                squares += one.squares + apart * (apart * judged * many / all_of)  # a power may raise OverflowError
                mean += apart * many / all_of
                judged = all_of
        known = [end for one in of_parts for end in one.ends]
        return cls(
            sum(one.elements for one in of_parts),
            sum(one.missing for one in of_parts),
            [min(known), max(known)] if known else [],
            [total for one in of_parts for total in one.sums],
            mean,
            squares,
        )

    def ends_as(self, dtype: pl.DataType) -> pl.Series:
        """The ends as a column of this type."""
        return frames.from_physical(self.ends, dtype)

    def metrics(self) -> dict[str, Any]:
        """By the library's names, as pandas would have them."""
        judged = self.elements - self.missing
        total = _total(self.sums)
        return {
            "table.row_count": self.elements,
            "column.non_null_proportion": judged / self.elements if self.elements else 0,
            "column.sum": total,
            "column.mean": total / judged if judged else math.nan,
            "column.standard_deviation": math.sqrt(self.squares / (judged - 1)) if judged > 1 else math.nan,
        }


def _total(sums: Sequence[float]) -> float:
    """Of whole numbers a whole one. NaN for infinities of both signs, as in pandas."""
    if not any(isinstance(one, float) for one in sums):
        return sum(sums)
    try:
        return math.fsum(sums)
    except (ValueError, OverflowError):  # both infinities, or more than a float holds
        return float(sum(sums))
