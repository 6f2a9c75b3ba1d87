"""Expectations that can be neither split nor computed: run on all rows at once, if they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from evergreen.adapters.gx_validator import frames, kinds
from evergreen.adapters.gx_validator.library import Config, Library, Result, never_run
from evergreen.core.ports import PartRows

_NUMBER, _TEXT, _ROW = 40, 160, 60  # bytes a value and a row, measured with the copies that the library makes


@dataclass(frozen=True)
class WholeChecks:
    """On parts of a window that may take so many megabytes."""

    parts: Sequence[PartRows]
    memory_mb: float

    def run(self, config: Config, schema: dict[str, pl.DataType]) -> Result:
        """The library's result, or why it was not asked."""
        every = bool(config["kwargs"].get("row_condition"))  # may name any column
        columns = [name for name in kinds.columns_of(config["kwargs"]) if name in schema]
        columns = list(schema) if every or not columns else columns
        rows = sum(part.height for part in self.parts)
        needed = estimate_mb(rows, [schema[name] for name in columns])
        if needed > self.memory_mb:
            return never_run(
                config,
                f"needs all {rows:,} rows of {len(columns)} columns at once, about {needed:,.0f} MB, and may take "
                f"{self.memory_mb:,.0f} (EVERGREEN_TRAINING_MEMORY_MB)",
            )
        frame = pl.concat([part.skim(columns) for part in self.parts])
        (found,) = Library(frames.to_pandas(frame)).run([config])
        return found


def estimate_mb(rows: int, dtypes: Sequence[pl.DataType]) -> float:
    """What a run on so many rows with columns of these types comes to hold."""
    a_row = _ROW + sum(_TEXT if isinstance(dtype, frames.TEXT) else _NUMBER for dtype in dtypes)
    return rows * a_row / 1e6
