"""What serving logged as Parquet, with arro3: a twentieth of PyArrow's size, in an image that must stay small."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from arro3.core import Array, ChunkedArray, DataType, Table, list_array
from arro3.io import write_parquet

from evergreen.core import logged_parts as parts
from evergreen.core.records import LoggedRows, Truth, UserMetric

_STRING = DataType.string()
_TIME = DataType.timestamp("ms", tz="UTC")


class ArrowParts:
    """The PartWriter."""

    def predictions(self, batches: Sequence[LoggedRows]) -> bytes:
        """A part of rows of one shape."""
        heights = [len(batch) for batch in batches]
        ids = np.frombuffer(b"".join(batch.ids for batch in batches), np.uint8).reshape(-1, 16)
        columns = {
            parts.ID: _uuids(ids),
            parts.AT: _times(_milliseconds(ids)),
            parts.VERSION: Array.from_numpy(np.repeat(np.array([b.by.version for b in batches], np.int64), heights)),
            parts.RELEASE: _repeated([batch.by.release_id for batch in batches], heights),
            parts.ARM: _repeated([batch.by.arm for batch in batches], heights),
            parts.KEY: _strings([key or None for batch in batches for key in batch.keys or ("",) * len(batch)]),
            **dict(_features(batches)),
            parts.PREDICTION: _predictions(batches),
            parts.UNSEEN: _strings(_unseen(batches)),
        }
        return _parquet(columns)

    def truth(self, records: Sequence[Truth]) -> bytes:
        """A part of ground truth."""
        numbers = [None if isinstance(one.label, str) else float(one.label) for one in records]
        return _parquet(
            {
                parts.ID: _strings([one.inference_id for one in records]),
                parts.LABEL: Array(numbers, type=DataType.float64()),
                parts.LABEL_TEXT: _strings([one.label if isinstance(one.label, str) else None for one in records]),
                parts.AT: _times(np.array([one.at for one in records], np.int64)),
                parts.CALLER: _strings([one.caller or None for one in records]),
            }
        )

    def metrics(self, records: Sequence[UserMetric]) -> bytes:
        """A part of users' metrics."""
        return _parquet(
            {
                parts.NAME: _strings([one.name for one in records]),
                parts.VALUE: Array.from_numpy(np.array([one.value for one in records], np.float64)),
                parts.AT: _times(np.array([one.at for one in records], np.int64)),
                parts.CALLER: _strings([one.caller or None for one in records]),
            }
        )


def _parquet(columns: dict[str, Array]) -> bytes:
    buffer = io.BytesIO()
    write_parquet(Table.from_pydict(columns), buffer, compression="zstd(1)")
    return buffer.getvalue()


def _uuids(ids: np.ndarray) -> Array:
    """16 bytes a row as 8-4-4-4-12 hexadecimal digits."""
    digits = np.frombuffer(ids.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    text = np.full((len(ids), 36), ord("-"), np.uint8)
    for begin, end, shift in ((0, 8, 0), (8, 12, 1), (12, 16, 2), (16, 20, 3), (20, 32, 4)):
        text[:, begin + shift : end + shift] = digits[:, begin:end]
    return _strings(text.reshape(-1).view("S36").astype("U36").tolist())


def _milliseconds(ids: np.ndarray) -> np.ndarray:
    """The first 48 bits of each id."""
    padded = np.zeros((len(ids), 8), np.uint8)
    padded[:, 2:] = ids[:, :6]
    return padded.view(">u8").reshape(-1).astype(np.int64)


def _features(batches: Sequence[LoggedRows]) -> Iterator[tuple[str, Array]]:
    """Each feature's column: numbers, or the names that each batch's own list of categories gives to its positions."""
    matrices = [np.frombuffer(batch.matrix, np.float32).reshape(len(batch), -1) for batch in batches]
    for at, feature in enumerate(batches[0].by.features):
        values = np.concatenate([matrix[:, at] for matrix in matrices])
        if feature.categories is None:
            yield parts.column_of(feature.name), _numbers(values)
        else:
            lists = [batch.by.features[at].categories or () for batch in batches]
            yield parts.column_of(feature.name), _names(values, lists, [len(batch) for batch in batches])


def _numbers(values: np.ndarray) -> Array:
    """NaN, which is a missing value here, as null."""
    missing = np.isnan(values)
    if not missing.any():
        return Array.from_numpy(values)
    with_null = ChunkedArray([Array.from_numpy(values), Array([None], type=DataType.float32())]).combine_chunks()
    return with_null.take(Array.from_numpy(np.where(missing, len(values), np.arange(len(values))).astype(np.uint32)))


def _names(codes: np.ndarray, lists: Sequence[tuple[str, ...]], heights: Sequence[int]) -> Array:
    """Positions as names; all lists, one behind the other, are what is taken from."""
    offsets: dict[tuple[str, ...], int] = {}
    names: list[str | None] = [None]
    for one in lists:
        if one not in offsets:
            offsets[one] = len(names)
            names.extend(one)
    begins = np.repeat(np.array([offsets[one] for one in lists], np.int64), heights)
    missing = np.isnan(codes)
    positions = np.where(missing, 0, np.nan_to_num(codes).astype(np.int64) + begins)
    return Array(names, type=_STRING).take(Array.from_numpy(positions.astype(np.uint32)))


def _predictions(batches: Sequence[LoggedRows]) -> Array:
    values = np.frombuffer(b"".join(batch.predictions for batch in batches), np.float32)
    if not batches[0].outputs:
        return Array.from_numpy(values)
    widths = np.repeat([batch.outputs for batch in batches], [len(batch) for batch in batches])
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    return list_array(Array.from_numpy(offsets), Array.from_numpy(values))


def _unseen(batches: Sequence[LoggedRows]) -> list[str | None]:
    """The categories of each row that training did not see, as JSON."""
    told: list[str | None] = []
    for batch in batches:
        by_row: dict[int, dict[str, str]] = {}
        for row, feature, value in batch.unseen:
            by_row.setdefault(row, {})[feature] = value
        told += [json.dumps(by_row[row], ensure_ascii=False) if row in by_row else None for row in range(len(batch))]
    return told


def _repeated(values: Sequence[str], heights: Sequence[int]) -> Array:
    known = list(dict.fromkeys(values))
    positions = np.repeat(np.array([known.index(value) for value in values], np.uint32), heights)
    return _strings(known).take(Array.from_numpy(positions))


def _times(milliseconds: np.ndarray) -> Array:
    return Array.from_numpy(milliseconds.astype("datetime64[ms]")).cast(_TIME)


def _strings(values: Sequence[Any]) -> Array:
    return Array(values, type=_STRING)
