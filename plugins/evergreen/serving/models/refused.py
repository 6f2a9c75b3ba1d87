"""The releases that a worker could not load, why, and when each is tried again."""

from __future__ import annotations

import time
from collections.abc import Container

AGAIN = 5.0  # seconds: no memory or no file descriptor now says nothing about later


class Refused:
    """One refusal a model. `texts` is replaced, never changed."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._retry_at: dict[str, float] = {}

    def add(self, name: str, release_id: str, text: str, *, for_good: bool) -> None:
        """Refused, `for_good` until the state file has a higher revision, else for a while."""
        self.texts = {**self.texts, name: text}
        self._ids[name] = release_id
        self._retry_at[name] = float("inf") if for_good else time.monotonic() + AGAIN

    def stands(self, name: str, release_id: str) -> bool:
        """Whether to try this release is of no use yet."""
        return self._ids.get(name) == release_id and time.monotonic() < self._retry_at[name]

    def clear(self, name: str) -> None:
        """It was loaded."""
        if name in self.texts:
            self.keep(self.texts.keys() - {name})

    def keep(self, names: Container[str]) -> None:
        """Forget all others."""
        self.texts = {name: text for name, text in self.texts.items() if name in names}

    def try_all(self) -> None:
        """A new revision: whatever was refused may be mended."""
        self._ids, self._retry_at = {}, {}

    def due(self) -> list[str]:
        """Those to be tried again now."""
        now = time.monotonic()
        return [name for name, at in self._retry_at.items() if now >= at and name in self.texts]
