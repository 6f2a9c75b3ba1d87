"""Inference ids: UUIDs of version 7 (RFC 9562), which name the millisecond, and so the day, of the answer."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def inference_id() -> str:
    """A new id: 48 bits of Unix time in ms, version 7, 12 random bits, variant 2, 62 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1))
