"""Which models a worker had loaded, kept over its restarts: these are loaded before it answers again."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from evergreen.serving import state as files
from evergreen.serving.models.usage import Used
from evergreen.serving.state import Recent

MOST = 32  # models; more would hold up the first answer
_EVERY = 5.0  # seconds between two writes at least
_log = logging.getLogger(__name__)


class RecentModels:
    """A worker's `recent-<slot>.json`. It is a help and no more: what goes wrong with it is only told in the log."""

    def __init__(self, folder: Path, slot: str) -> None:
        self._path = folder / f"recent-{slot}.json"
        self._written: list[str] | None = None
        self._next = 0.0

    def names(self) -> list[str]:
        """Those of the last run, asked last first; none if it is not known."""
        try:
            found = files.read(self._path, Recent)
        except (ValueError, OSError) as error:
            _log.warning("%s cannot be read (%s); the models released last are loaded first", self._path.name, error)
            return []
        return found.names if found else []

    def keep(self, models: Mapping[str, Used]) -> None:
        """Write the list anew if it has changed, now and then."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        names = sorted(models, key=lambda name: -models[name].usage.asked_at)[:MOST]
        if names == self._written:
            return
        try:
            files.write(self._path, Recent(names))
        except OSError as error:
            _log.debug("%s cannot be written: %s", self._path, error.strerror)
        self._written = names
