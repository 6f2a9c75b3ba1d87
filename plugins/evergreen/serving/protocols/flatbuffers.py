"""As much of the flatbuffer format as the messages of Arrow need, for bytes that nobody vouches for.

Every position is checked against the end of the buffer: whatever the bytes are, reading them ends in a value or in a
ValueError.
"""

from __future__ import annotations

from struct import Struct

import numpy as np

_U16, _I32, _U32 = Struct("<H"), Struct("<i"), Struct("<I")
_SCALARS = {code: Struct(f"<{code}") for code in "?Bhiq"}


class Table:
    """A table at a position of a buffer; its fields are known by their number in the schema."""

    def __init__(self, buffer: memoryview, at: int) -> None:
        self._buffer, self._at = buffer, at
        self._fields = at - self._unpack(_I32, at)
        self._size = self._unpack(_U16, self._fields)

    @classmethod
    def root(cls, buffer: memoryview) -> Table:
        """The buffer's own table."""
        return cls(buffer, _U32.unpack(buffer[:4])[0] if len(buffer) >= 4 else 0)

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return self._where(field) is not None

    def scalar(self, field: int, code: str, default: int = 0) -> int:
        """A number, by its code in the module struct."""
        where = self._where(field)
        return default if where is None else int(self._unpack(_SCALARS[code], where))

    def table(self, field: int) -> Table:
        """Raises ValueError where the field is not there."""
        return Table(self._buffer, self._target(field))

    def tables(self, field: int) -> list[Table]:
        """A vector of tables, empty where the field is not there."""
        if not self.has(field):
            return []
        begin, count = self._vector(field, 4)
        return [Table(self._buffer, at + self._unpack(_U32, at)) for at in range(begin, begin + 4 * count, 4)]

    def text(self, field: int) -> str:
        """A string, empty where the field is not there."""
        if not self.has(field):
            return ""
        begin, count = self._vector(field, 1)
        return str(self._buffer[begin : begin + count], "utf-8")

    def numbers(self, field: int, width: int) -> np.ndarray:
        """A vector of structs of so many 64-bit integers: an array of that many columns."""
        if not self.has(field):
            return np.empty((0, width), np.int64)
        begin, count = self._vector(field, 8 * width)
        return np.frombuffer(self._buffer[begin : begin + 8 * width * count], "<i8").reshape(count, width)

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Where its elements begin, and how many there are: all of them inside of the buffer."""
        at = self._target(field)
        count = self._unpack(_U32, at)
        if at + 4 + size * count > len(self._buffer):
            raise ValueError("a list that ends outside of its message")
        return at + 4, count

    def _target(self, field: int) -> int:
        where = self._where(field)
        if where is None:
            raise ValueError("a message without what belongs into it")
        return where + int(self._unpack(_U32, where))

    def _where(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return None
        offset = self._unpack(_U16, self._fields + entry)
        return self._at + offset if offset else None

    def _unpack(self, kind: Struct, at: int) -> int:
        if not 0 <= at <= len(self._buffer) - kind.size:
            raise ValueError("a position outside of its message")
        value: int = kind.unpack_from(self._buffer, at)[0]
        return value
