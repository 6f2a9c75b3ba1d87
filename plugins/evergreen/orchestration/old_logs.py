"""Removes task logs that nobody reads any more."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

_FRESH = timedelta(days=1)  # an empty folder that is younger may be about to get its first file


@dataclass
class Removed:
    """How many files with how many bytes, and how many folders."""

    files: int = 0
    size: int = 0
    folders: int = 0

    def __str__(self) -> str:
        return f"{self.files:,} log files with {self.size / 1e6:,.1f} MB and {self.folders:,} empty folders"


def remove_old(folder: Path, *, before: datetime, now: datetime) -> Removed:
    """Remove files last written before then, at any depth, and empty folders that are older than a day.

    Links are not followed: one goes when it is old itself. What vanishes meanwhile is nobody's error.
    """
    done = Removed()
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _remove_file(Path(place, name), before.timestamp(), done)
        if Path(place) != folder and Path(place).stat().st_mtime < (now - _FRESH).timestamp():
            with contextlib.suppress(OSError):  # not empty
                Path(place).rmdir()
                done.folders += 1
    return done


def _remove_file(file: Path, before: float, done: Removed) -> None:
    facts = file.lstat()
    if facts.st_mtime < before:
        file.unlink()
        done.files += 1
        done.size += facts.st_size
