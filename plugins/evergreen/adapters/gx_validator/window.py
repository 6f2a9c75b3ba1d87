"""What is asked of all rows of a window: sums and counts of its parts together, sets and likes found by a database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from evergreen.adapters.gx_validator import frames, kinds, rowwise, verdict
from evergreen.adapters.gx_validator.counts import Counts
from evergreen.adapters.gx_validator.facts import ColumnFacts
from evergreen.adapters.gx_validator.library import Config, Library, Result
from evergreen.adapters.gx_validator.unlike import Unlike
from evergreen.core.ports import PartRows, Store, WindowFacts

MOST_DISTINCT = 500_000  # values that the library is given to compare with a set
_ENDS = ("expect_column_max_to_be_between", "expect_column_min_to_be_between")
_ALL = "all_values_are_missing"
_MODE = "expect_column_most_common_value_to_be_in_set"


@dataclass(frozen=True)
class WindowChecks:
    """The expectations on a window as a whole. `head` is its first row with types that pandas has too; `library` holds
    the same.
    """

    parts: Sequence[PartRows]
    store: Store
    facts: WindowFacts
    library: Library
    head: pl.DataFrame
    nullable: Collection[str]

    def on_facts(self, config: Config, known: Mapping[str, ColumnFacts]) -> Result:
        """Of sums and counts; `known` has those of the columns."""
        column = config["kwargs"].get("column")
        if column is None:
            return verdict.on_facts(config, {"table.row_count": sum(part.height for part in self.parts)}, self.library)
        found = known[column]
        if config["type"] in _ENDS:
            first = self.head[column]
            ends = found.ends_as(first.dtype) if found.ends else first
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
        return self._on_values(config, values if len(values) else self.head[column], missing=False)

    def on_repeated(self, config: Config, missing: Sequence[int]) -> tuple[Result, Sequence[int]]:
        """Of values that stand more than once in a column, of which so many are missing in each part."""
        (column,) = kinds.columns_of(config["kwargs"])
        dtype = self.head[column].dtype
        alike = not Unlike(self.store, self.parts, column, dtype, missing).holds()
        return self._on_likes(config, self.facts.repeated(self.parts, [column], _ALL) if alike else [], missing)

    def on_compounds(self, config: Config) -> tuple[Result, Sequence[int]]:
        """Of rows whose values of several columns are those of another row."""
        missing: dict[int, int] = {}

        def tallied(at: int, part: PartRows) -> Callable[[Sequence[str] | None], pl.DataFrame]:
            def skim(names: Sequence[str] | None) -> pl.DataFrame:
                frame = part.skim(names)
                missing[at] = int(rowwise.ignored(frame, config["kwargs"]).sum())
                return frame

            return skim

        parts = [replace(part, skim=tallied(at, part)) for at, part in enumerate(self.parts)]
        how = str(config["kwargs"].get("ignore_row_if") or _ALL)
        rows = self.facts.repeated(parts, kinds.columns_of(config["kwargs"]), how)
        return self._on_likes(config, rows, [missing[at] for at in range(len(parts))])

    def _on_likes(self, config: Config, likes: Sequence[int], missing: Sequence[int]) -> tuple[Result, Sequence[int]]:
        rows = np.asarray(likes, dtype=np.int64)
        of_parts, start = [], 0
        for part, unjudged in zip(self.parts, missing, strict=True):
            low, high = np.searchsorted(rows, [start, start + part.height])
            counts = Counts(part.height, unjudged)
            if high > low:
                frame = frames.plain(part.skim(kinds.columns_of(config["kwargs"])))
                counts = rowwise.counted(frame, config, rows[low:high] - start, unjudged)
            of_parts.append(counts)
            start += part.height
        together = Counts.together(of_parts)
        return verdict.on_counts(config, together, self.library), together.rows

    def _on_values(self, config: Config, values: pl.Series, *, missing: bool) -> Result:
        """The library on few values that answer for all."""
        column = config["kwargs"]["column"]
        frame = frames.to_pandas(values.alias(column).to_frame(), [column] if missing else self.nullable)
        (found,) = Library(frame).run([config])
        return found
