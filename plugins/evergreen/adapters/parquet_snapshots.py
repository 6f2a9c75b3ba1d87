"""Snapshots as per-day Parquet parts in the store, named by a hash of what they hold.

The hash is of values, not of files: a newer library may write other bytes for the same rows. Rows are sorted by
(event time, key), and each column is hashed as its name, type, null mask and values with the nulls filled in
(the bytes under an Arrow null are arbitrary). No library row hashes: they change with the version.
A column is brought into that form once for all days, which takes a tenth of the time that day by day does.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from evergreen.core.errors import SourceError
from evergreen.core.records import Part
from evergreen.core.retention import key_hashes_key

if TYPE_CHECKING:
    from evergreen.core.ports import Store

    Pieces: TypeAlias = "Callable[[int, int], bytes | np.ndarray]"  # what is hashed of the rows [start, end)

_PROBE = "a text that is long enough to be hashed in several steps, as keys may be"
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

    def skim(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Some columns of one part, not compared with its hash. SourceError if it cannot be read at all."""
        return self._read_part(part, columns)

    def key_hashes(self, part: Part, key: str) -> np.ndarray:
        """64 bits of each key of a part, in order of its rows: kept beside it, or made anew. SourceError as skim."""
        note = key_hashes_key(part.key, _way_to_hash(key))
        try:
            kept = np.frombuffer(self._store.get(note), "<u8")
        except (KeyError, ValueError):
            kept = np.empty(0, "<u8")
        if len(kept) == part.rows:
            return kept
        made = _hashed(self.skim(part, [key])[key])
        self._store.put(note, made.tobytes())
        return made

    def quarantine(self, model: str, snapshot_id: str, rows: pl.DataFrame) -> str:
        """Keep the rows set aside (with a column `failed_expectation`); returns their key in the store."""
        key = f"quarantine/{model}/{snapshot_id[:16]}-{content_hash(rows)[:16]}.parquet"
        self._store.put(key, _to_parquet(rows))
        return key

    def _write_part(self, model: str, key: str, day: object, rows: pl.DataFrame, digest: str) -> Part:
        part = Part(day, f"snapshots/{model}/{day}-{digest[:32]}.parquet", rows.height, digest)  # type: ignore[arg-type]
        if not self._store.touch(part.key):  # young again: housekeeping goes by age
            self._store.put(part.key, _to_parquet(rows))
            self._store.put(key_hashes_key(part.key, _way_to_hash(key)), _hashed(rows[key]).tobytes())
        return part

    def _read_part(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        try:
            return pl.read_parquet(io.BytesIO(self._store.get(part.key)), columns=list(columns) if columns else None)
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


def _hashed(keys: pl.Series) -> np.ndarray:
    """Of each key 64 bits, little-endian."""
    return keys.hash().to_numpy().astype("<u8", copy=False)


@cache
def _way_to_hash(key: str) -> str:
    """Another library or machine, which hashes otherwise, has another one."""
    way = [*_hashed(pl.Series(["", "a", _PROBE])).tolist(), *_hashed(pl.Series([0, -1, 1 << 40])).tolist()]
    return hashlib.sha256(f"{key} {way}".encode()).hexdigest()


def content_hash(frame: pl.DataFrame) -> str:
    """Hash of a frame's column names, types, nulls and values, in the order of its columns and rows."""
    (digest,) = content_hashes(frame, [frame.height])
    return digest


def content_hashes(frame: pl.DataFrame, heights: Sequence[int]) -> list[str]:
    """The content_hash of each run of so many rows, which together are the frame."""
    spans = list(pairwise(np.cumsum([0, *heights]).tolist()))
    digests = [hashlib.sha256() for _ in spans]
    for column in frame.rechunk().iter_columns():
        forms = _canonical(column)
        for digest, (start, end) in zip(digests, spans, strict=True):
            name = f"{column.name}\0{column.dtype}\0{end - start}\0".encode()
            for piece in (name, *(form(start, end) for form in forms)):
                digest.update(len(piece).to_bytes(8, "little"))
                digest.update(piece)
    return [digest.hexdigest() for digest in digests]


def _canonical(column: pl.Series) -> tuple[Pieces, ...]:
    """The null mask, then the values: little-endian numbers, or lengths and UTF-8 for text."""
    nulls = column.is_null().to_numpy() if column.null_count() else None

    def mask(start: int, end: int) -> bytes:
        return bytes(-(-(end - start) // 8)) if nulls is None else np.packbits(nulls[start:end]).tobytes()

    if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum | pl.Decimal):
        return (mask, *_text(_filled(column.cast(pl.String), "")))
    if not column.dtype.is_numeric():
        column = column.to_physical().cast(pl.Int64)  # times and truth values; fails for what has no order
    values = _filled(column, 0).to_numpy()
    if column.dtype.is_float() and (no_number := np.isnan(values)).any():
        values = np.where(no_number, np.nan, values)  # one NaN of the many
    return mask, _little_endian(values)


def _filled(column: pl.Series, value: float | str) -> pl.Series:
    return column.fill_null(value) if column.null_count() else column  # costs as much where there is none


def _text(column: pl.Series) -> tuple[Pieces, Pieces]:
    arrow = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, letters = arrow.buffers()  # Arrow's large_string: where each text starts and ends, and all letters
    at = np.frombuffer(ends, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    letters_of = np.frombuffer(letters or b"", np.uint8)
    return _little_endian(np.diff(at).astype(np.uint32)), lambda start, end: letters_of[at[start] : at[end]]


def _little_endian(values: np.ndarray) -> Pieces:
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return lambda start, end: values[start:end].view(np.uint8)


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
