"""A slot's own folder: removed with the slot, and at the next start if the process that had it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def own_folder(folders: Path) -> Iterator[Path]:
    """A folder that is removed with the context. Those that a killed process left here are removed first."""
    folders.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folders / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for folder in folders.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its slot ends just now
                if folder.is_dir() and (left := _lock(folder)):
                    left.close()
                    shutil.rmtree(folder, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=folders))
        held = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held:
            held.close()


def _lock(folder: Path) -> IO[bytes] | None:
    """Lock the folder for the life of this process; none if another one's life has it."""
    lock = (folder / "in-use").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
