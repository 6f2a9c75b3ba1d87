"""From logged answers, as a part holds them, to what a tally counts. Frames are Polars'."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core.monitoring.bins import CategoryBins, NumberBins
from evergreen.core.monitoring.day import Cell
from evergreen.core.records import ALL

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from evergreen.core.monitoring.reference import Reference

    Ints = npt.NDArray[np.int64]
    Array = npt.NDArray[np.float64] | Ints

Sliced = Mapping[str, Sequence[str]]  # by column the values that have cells of their own
SLICES = 20  # values of a column that are watched apart: the most frequent of training
_GROUP = "group"


def features_of(frame: pl.DataFrame, reference: Reference) -> dict[str, Array]:
    """By feature the numbers, float32 and NaN where missing, or the bins of the categories. Those that are not logged
    are left out."""
    unseen = unseen_in(frame)
    logged = [bins for bins in reference.features if parts.column_of(bins.name) in frame.columns]
    encoded = frame.select(_codes(bins) if isinstance(bins, CategoryBins) else _numbers(bins) for bins in logged)
    found: dict[str, Array] = {bins.name: encoded[bins.name].to_numpy(writable=bins.name in unseen) for bins in logged}
    for bins in logged:
        if isinstance(bins, CategoryBins) and bins.name in unseen:
            found[bins.name][unseen[bins.name]] = len(bins.categories)
    return found


def _codes(bins: CategoryBins) -> pl.Expr:
    import polars as pl

    codes = pl.col(parts.column_of(bins.name)).cast(pl.Enum(bins.categories), strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(len(bins.categories) + 1).alias(bins.name)


def _numbers(bins: NumberBins) -> pl.Expr:
    import polars as pl

    return pl.col(parts.column_of(bins.name)).cast(pl.Float32, strict=False).fill_null(float("nan")).alias(bins.name)


def unseen_in(frame: pl.DataFrame) -> Mapping[str, Ints]:
    """By feature the rows whose category training never saw: serving answered these as missing, and logged them."""
    import polars as pl

    told = frame[parts.UNSEEN]
    if parts.UNSEEN not in frame.columns or told.null_count() == frame.height:
        return {}
    texts: dict[str, list[str]] = {}
    for text in told.drop_nulls().cast(pl.String).unique():
        for feature in json.loads(text):
            texts.setdefault(feature, []).append(text)
    return {feature: told.is_in(ones).fill_null(False).arg_true().to_numpy() for feature, ones in texts.items()}


def predictions_of(frame: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Shape (rows,), or (rows, classes) where each is a list."""
    import numpy as np
    import polars as pl

    said = frame[parts.PREDICTION]
    if not isinstance(said.dtype, pl.List):
        return said.cast(pl.Float64).to_numpy()
    width = said.list.len().max()
    found = said.list.to_array(width).to_numpy() if isinstance(width, int) else np.empty((0, 0))
    return found.astype(np.float64)


def sliced_values(reference: Reference, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """By column the values that have tallies of their own: at most SLICES, the most frequent ones of training."""
    found = {}
    for bins in reference.features:
        if bins.name in columns and isinstance(bins, CategoryBins):
            order = sorted(range(len(bins.categories)), key=lambda at: (-bins.counts[at], at))[:SLICES]
            found[bins.name] = tuple(bins.categories[at] for at in order)
    return found


def grouped(frame: pl.DataFrame, version: int, seconds: int, sliced: Sliced) -> tuple[list[Cell], Ints]:
    """The cells that the rows go into, and the place of each row's, shape (ways, rows): among all rows, then in each
    column of slices; -1 for a value that has no cell."""
    import numpy as np
    import polars as pl

    starts = frame[parts.AT].dt.epoch("s") // seconds * seconds
    keys = pl.DataFrame({"arm": frame[parts.ARM], "start": starts, "slice": pl.repeat(ALL, frame.height, eager=True)})
    cells: list[Cell] = []
    ways = [_numbered(keys, version, cells)]
    for column, values in sliced.items():
        name = parts.column_of(column)
        if name in frame.columns:
            of = frame[name].cast(pl.String)
            known = of.is_in(list(values)).fill_null(False)
            told = pl.when(known).then(pl.concat_str(pl.lit(f"{column}="), of))
            ways.append(_numbered(keys.with_columns(told.alias("slice")), version, cells))
    return cells, np.vstack(ways)


def _numbered(keys: pl.DataFrame, version: int, cells: list[Cell]) -> Ints:
    """Of each row the place of its cell, which is added to the cells."""
    import polars as pl

    different = keys.drop_nulls().unique(maintain_order=True).with_row_index(_GROUP, offset=len(cells))
    places = keys.join(different, on=keys.columns, how="left", maintain_order="left")[_GROUP]
    cells += [Cell(version, arm, start, value) for _, arm, start, value in different.iter_rows()]
    return places.cast(pl.Int64).fill_null(-1).to_numpy()
