"""Rows that need not fit into memory: gone through part by part, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Rows:
    """`height` rows in order of event time. `parts` begins anew each time it is called, and gives no empty frame."""

    height: int
    parts: Callable[[], Iterable[pl.DataFrame]]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Rows:
        """A frame that is in memory already."""
        return cls(frame.height, lambda: [frame] if frame.height else [])

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return iter(self.parts())

    def frame(self) -> pl.DataFrame:
        """All of them in one frame: for who has asked first whether they fit. Raises ValueError for no row."""
        import polars as pl

        return pl.concat(self, rechunk=True)
