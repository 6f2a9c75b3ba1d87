"""Rows that need not fit into memory: gone through part by part, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.sampling import picked

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Rows:
    """`height` rows in order of event time. `parts` begins anew each time it is called, and gives no empty frame.

    `elsewhere` reads the same rows, in order, each call some of them (or none), in any process of any machine that
    reaches the store: its calls can be pickled, with no row in them. Empty for rows that are in memory only.
    """

    height: int
    parts: Callable[[], Iterable[pl.DataFrame]]
    elsewhere: Sequence[Callable[[], pl.DataFrame]] = ()

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Rows:
        """A frame that is in memory already."""
        return cls(frame.height, lambda: [frame] if frame.height else [])

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return iter(self.parts())

    def some(self, most: int) -> pl.DataFrame:
        """At most so many, the same ones each time (core.sampling), in their order. Raises ValueError for no row."""
        at, first, found = picked(self.height, most), 0, []
        for part in self:
            own = None if at is None else at[(at >= first) & (at < first + part.height)] - first
            found.append(part if own is None else part[own])
            first += part.height
        import polars as pl

        return pl.concat(found, rechunk=True)

    def frame(self) -> pl.DataFrame:
        """All of them in one frame: for who has asked first whether they fit. Raises ValueError for no row."""
        import polars as pl

        return pl.concat(self, rechunk=True)
