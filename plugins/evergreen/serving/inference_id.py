"""Inference ids: UUIDs of version 7 (RFC 9562), which name the millisecond, and so the day, of the answer."""

from __future__ import annotations

import os
import time

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # keeps two random bits


def inference_ids(count: int) -> list[str]:
    """New ids: 48 bits of Unix time in ms, version 7, 12 random bits, variant 2, 62 random bits; in no order."""
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    head, random = f"{stamp[:8]}-{stamp[8:]}-7", os.urandom(10 * count).hex()
    return [
        f"{head}{random[i : i + 3]}-{_VARIANT[random[i + 3]]}{random[i + 4 : i + 7]}-{random[i + 7 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]
