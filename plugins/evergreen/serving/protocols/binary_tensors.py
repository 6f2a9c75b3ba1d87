"""The binary tensor extension of the Open Inference Protocol: JSON first, then the tensors' bytes, one after the other.

The header Inference-Header-Content-Length says where the JSON ends. Numbers are little-endian, in row-major order; an
element of a BYTES tensor is its length as 4 bytes, then so many bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

import numpy as np

from evergreen.serving.protocols.endpoint import Headers
from evergreen.serving.refusals import RequestRefused, refuse, shown

LENGTH = b"inference-header-content-length"
SIZE = "binary_data_size"
DTYPES: Mapping[str, np.dtype[Any]] = {
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("u1"),
}
_PREFIX = Struct("<I")


def split(body: bytes, headers: Headers) -> tuple[bytes, memoryview]:
    """A body's JSON and the bytes behind it. Raises RequestRefused (400) where the header tells no such length."""
    given = headers.get(LENGTH)
    if given is None:
        return body, memoryview(b"")
    length = int(given) if given.isdigit() and len(given) < 20 else -1
    if not 0 < length <= len(body):
        raise refuse(
            400,
            "header Inference-Header-Content-Length",
            found=shown(given.decode("latin-1")),
            allowed=f"the number of bytes of JSON that the body begins with, 1 to {len(body)}",
            do="Send the length of the JSON before the binary tensors, or leave the header out where there are none.",
        )
    return body[:length], memoryview(body)[length:]


class Tail:
    """The bytes behind the JSON, given out in the order of the inputs."""

    def __init__(self, raw: memoryview) -> None:
        self._raw, self._at = raw, 0

    def take(self, name: str, size: Any) -> memoryview:
        """The next tensor's bytes. Raises RequestRefused (400): after a wrong size no later tensor can be found."""
        left = len(self._raw) - self._at
        if type(size) is not int or not 0 <= size <= left:
            raise _misplaced(f"input '{name[:60]}', {SIZE}", shown(size), f"0 to {left}, the bytes that are left")
        self._at += size
        return self._raw[self._at - size : self._at]

    def end(self) -> None:
        """All must have been given out. Raises RequestRefused (400)."""
        if left := len(self._raw) - self._at:
            raise _misplaced("body", f"{left} bytes that belong to no input", f"a {SIZE} for each binary tensor")


def numbers(raw: memoryview, datatype: str) -> np.ndarray:
    """A flat array over these bytes, not copied; booleans as 1 and 0. Raises ValueError for a part of an element."""
    dtype = DTYPES[datatype]
    if len(raw) % dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes, not a multiple of {dtype.itemsize}")
    array = np.frombuffer(raw, dtype)
    return (array != 0).view("u1") if datatype == "BOOL" else array


def texts(raw: memoryview, empty: str | None) -> list[str | None]:
    """The elements of a BYTES tensor; `empty` stands for one of no bytes. Raises ValueError for what is none."""
    found: list[str | None] = []
    at, end = 0, len(raw)
    while at < end:
        if at + _PREFIX.size > end:
            raise ValueError(f"{end - at} bytes after the last element")
        (length,) = _PREFIX.unpack_from(raw, at)
        at += _PREFIX.size + length
        if at > end:
            raise ValueError(f"an element of {length} bytes where {length - at + end} are left")
        found.append(str(raw[at - length : at], "utf-8") if length else empty)
    return found


def _misplaced(where: str, found: str, allowed: str) -> RequestRefused:
    do = "The sizes of all inputs together are the bytes after the JSON."
    return refuse(400, where, found=found, allowed=allowed, do=do)
