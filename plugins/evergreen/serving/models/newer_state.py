"""What the state file names that a worker has not read yet: for a moment it is there, and does not answer."""

from __future__ import annotations

from pathlib import Path

from evergreen.serving import state as files
from evergreen.serving.state import PoolState

_Stamp = tuple[int, int] | None


class NewerState:
    """The models in the state file at `path`, where it is newer than what was applied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._applied: _Stamp = None
        self._found: tuple[_Stamp, frozenset[str]] = None, frozenset()

    def applied(self, stamp: _Stamp) -> None:
        """The file with this stamp is what the worker goes by from now on."""
        self._applied = stamp

    def models(self) -> frozenset[str]:
        """All that it names; none where nothing is newer, or it cannot be read (the reader of the file tells that)."""
        stamp = files.stamp(self._path)
        if stamp == self._applied:
            return frozenset()
        if stamp != self._found[0]:
            self._found = stamp, self._read()
        return self._found[1]

    def _read(self) -> frozenset[str]:
        try:
            state = files.read(self._path, PoolState)
        except (ValueError, OSError):
            return frozenset()
        return frozenset(state.models) if state else frozenset()
