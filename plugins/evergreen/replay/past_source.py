"""A source as it was at a moment of the past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.errors import EmptyWindow

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Source
    from evergreen.core.spec import ModelSpec


class PastSource:
    """The rows of a real source, as far as they were there at `now`, which whoever replays moves on.

    A row is there from its event time on, its label from `label.arrives_after` later. What the source corrected since
    is not told apart: it shows the values of today. All rows from `start` to `end` are read once, and kept in memory.
    """

    def __init__(self, spec: ModelSpec, source: Source, start: datetime, end: datetime) -> None:
        self._spec, self.now = spec, start
        self._frame = _read(spec, source, start, end)

    def watermark(self) -> datetime | None:
        """The newest event time of now."""
        seen = self._until(self.now)
        newest: datetime | None = self._frame[self._spec.source.event_time][seen - 1] if seen else None
        return newest

    def columns(self) -> frozenset[str]:
        """The columns that the spec names: no other is read."""
        return frozenset(self._frame.columns)

    def count(self, after: datetime | None, until: datetime) -> int:
        """How many rows have `after < event_time <= until`, and are there now."""
        return max(0, self._until(min(until, self.now)) - (self._until(after) if after else 0))

    def estimate(self, start: datetime, end: datetime) -> int:
        """How many rows have `start <= event_time <= end`, and are there now."""
        times = self._frame[self._spec.source.event_time]
        return max(0, self._until(min(end, self.now)) - int(times.search_sorted(start, side="left")))

    def types(self, columns: Sequence[str], start: datetime, end: datetime) -> Mapping[str, pl.DataType]:
        """The types of these columns, in their order."""
        return {name: self._frame.schema[name] for name in columns}

    def read(
        self,
        columns: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        types: Mapping[str, pl.DataType] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """See Source; labels that have not arrived by now are null."""
        import polars as pl

        label, time = self._spec.label, pl.col(self._spec.source.event_time)
        seen = self._frame.head(self._until(min(end, self.now))).filter(time >= start)
        arrived = time <= self.now - label.arrives_after
        yield seen.with_columns(pl.when(arrived).then(pl.col(label.column)).alias(label.column)).select(columns)

    def seen(self, after: datetime, until: datetime) -> pl.DataFrame:
        """All rows with `after < event_time <= until`, with their labels: whoever takes them must hold these back."""
        return self._frame[self._until(after) : self._until(until)]

    def answered(self, after: datetime, until: datetime) -> pl.DataFrame:
        """The labelled rows with `after < event_time <= until`, whatever is known now: what replay measures on."""
        import polars as pl

        rows = self.seen(after, until)
        label = pl.col(self._spec.label.column)
        return rows.filter(label.is_not_null() & label.cast(pl.Float64).is_not_nan())

    def _until(self, moment: datetime) -> int:
        """How many rows have `event_time <= moment`."""
        return int(self._frame[self._spec.source.event_time].search_sorted(moment, side="right"))


def _read(spec: ModelSpec, source: Source, start: datetime, end: datetime) -> pl.DataFrame:
    import polars as pl

    chunks = [chunk for chunk in source.read(spec.columns, start, end) if chunk.height]
    if not chunks:
        raise EmptyWindow(
            f"{spec.name}: source {spec.source.id}, {start:%Y-%m-%d} to {end:%Y-%m-%d}",
            found="no row",
            allowed="rows of the past that is replayed",
            do="Choose --from and --to within the source's data.",
        )
    return pl.concat(chunks).sort(spec.source.event_time, spec.source.key)
