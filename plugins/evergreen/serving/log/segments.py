"""Local files of framed bytes, written by one process and read by another.

A segment is `<id>.seg`, where the id begins with its time. Its writer holds a lock on it, which the kernel lets go
however the writer ends: whoever gets the lock knows that no frame will follow. A frame is its length, a CRC-32 and its
bytes, so that a tail torn by a death in the middle of a write is told from data; such a write never returned.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

FOLDER, SUFFIX = "log", ".seg"
MAGIC = b"evergreen log 1\n"
_HEAD = struct.Struct("<II")  # length, CRC-32


class Damaged(Exception):
    """Raised for a segment that this version of Evergreen did not write."""


def framed(payload: bytes) -> bytes:
    """The payload as a frame."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def made_at(segment_id: str) -> float:
    """When it was opened, in Unix seconds."""
    return int(segment_id[:12], 16) / 1000


class Segment:
    """One that is being written. `numbered` counts what its frames refer to by number."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.size, self.numbered = path, len(MAGIC), 0
        self._descriptor = descriptor

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """A new one, locked before it gets the name by which it is found. Raises OSError, and leaves nothing then."""
        segment_id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
        path, unnamed = folder / f"{segment_id}{SUFFIX}", folder / f".{segment_id}"
        descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.write(descriptor, MAGIC) < len(MAGIC):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            unnamed.rename(path)
        except BaseException:
            os.close(descriptor)
            unnamed.unlink(missing_ok=True)
            raise
        return cls(path, descriptor)

    def append(self, data: bytes) -> None:
        """Write whole frames. Raises OSError where they do not fit; none of them is in the segment then."""
        written = os.write(self._descriptor, data)
        if written < len(data):
            os.ftruncate(self._descriptor, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def close(self) -> None:
        """Nothing follows: it can be shipped."""
        os.close(self._descriptor)


@contextmanager
def finished(path: Path) -> Iterator[IO[bytes] | None]:
    """The segment, opened to be read, if nobody writes it and nobody else reads it; else none. Held for the block."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file if os.fstat(file.fileno()).st_nlink else None  # 0: another has shipped it a moment ago


def payloads(file: IO[bytes]) -> Iterator[bytes]:
    """The payloads of all whole frames, in order. Raises Damaged for another kind of file."""
    begin = file.read(len(MAGIC))
    if begin != MAGIC[: len(begin)]:
        raise Damaged(f"it begins with {begin!r}; allowed: {MAGIC!r}")
    left = os.fstat(file.fileno()).st_size - len(MAGIC)
    while left > _HEAD.size:
        length, checksum = _HEAD.unpack(file.read(_HEAD.size))
        left -= _HEAD.size + length
        if left < 0:
            return
        payload = file.read(length)
        if zlib.crc32(payload) != checksum:
            return
        yield payload
