"""Hashes of the keys of a part as a note beside it: sha256 of whose they are and of them, then 64 bits of each key."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from evergreen.core.records import Part

_SEAL = hashlib.sha256().digest_size
_PROBE = "a text that is long enough to be hashed in several steps, as keys may be"


def hashed(keys: pl.Series) -> np.ndarray:
    """Of each key 64 bits, little-endian."""
    return keys.hash().to_numpy().astype("<u8", copy=False)


@cache
def way_to_hash(key: str) -> str:
    """Another library or machine, which hashes otherwise, has another one."""
    way = [*hashed(pl.Series(["", "a", _PROBE])).tolist(), *hashed(pl.Series([0, -1, 1 << 40])).tolist()]
    return hashlib.sha256(f"{key} {way}".encode()).hexdigest()


def to_note(part: Part, key: str, hashes: np.ndarray) -> bytes:
    """What is kept."""
    held = hashes.tobytes()
    return _seal(part, key, held) + held


def from_note(part: Part, key: str, note: bytes) -> np.ndarray | None:
    """The hashes in a note; None if it was damaged, or is one of another part, key or way to hash."""
    held = memoryview(note)[_SEAL:]
    return np.frombuffer(held, "<u8") if note[:_SEAL] == _seal(part, key, held) else None


def _seal(part: Part, key: str, held: bytes | memoryview) -> bytes:
    seal = hashlib.sha256(f"{part.sha256} {way_to_hash(key)} ".encode())
    seal.update(held)
    return seal.digest()
