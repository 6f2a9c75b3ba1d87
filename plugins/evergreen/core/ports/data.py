"""The source of a model's rows, the store of files, and the snapshots in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.records import Part


class Source(Protocol):
    """Where a model's rows come from. Raises SourceUnavailable when it does not answer, SourceError when a
    named column is missing or `event_time` is no time."""

    def watermark(self) -> datetime | None:
        """The newest event time, none for an empty source."""

    def columns(self) -> frozenset[str]:
        """The names of all columns that it has."""

    def count(self, after: datetime | None, until: datetime) -> int:
        """How many rows have `after < event_time <= until` (no lower bound for none)."""

    def estimate(self, start: datetime, end: datetime) -> int:
        """About how many rows have `start <= event_time <= end`, asked in the cheapest way that the source knows."""

    def types(self, columns: Sequence[str], start: datetime, end: datetime) -> Mapping[str, pl.DataType]:
        """The types of these columns, in their order, in all rows with `start <= event_time <= end`."""

    def read(
        self,
        columns: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        types: Mapping[str, pl.DataType] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Rows with `start <= event_time <= end`, in order of event time, in bounded chunks.

        `event_time` comes as Datetime("us", "UTC"); the types of one column agree over all chunks. `types` are those
        of a longer stretch (see types): where only a part of it is read, they must not be told from the part.
        """


@dataclass(frozen=True)
class StoredFile:
    """A file of the store: its size in bytes, and when it was last written or touched (UTC)."""

    key: str
    size: int
    modified: datetime


class Store(Protocol):
    """Immutable files by key ('snapshots/…', 'bundles/…'). A write is seen whole or not at all."""

    def put(self, key: str, data: bytes) -> None:
        """Write a file; writing the same key again replaces it in one step."""

    def get(self, key: str) -> bytes:
        """Read a file; KeyError if there is none."""

    def exists(self, key: str) -> bool:
        """Whether the file is there."""

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with the prefix, sorted."""

    def listing(self, prefix: str) -> list[StoredFile]:
        """The files whose keys start with the prefix, sorted by key."""

    def touch(self, key: str) -> bool:
        """Make a file as young as one written now: it is needed again. False if there is none."""

    def remove(self, key: str) -> None:
        """Remove a file; nothing happens if there is none."""

    def sweep(self, before: datetime, *, dry_run: bool = False) -> list[StoredFile]:
        """Remove what writes that were killed before then have left behind, or only list it; returns what it is."""


class Snapshots(Protocol):
    """Frames to and from per-day Parquet parts in the store; hashes as DESIGN semantics 7 says."""

    def write(self, model: str, frame: pl.DataFrame, event_time: str, key: str) -> tuple[Part, ...]:
        """Split by day of event time (UTC), sort by (event time, key), hash, store what is not there yet."""

    def touch(self, part: Part) -> bool:
        """Whether a part that was written before is there; it is needed again, so it counts as new."""

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The parts' rows, in order of day. SourceError if a stored part's hash is not the recorded one."""

    def each(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The same part by part, one in memory at a time. SourceError comes with the part that it is about."""

    def skim(self, part: Part, columns: Sequence[str] | None = None, rows: int | None = None) -> pl.DataFrame:
        """Some columns of one part, or of its first `rows`, not compared with its hash: for what is only looked at,
        never kept or learned from. SourceError if it cannot be read at all.
        """

    def key_hashes(self, part: Part, key: str) -> np.ndarray:
        """64 bits of each key of a part, in order of its rows; equal keys of any parts have equal ones. As skim."""

    def quarantine(self, model: str, snapshot_id: str, rows: pl.DataFrame) -> str:
        """Keep the rows set aside (with a column `failed_expectation`); returns their key in the store."""
