"""Keeps the components' logs small: a copy, and an emptied file, since the components hold theirs open to append."""

from __future__ import annotations

import shutil
from pathlib import Path

LIMIT = 10_000_000  # bytes
KEPT = 3


def rotate(folder: Path, *, limit: int = LIMIT, kept: int = KEPT) -> list[str]:
    """Rotate each '<name>.log' above `limit` bytes: the newest copy is '<name>.log.1', the oldest `kept`.

    Returns the names of those that were. A line that is written between copy and emptying is lost.
    """
    large = [file for file in sorted(folder.glob("*.log")) if file.stat().st_size > limit]
    for file in large:
        for number in range(kept - 1, 0, -1):
            if (older := _copy(file, number)).exists():
                older.replace(_copy(file, number + 1))
        draft = file.with_name(f"{file.name}.new")
        shutil.copyfile(file, draft)
        draft.replace(_copy(file, 1))
        with file.open("r+b") as open_file:
            open_file.truncate(0)
    return [file.name for file in large]


def _copy(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")
