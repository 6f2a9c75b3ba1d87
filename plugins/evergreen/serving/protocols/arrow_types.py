"""The types of Arrow columns that a model's features can be, and their values, read within the bounds of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evergreen.serving.protocols.flatbuffers import Table

_NAMES = (
    "none", "Null", "Int", "Float", "Binary", "Utf8", "Bool", "Decimal", "Date", "Time", "Timestamp", "Interval",
    "List", "Struct", "Union", "FixedSizeBinary", "FixedSizeList", "Map", "Duration", "LargeBinary", "LargeUtf8",
    "LargeList", "RunEndEncoded", "BinaryView", "Utf8View", "ListView", "LargeListView",
)  # fmt: skip
_TEXTS = {"Utf8": "<i4", "LargeUtf8": "<i8", "Utf8View": ""}
_VIEW, _INLINE = 16, 12  # bytes of a view, and of the text that it holds itself


@dataclass(frozen=True)
class Field:
    """A column of a stream: its type's name, its numbers' dtype if it has some, its dictionary if it is encoded."""

    name: str
    kind: str
    dtype: str = ""
    dictionary: int | None = None

    @property
    def is_numeric(self) -> bool:
        """Floats, integers, booleans, and a column of nulls."""
        return self.dictionary is None and (bool(self.dtype) or self.kind in ("Bool", "Null"))

    @property
    def is_textual(self) -> bool:
        """Strings, dictionary-encoded or not, and a column of nulls."""
        return self.kind in _TEXTS or (self.kind == "Null" and self.dictionary is None)


def field_of(table: Table) -> Field:
    """A field of a schema. Raises ValueError."""
    number = table.scalar(2, "B")
    kind = _NAMES[number] if number < len(_NAMES) else f"number {number}"
    dtype = _dtype(table.table(3), kind) if kind in ("Int", "Float") else ""
    name = table.text(0)
    if not table.has(4):
        return Field(name, f"{kind}{_bits_of(dtype)}", dtype)
    encoding = table.table(4)
    index = _dtype(encoding.table(1), "Int") if encoding.has(1) else "<i4"
    return Field(name, f"{kind}{_bits_of(dtype)}", index, encoding.scalar(0, "q"))


def _dtype(kind: Table, name: str) -> str:
    if name == "Float":
        return {0: "<f2", 1: "<f4", 2: "<f8"}[kind.scalar(0, "h") % 3]
    bits, sign = kind.scalar(0, "i"), "i" if kind.scalar(1, "?") else "u"
    if bits not in (8, 16, 32, 64):
        raise ValueError(f"integers of {bits} bits")
    return f"<{sign}{bits // 8}"


def _bits_of(dtype: str) -> str:
    return str(8 * int(dtype[-1])) if dtype else ""


class Batch:
    """Rows of a stream: hands out the columns in the order of the schema. All raise ValueError."""

    def __init__(self, table: Table, body: memoryview) -> None:
        if table.has(3):
            raise ValueError("compressed buffers")
        self.rows = table.scalar(0, "q")
        self._nodes, self._buffers = iter(table.numbers(1, 2).tolist()), iter(table.numbers(2, 2).tolist())
        self._variadic = iter(table.numbers(4, 1).ravel().tolist())
        self._body = body

    def numbers(self, field: Field) -> np.ndarray:
        """The values, null as NaN."""
        values, valid = self.fixed(field.kind if field.dictionary is None else "", field.dtype)
        if valid is None:
            return values
        with np.errstate(over="ignore"):
            return np.where(valid, values.astype(np.float32), np.float32(np.nan))

    def fixed(self, kind: str, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Values of a fixed size, and which of them are valid (none: all)."""
        if kind == "Null":
            self._nulls()
            return np.full(self.rows, np.nan, np.float32), None
        valid = self._valid()
        raw = self._buffer()
        return (_bits(raw, self.rows) if kind == "Bool" else _array(raw, dtype, self.rows)), valid

    def texts(self, kind: str) -> list[str | None]:
        """Strings, null as none."""
        if kind == "Null":
            self._nulls()
            return [None] * self.rows
        valid = self._valid()
        found = self._views() if kind == "Utf8View" else self._offsets(_TEXTS[kind])
        return found if valid is None else [text if ok else None for text, ok in zip(found, valid, strict=True)]

    def looked_up(self, field: Field, words: Sequence[str | None]) -> list[str | None]:
        """The words at the indices of a dictionary-encoded column."""
        at, valid = self.fixed("", field.dtype)
        at = at if valid is None else np.where(valid, at, len(words))
        if len(at) and not 0 <= int(at.min()) <= int(at.max()) < len(words) + (valid is not None):
            raise ValueError("an index outside of its dictionary")
        return list(np.array([*words, None], dtype=object)[at.astype(np.int64)])

    def _nulls(self) -> int:
        """How many values of the next column are null."""
        length, nulls = next(self._nodes, (-1, 0))
        if length != self.rows:
            raise ValueError("a column of another length than its batch")
        return int(nulls)

    def _buffer(self) -> memoryview:
        begin, size = next(self._buffers, (0, -1))
        if begin < 0 or size < 0 or begin + size > len(self._body):
            raise ValueError("a buffer outside of its message")
        return self._body[begin : begin + size]

    def _valid(self) -> np.ndarray | None:
        nulls, raw = self._nulls(), self._buffer()
        return _bits(raw, self.rows).astype(bool) if nulls and len(raw) else None

    def _offsets(self, dtype: str) -> list[str | None]:
        """Strings one after the other. They may not overlap: a few bytes could be claimed to be any amount of text."""
        offsets, raw = self._buffer(), self._buffer()
        if not self.rows:
            return []
        at = _array(offsets, dtype, self.rows + 1).astype(np.int64)
        if at[0] < 0 or at[-1] > len(raw) or (np.diff(at) < 0).any():
            raise ValueError("strings outside of their buffer")
        edges = at.tolist()
        return [str(raw[begin:end], "utf-8") for begin, end in pairwise(edges)]

    def _views(self) -> list[str | None]:
        """Short strings in place, long ones in buffers, where each piece is read once."""
        views = self._buffer()
        longer = [self._buffer() for _ in range(min(next(self._variadic, 0), len(self._body)))]
        if len(views) < _VIEW * self.rows:
            raise ValueError("a buffer that is too short")
        read: dict[tuple[int, int, int], str] = {}
        found: list[str | None] = []
        left = len(self._body)
        heads = _array(views, "<i4", 4 * self.rows).reshape(-1, 4).tolist()
        for row, (size, _, buffer, begin) in enumerate(heads):
            if 0 <= size <= _INLINE:
                found.append(str(views[_VIEW * row + 4 : _VIEW * row + 4 + size], "utf-8"))
                continue
            piece = (buffer, begin, size)
            if piece not in read:
                left -= size
                if min(piece) < 0 or buffer >= len(longer) or begin + size > len(longer[buffer]) or left < 0:
                    raise ValueError("strings outside of their buffer")
                read[piece] = str(longer[buffer][begin : begin + size], "utf-8")
            found.append(read[piece])
        return found


def _array(raw: memoryview, dtype: str, count: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize * count
    if len(raw) < size:
        raise ValueError("a buffer that is too short")
    return np.frombuffer(raw[:size], dtype)


def _bits(raw: memoryview, count: int) -> np.ndarray:
    return np.unpackbits(_array(raw, "u1", -(-count // 8)), bitorder="little")[:count]
