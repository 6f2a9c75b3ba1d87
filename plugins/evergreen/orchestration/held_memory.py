"""How much memory a step holds: its own process, and those that it has forked.

Counted is memory that no file backs. A forked process has all of its parent's at first, copy on write: what it was born
with counts once, what it holds beyond that counts for each. Pages that it was born with and has written to since count
once too, though they are two by then. The kernel knows better (PSS, in smaps_rollup), but tells nobody but root of
Airflow's processes, which are undumpable. Programs that a step has started (trials of a tuning, workers of a cluster)
have limits of their own, and are not counted: their command line is another one.
"""

from __future__ import annotations

import contextlib

import psutil

MB = 1e6


class HeldMemory:
    """Of the process with this id, which has just been forked."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._own = 0.0
        self._born_with: dict[psutil.Process, float] = {}

    def look(self) -> float:
        """So many MB now, as far as is known: processes may end meanwhile. About a millisecond."""
        before = self._own
        with contextlib.suppress(psutil.Error):
            self._own = _anonymous(self._process)
        beyond = 0.0
        born_with = {}
        for process in self._forked():
            with contextlib.suppress(psutil.Error):
                held = _anonymous(process)
                born_with[process] = min(held, self._born_with.get(process, max(before, self._own)))
                beyond += held - born_with[process]
        self._born_with = born_with
        return max(self._own, *born_with.values(), 0.0) + beyond

    def kill_forked(self) -> None:
        """End what the process had forked when it was last looked at: it may be gone itself."""
        for process in self._born_with:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _forked(self) -> list[psutil.Process]:
        try:
            called = self._process.cmdline()
            return [one for one in self._process.children(recursive=True) if _command(one) == called]
        except psutil.Error:
            return []


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _anonymous(process: psutil.Process) -> float:
    memory = process.memory_info()
    return float(memory.rss - memory.shared) / MB
