"""A temporary folder that goes with its fit, also after an error; what a killed fit left goes with the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FRESH, _HELD, _LOCK = "new-", "fit-", "lock"


@contextlib.contextmanager
def scratch(within: Path) -> Iterator[Path]:
    """An empty folder, below `within`. The kernel lets go of its lock when the process ends, however it does."""
    within.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(within)
    fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=within))
    with _locked(fresh / _LOCK):
        folder = fresh.rename(within / fresh.name.replace(_FRESH, _HELD, 1))  # is swept from now on, if not locked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Raises BlockingIOError where another process has it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(within: Path) -> None:
    for folder in within.glob(f"{_HELD}*"):
        with contextlib.suppress(OSError), _locked(folder / _LOCK):  # OSError: it is in use, or another one sweeps it
            shutil.rmtree(folder, ignore_errors=True)
