"""A source in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core import spec


class FakeSource:
    """Rows of one frame, whose event time is Datetime("us", "UTC"). `frame` and `answers` may be changed."""

    def __init__(self, frame: pl.DataFrame, source: spec.Source, *, chunk_rows: int = 50_000) -> None:
        self.frame, self.answers = frame, True
        self._source, self._chunk_rows = source, chunk_rows

    def watermark(self) -> datetime | None:
        """The newest event time, none for an empty source."""
        newest: datetime | None = self._rows([])[self._source.event_time].max()  # type: ignore[assignment]
        return newest

    def columns(self) -> frozenset[str]:
        """The names of all columns that it has."""
        return frozenset(self._rows([]).columns)

    def count(self, after: datetime | None, until: datetime) -> int:
        """How many rows have `after < event_time <= until` (no lower bound for none)."""
        times = self._rows([])[self._source.event_time].drop_nulls()
        return int(((times <= until) & (times > after if after else True)).sum())

    def estimate(self, start: datetime, end: datetime) -> int:
        """How many rows have `start <= event_time <= end`."""
        return int(self._rows([])[self._source.event_time].is_between(start, end).sum())

    def types(self, columns: Sequence[str], start: datetime, end: datetime) -> Mapping[str, pl.DataType]:
        """The types of these columns, in their order."""
        schema = self._rows(columns).schema
        return {name: schema[name] for name in columns}

    def read(
        self,
        columns: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        types: Mapping[str, pl.DataType] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Rows with `start <= event_time <= end`, in order of event time, in bounded chunks."""
        rows = self._rows(columns)
        inside = rows.filter(rows[self._source.event_time].is_between(start, end))
        yield from inside.sort(self._source.event_time).select(columns).iter_slices(self._chunk_rows)

    def _rows(self, columns: Sequence[str]) -> pl.DataFrame:
        where = f"source '{self._source.connection}'"
        if not self.answers:
            raise SourceUnavailable(where, found="no answer", allowed="a database that answers", do="Start it.")
        for name in (*columns, self._source.event_time):
            if name not in self.frame.columns:
                raise SourceError(
                    f"{where}, column '{name}'",
                    found="no such column",
                    allowed=", ".join(self.frame.columns),
                    do="Correct the name in model.yaml, or bring the column back in the source.",
                )
        return self.frame
