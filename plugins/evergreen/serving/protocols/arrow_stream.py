"""Reads Arrow IPC streams as callers send them: the types that a feature can be, and no byte outside of its bounds.

Not by arro3, which writes the answers: bytes that are no stream make it abort, and with it the worker and all whom the
worker was answering; nor by nanoarrow, which ended on changed bytes too (segmentation fault). Compressed
streams are refused: a small one may hold a thousand times what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

import numpy as np

from evergreen.serving.protocols.arrow_types import Batch, Field, field_of
from evergreen.serving.protocols.flatbuffers import Table

_HEAD = Struct("<II")
_CONTINUES, _FILE = 0xFFFFFFFF, b"ARROW1"
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_MOST_VALUES = 8  # a byte of body: that many booleans fit into one


class Stream:
    """A stream's schema, and its rows once they are asked for. Everything raises ValueError for broken bytes."""

    def __init__(self, body: bytes) -> None:
        if body.startswith(_FILE):
            raise ValueError("an Arrow file, which is another format than a stream")
        self._messages, self._size = _messages(memoryview(body)), len(body)
        kind, schema, _ = next(self._messages, (0, None, b""))
        if kind != _SCHEMA or schema is None or schema.scalar(0, "h"):
            raise ValueError("no schema of little-endian columns")
        self.fields = [field_of(table) for table in schema.tables(1)]

    def columns(self) -> tuple[int, list[np.ndarray | list[str | None]]]:
        """The number of rows, and the columns in the order of the fields: arrays of numbers, lists of strings.

        Every field must be numeric or textual. A column of nulls is an array of NaNs.
        """
        parts: list[list[np.ndarray | list[str | None]]] = [[] for _ in self.fields]
        words: dict[int, list[str | None]] = {}
        rows = 0
        for kind, table, body in self._messages:
            if kind == _DICTIONARY:
                self._learn(words, table, body)
            elif kind == _RECORDS:
                batch = Batch(table, body)
                rows += batch.rows
                self._check(batch.rows, rows)
                for part, field in zip(parts, self.fields, strict=True):
                    part.append(_column(batch, field, words))
            else:
                raise ValueError("a message that is neither rows nor a dictionary")
        return rows, [_joined(part) for part in parts]

    def _check(self, in_batch: int, rows: int) -> None:
        if in_batch < 0 or rows * len(self.fields) > _MOST_VALUES * self._size:
            raise ValueError(f"{rows} rows of {len(self.fields)} columns, said to be in {self._size} bytes")

    def _learn(self, words: dict[int, list[str | None]], table: Table, body: memoryview) -> None:
        """A dictionary, in place of the one before or, as a delta, in addition to it."""
        number = table.scalar(0, "q")
        kind = next((field.kind for field in self.fields if field.dictionary == number), None)
        if kind is None:
            raise ValueError("a dictionary of no column")
        batch = Batch(table.table(1), body)
        self._check(batch.rows, batch.rows)
        known = words.get(number, []) if table.scalar(2, "?") else []
        words[number] = [*known, *batch.texts(kind)]


def _column(batch: Batch, field: Field, words: dict[int, list[str | None]]) -> np.ndarray | list[str | None]:
    if field.dictionary is not None:
        return batch.looked_up(field, words.get(field.dictionary, []))
    return batch.numbers(field) if field.is_numeric else batch.texts(field.kind)


def _joined(parts: list[np.ndarray | list[str | None]]) -> np.ndarray | list[str | None]:
    """Of all batches."""
    if len(parts) == 1:
        return parts[0]
    if parts and isinstance(parts[0], np.ndarray):
        return np.concatenate([np.asarray(part) for part in parts])
    return [text for part in parts for text in part]


def _messages(body: memoryview) -> Iterator[tuple[int, Table, memoryview]]:
    """Type, header and body of each message, up to the end of the stream."""
    at = 0
    while at + _HEAD.size <= len(body):
        begin, size = _HEAD.unpack_from(body, at)
        if begin != _CONTINUES:
            raise ValueError(f"no message at byte {at}")
        if size == 0:
            return
        at += _HEAD.size
        message = Table.root(body[at : at + size])
        length = message.scalar(3, "q")
        if size < 8 or length < 0 or at + size + length > len(body):
            raise ValueError("a stream that ends within a message")
        yield message.scalar(1, "B"), message.table(2), body[at + size : at + size + length]
        at += size + length
    if at != len(body):
        raise ValueError("a stream that ends within a message")
