"""Snapshots as per-day Parquet parts in the store, named by a hash of what they hold.

The hash is of values, not of files: a newer library may write other bytes for the same rows. Rows are sorted by
(event time, key), and each column is hashed as its name, type, null mask and values with the nulls filled in
(the bytes under an Arrow null are arbitrary). No library row hashes: they change with the version.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from evergreen.core.errors import SourceError
from evergreen.core.records import Part

if TYPE_CHECKING:
    from evergreen.core.ports import Store


class ParquetSnapshots:
    """Parts at 'snapshots/<model>/<day>-<hash>.parquet', shared by all snapshots that hold the same day."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, model: str, frame: pl.DataFrame, event_time: str, key: str) -> tuple[Part, ...]:
        """Split by day of event time (UTC), sort by (event time, key), hash, store what is not there yet."""
        ordered = frame.sort(event_time, key)
        days = ordered.group_by(pl.col(event_time).dt.date().alias("day"), maintain_order=True)
        return tuple(self._write_part(model, day, rows) for (day,), rows in days)  # type: ignore[misc]

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The parts' rows, in order of day. SourceError if a stored part's hash is not the recorded one."""
        frames = [self._read_part(part) for part in sorted(parts, key=lambda part: part.day)]
        return pl.concat([frame.select(columns) if columns else frame for frame in frames])

    def quarantine(self, model: str, snapshot_id: str, rows: pl.DataFrame) -> str:
        """Keep the rows set aside (with a column `failed_expectation`); returns their key in the store."""
        key = f"quarantine/{model}/{snapshot_id[:16]}-{content_hash(rows)[:16]}.parquet"
        self._store.put(key, _to_parquet(rows))
        return key

    def _write_part(self, model: str, day: object, rows: pl.DataFrame) -> Part:
        digest = content_hash(rows)
        part = Part(day, f"snapshots/{model}/{day}-{digest[:32]}.parquet", rows.height, digest)  # type: ignore[arg-type]
        if not self._store.exists(part.key):
            self._store.put(part.key, _to_parquet(rows))
        return part

    def _read_part(self, part: Part) -> pl.DataFrame:
        try:
            frame = pl.read_parquet(io.BytesIO(self._store.get(part.key)))
        except KeyError:
            raise _damaged(part, "no such file in the store") from None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
            raise _damaged(part, f"a file that is no readable Parquet ({str(error)[:80]})") from error
        if (digest := content_hash(frame)) != part.sha256:
            raise _damaged(part, f"rows with hash {digest[:12]}…")
        return frame


def content_hash(frame: pl.DataFrame) -> str:
    """Hash of a frame's column names, types, nulls and values, in the order of its columns and rows."""
    digest = hashlib.sha256()
    for column in frame.rechunk().iter_columns():
        for piece in (f"{column.name}\0{column.dtype}\0{len(column)}\0".encode(), *_canonical(column)):
            digest.update(len(piece).to_bytes(8, "little"))
            digest.update(piece)
    return digest.hexdigest()


def _canonical(column: pl.Series) -> list[bytes]:
    """The null mask, then the values: little-endian numbers, or lengths and UTF-8 for text."""
    mask = np.packbits(column.is_null().to_numpy()).tobytes()
    if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum | pl.Decimal):
        text = column.cast(pl.String).fill_null("")
        return [mask, _little_endian(text.str.len_bytes()), text.str.join("").item().encode()]
    if column.dtype.is_float():
        column = column.fill_nan(float("nan"))  # one NaN of the many
    elif not column.dtype.is_integer():
        column = column.to_physical().cast(pl.Int64)  # times and truth values; fails for what has no order
    return [mask, _little_endian(column.fill_null(0))]


def _little_endian(column: pl.Series) -> bytes:
    values = column.to_numpy()
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _to_parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _damaged(part: Part, found: str) -> SourceError:
    return SourceError(
        f"snapshot part {part.key}",
        found=found,
        allowed=f"{part.rows} rows with hash {part.sha256[:12]}…",
        do="The file was changed or damaged after it was written. Remove it from the store and start the run "
        "again: pull writes it anew from the source.",
    )
