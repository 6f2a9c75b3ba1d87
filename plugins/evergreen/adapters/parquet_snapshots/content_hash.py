"""A hash of what a frame holds, the same for the same values whatever library wrote or read them.

Each column is hashed as its name, type, null mask and values with the nulls filled in (the bytes under an Arrow null
are arbitrary). No library row hashes: they change with the version. A column is brought into that form once for all
days, which takes a tenth of the time that day by day does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import polars as pl

Pieces: TypeAlias = Callable[[int, int], "bytes | np.ndarray"]  # what is hashed of the rows [start, end)


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
