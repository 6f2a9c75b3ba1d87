"""The rows of a snapshot by their position in it, of which no more than one part is in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from evergreen.core.ports import PartRows

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Snapshots
    from evergreen.core.records import Part


@dataclass(frozen=True)
class WindowRows:
    """The rows of the parts, in order of day: the first row of the first part is 0."""

    snapshots: Snapshots
    given: Sequence[Part]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """In order of day."""
        return tuple(sorted(self.given, key=lambda part: part.day))

    @cached_property
    def starts(self) -> list[int]:
        """The position of each part's first row, and that after the last row of all."""
        return [0, *accumulate(part.rows for part in self.parts)]

    @property
    def height(self) -> int:
        """How many rows they are."""
        return self.starts[-1]

    def for_validator(self, columns: Sequence[str]) -> list[PartRows]:
        """What a validator takes; it sees these columns only."""
        return [
            PartRows(
                part.key,
                part.rows,
                partial(self.read, part, columns),
                partial(self._skim, part, columns),
                partial(self.snapshots.skim, part, columns, rows=1),
                partial(self.snapshots.key_hashes, part),
            )
            for part in self.parts
        ]

    def read(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A part, checked by its hash."""
        (frame,) = self.snapshots.each([part], columns)
        return frame

    def _skim(self, part: Part, all_columns: Sequence[str], columns: Sequence[str] | None) -> pl.DataFrame:
        return self.snapshots.skim(part, columns or all_columns)

    def value(self, row: int, column: str) -> Any:
        """One value; KeyError where no such column is."""
        at = bisect_right(self.starts, row) - 1
        if self._last[0] != at:
            self._last[:] = [at, self.snapshots.skim(self.parts[at])]
        frame: pl.DataFrame = self._last[1]
        if column not in frame.columns:
            raise KeyError(column)
        return frame[column][row - self.starts[at]]

    @cached_property
    def _last(self) -> list[Any]:
        return [-1, None]

    def by_part(self, rows: Sequence[int]) -> Iterator[tuple[Part, list[int]]]:
        """Ascending positions by the parts that they lie in, there counted from the part's first row."""
        import numpy as np

        cuts = np.searchsorted(np.asarray(rows, dtype=np.int64), self.starts)
        for part, start, low, high in zip(self.parts, self.starts, cuts, cuts[1:], strict=False):
            if high > low:
                yield part, [row - start for row in rows[low:high]]

    def after(self, moment: datetime, event_time: str, rows: Sequence[int]) -> tuple[int, int]:
        """How many rows are later than that, and how many of these positions, which ascend, are so."""
        later = named = 0
        chosen = dict(self.by_part(rows))
        for part in self.parts:
            of_part = chosen.get(part, [])
            if part.day > moment.date():
                later, named = later + part.rows, named + len(of_part)
            elif part.day == moment.date():
                is_later = self.snapshots.skim(part, [event_time])[event_time] > moment
                later, named = later + int(is_later.sum()), named + int(is_later[of_part].sum() or 0)
        return later, named
