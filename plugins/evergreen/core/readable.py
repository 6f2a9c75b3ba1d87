"""Lengths of time as people read them."""

from __future__ import annotations

from datetime import timedelta


def readable_age(age: timedelta) -> str:
    """'45 s', '12 min', '3 h' or '5 d'."""
    seconds = max(0, int(age.total_seconds()))
    for unit, size, below in (("s", 1, 120), ("min", 60, 120), ("h", 3_600, 48)):
        if seconds // size < below:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"
