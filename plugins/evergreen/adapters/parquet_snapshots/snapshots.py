"""Snapshots as per-day Parquet parts in the store, named by a hash of what they hold.

The hash is of values (content_hash), not of files: a newer library may write other bytes for the same rows. Rows are
sorted by (event time, key).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from evergreen.adapters.parquet_snapshots.content_hash import content_hash, content_hashes
from evergreen.adapters.parquet_snapshots.key_hashes import from_note, hashed, to_note, way_to_hash
from evergreen.core.errors import SourceError
from evergreen.core.records import Part
from evergreen.core.retention import key_hashes_key

if TYPE_CHECKING:
    from evergreen.core.ports import Store

_WRITERS = 4  # threads: a write waits for the disk, or for the object store


class ParquetSnapshots:
    """Parts at 'snapshots/<model>/<day>-<hash>.parquet', shared by all snapshots that hold the same day."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, model: str, frame: pl.DataFrame, event_time: str, key: str) -> tuple[Part, ...]:
        """Split by day of event time (UTC), sort by (event time, key), hash, store what is not there yet."""
        ordered = _in_order(frame, event_time, key).rechunk()
        runs = ordered[event_time].dt.date().rle().struct.unnest()
        days, heights = runs["value"].to_list(), runs["len"].to_list()
        ends = np.cumsum(heights).tolist()
        frames = [ordered[end - height : end] for end, height in zip(ends, heights, strict=True)]
        with ThreadPoolExecutor(_WRITERS) as writers:
            hashes = content_hashes(ordered, heights)
            return tuple(writers.map(partial(self._write_part, model, key), days, frames, hashes))

    def touch(self, part: Part) -> bool:
        """Whether a part that was written before is there; it is needed again, so it counts as new."""
        return self._store.touch(part.key)

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The parts' rows, in order of day. SourceError if a stored part's hash is not the recorded one."""
        read = [(part, self._read_part(part)) for part in sorted(parts, key=lambda part: part.day)]
        frames = [_checked(list(alike)) for _, alike in groupby(read, key=lambda one: one[1].schema)]
        return pl.concat([frame.select(columns) if columns else frame for frame in frames])

    def each(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The same part by part, one in memory at a time. SourceError comes with the part that it is about."""
        for part in sorted(parts, key=lambda part: part.day):
            frame = _checked([(part, self._read_part(part))])
            yield frame.select(columns) if columns else frame

    def skim(self, part: Part, columns: Sequence[str] | None = None, rows: int | None = None) -> pl.DataFrame:
        """Some columns of one part, or of its first rows, not compared with its hash. SourceError if it cannot be read
        at all.
        """
        return self._read_part(part, columns, rows)

    def key_hashes(self, part: Part, key: str) -> np.ndarray:
        """64 bits of each key of a part, in order of its rows: kept beside it, or made anew. SourceError as skim, or
        where it holds another number of rows than it should.
        """
        try:
            kept = from_note(part, key, self._store.get(key_hashes_key(part.key, way_to_hash(key))))
        except KeyError:
            kept = None
        if kept is not None:
            return kept
        keys = self.skim(part, [key])[key]
        if len(keys) != part.rows:
            raise _damaged(part, f"{len(keys)} rows")
        return self._note_hashes(part, keys)

    def quarantine(self, model: str, snapshot_id: str, rows: pl.DataFrame) -> str:
        """Keep the rows set aside (with a column `failed_expectation`); returns their key in the store."""
        key = f"quarantine/{model}/{snapshot_id[:16]}-{content_hash(rows)[:16]}.parquet"
        self._store.put(key, _to_parquet(rows))
        return key

    def _write_part(self, model: str, key: str, day: object, rows: pl.DataFrame, digest: str) -> Part:
        part = Part(day, f"snapshots/{model}/{day}-{digest[:32]}.parquet", rows.height, digest)  # type: ignore[arg-type]
        if not self._store.touch(part.key):  # young again: housekeeping goes by age
            self._store.put(part.key, _to_parquet(rows))
            self._note_hashes(part, rows[key])
        return part

    def _note_hashes(self, part: Part, keys: pl.Series) -> np.ndarray:
        hashes = hashed(keys)
        self._store.put(key_hashes_key(part.key, way_to_hash(keys.name)), to_note(part, keys.name, hashes))
        return hashes

    def _read_part(self, part: Part, columns: Sequence[str] | None = None, rows: int | None = None) -> pl.DataFrame:
        chosen = list(columns) if columns else None
        try:
            return pl.read_parquet(io.BytesIO(self._store.get(part.key)), columns=chosen, n_rows=rows)
        except KeyError:
            raise _damaged(part, "no such file in the store") from None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
            raise _damaged(part, f"a file that is no readable Parquet ({str(error)[:80]})") from error


def _checked(read: Sequence[tuple[Part, pl.DataFrame]]) -> pl.DataFrame:
    """The rows of parts with the same columns. Raises SourceError for one whose hash is not the recorded one."""
    frame = pl.concat([rows for _, rows in read], rechunk=True)
    digests = content_hashes(frame, [rows.height for _, rows in read])
    for (part, _), digest in zip(read, digests, strict=True):
        if digest != part.sha256:
            raise _damaged(part, f"rows with hash {digest[:12]}…")
    return frame


def _in_order(frame: pl.DataFrame, event_time: str, key: str) -> pl.DataFrame:
    """Sorted by (event time, key). Many sources give them so, and looking takes a tenth of the time of sorting."""
    at, keys = frame[event_time], frame[key]
    if (keys.dtype == pl.String or keys.dtype.is_integer()) and not at.null_count() and not keys.null_count():
        ahead = (at[1:] > at[:-1]) | ((at[1:] == at[:-1]) & (keys[1:] >= keys[:-1]))
        if ahead.all():
            return frame
    return frame.sort(event_time, key)


def _to_parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="lz4")  # zstd: an eighth smaller, twice the time to read, and more to write
    return buffer.getvalue()


def _damaged(part: Part, found: str) -> SourceError:
    return SourceError(
        f"snapshot part {part.key}",
        found=found,
        allowed=f"{part.rows} rows with hash {part.sha256[:12]}…",
        do="The file was changed or damaged after it was written. Remove it from the store and start the run "
        "again: pull writes it anew from the source.",
    )
