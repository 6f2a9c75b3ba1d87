"""What is asked of all rows of a window: sums and counts part by part, sets and likes found by a database."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from evergreen.adapters.gx_validator import frames, kinds, rowwise, verdict
from evergreen.adapters.gx_validator.counts import Counts
from evergreen.adapters.gx_validator.library import Config, Library, Result
from evergreen.adapters.gx_validator.unlike import Unlike
from evergreen.core.ports import PartRows, Store, WindowFacts

MOST_DISTINCT = 500_000  # values that the library is given to compare with a set
_ENDS = ("expect_column_max_to_be_between", "expect_column_min_to_be_between")
_MODE = "expect_column_most_common_value_to_be_in_set"


@dataclass
class ColumnFacts:
    """Of one column, part after part. `ends` are its least and greatest value so far."""

    elements: int = 0
    missing: int = 0
    ends: pl.Series | None = None
    sums: list[float] = field(default_factory=list)
    mean: float = 0.0
    squares: float = 0.0  # sum of the squared distances from the mean

    def add(self, column: pl.Series) -> None:
        """The rows of one more part."""
        missing = frames.is_missing(column)
        there = column.filter(~missing)
        before = self.elements - self.missing
        self.elements, self.missing = self.elements + len(column), self.missing + int(missing.sum())
        if len(there):
            both = pl.concat([there, self.ends]) if self.ends is not None else there
            self.ends = pl.concat([both.filter(both == both.min()).head(1), both.filter(both == both.max()).head(1)])
            if column.dtype.is_numeric():
                self._add_numbers(there, before)

    def _add_numbers(self, there: pl.Series, before: int) -> None:
        """Chan, Golub and LeVeque: means and squares of two sets give those of both."""
        values, many = there.cast(pl.Float64), len(there)
        mean, all_of = float(values.mean()), before + many  # type: ignore[arg-type]  # it is not empty
        apart = mean - self.mean
        squares = float(((values - mean) ** 2).sum())
        self.squares += squares + apart**2 * before * many / all_of
        self.mean += apart * many / all_of
        self.sums.append(float(there.sum()) if there.dtype.is_float() else there.sum())

    def metrics(self) -> dict[str, Any]:
        """By the library's names, as pandas would have them."""
        judged = self.elements - self.missing
        total = math.fsum(self.sums) if any(isinstance(one, float) for one in self.sums) else sum(self.sums)
        return {
            "table.row_count": self.elements,
            "column.non_null_proportion": judged / self.elements if self.elements else 0,
            "column.sum": total,
            "column.mean": total / judged if judged else math.nan,
            "column.standard_deviation": math.sqrt(self.squares / (judged - 1)) if judged > 1 else math.nan,
        }


@dataclass(frozen=True)
class WindowChecks:
    """The expectations on a window as a whole. `library` holds a frame with its columns and types."""

    parts: Sequence[PartRows]
    store: Store
    facts: WindowFacts
    library: Library
    nullable: Collection[str]

    def on_facts(self, configs: Sequence[Config]) -> list[Result]:
        """Sums and counts, all columns in one pass."""
        known = self._column_facts({one["kwargs"]["column"] for one in configs if "column" in one["kwargs"]})
        return [self._on_facts(one, known) for one in configs]

    def _on_facts(self, config: Config, known: Mapping[str, ColumnFacts]) -> Result:
        column = config["kwargs"].get("column")
        if column is None:
            return verdict.on_facts(config, {"table.row_count": sum(part.height for part in self.parts)}, self.library)
        found = known[column]
        if config["type"] in _ENDS:
            ends = found.ends if found.ends is not None else self._first(column)
            return self._on_values(config, ends, missing=bool(found.missing))
        metrics = found.metrics()
        if "unique" in config["type"]:
            distinct, judged = self.facts.count_distinct(self.parts, column), found.elements - found.missing
            metrics |= {"column.distinct_values.count": distinct}
            metrics |= {"column.unique_proportion": distinct / judged if judged else 0}
        return verdict.on_facts(config, metrics, self.library)

    def on_values(self, config: Config) -> Result | None:
        """Of sets of values; none where they are too many to be handed to the library."""
        column = config["kwargs"]["column"]
        if config["type"] == _MODE:
            values: pl.Series | None = self.facts.modes(self.parts, column)
        else:
            values = self.facts.distinct(self.parts, column, MOST_DISTINCT)
        if values is None or len(values) > MOST_DISTINCT:
            return None
        return self._on_values(config, values if len(values) else self._first(column), missing=False)

    def on_repeated(self, config: Config) -> tuple[Result, Counts]:
        """Of rows that have their like."""
        columns = kinds.columns_of(config["kwargs"])
        how = str(config["kwargs"].get("ignore_row_if") or "all_values_are_missing")
        missing: dict[int, int] = {}

        def tallied(at: int, part: PartRows) -> Callable[[Sequence[str] | None], pl.DataFrame]:
            def skim(names: Sequence[str] | None) -> pl.DataFrame:
                frame = part.skim(names)
                missing[at] = int(rowwise.ignored(frame, config["kwargs"]).sum())
                return frame

            return skim

        parts = [replace(part, skim=tallied(at, part)) for at, part in enumerate(self.parts)]
        alike = len(columns) > 1 or not Unlike(self.store, parts, columns[0]).holds()
        rows = np.asarray(self.facts.repeated(parts, columns, how) if alike else [], dtype=np.int64)
        of_parts, start = [], 0
        for at, part in enumerate(self.parts):
            low, high = np.searchsorted(rows, [start, start + part.height])
            if at not in missing:
                parts[at].skim(columns)  # which counts them
            counts = Counts(part.height, missing[at])
            if high > low:
                frame = frames.plain(part.skim(columns))
                counts = rowwise.counted(frame, config, rows[low:high] - start, missing[at])
            of_parts.append(counts)
            start += part.height
        together = Counts.together(of_parts)
        return verdict.on_counts(config, together, self.library), together

    def _on_values(self, config: Config, values: pl.Series, *, missing: bool) -> Result:
        """The library on few values that answer for all."""
        column = config["kwargs"]["column"]
        frame = frames.to_pandas(values.alias(column).to_frame(), [column] if missing else self.nullable)
        (found,) = Library(frame).run([config])
        return found

    def _column_facts(self, columns: Collection[str]) -> dict[str, ColumnFacts]:
        known = {name: ColumnFacts() for name in sorted(columns)}
        for part in self.parts if known else ():
            frame = frames.plain(part.skim(list(known)))
            for name, found in known.items():
                found.add(frame[name])
        return known

    def _first(self, column: str) -> pl.Series:
        """One row of a column in which all are missing."""
        return frames.plain(self._head.select(column).head(1))[column]

    @cached_property
    def _head(self) -> pl.DataFrame:
        return self.parts[0].skim(None)
