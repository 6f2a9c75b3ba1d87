"""The store in memory."""

from __future__ import annotations

from datetime import UTC, datetime

from evergreen.core.ports import StoredFile


class InMemoryStore:
    """Files in a dictionary, and when each was written."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}

    def put(self, key: str, data: bytes) -> None:
        """Write a file; writing the same key again replaces it."""
        _check(key)
        self.files[key] = bytes(data)
        self.modified[key] = datetime.now(UTC)

    def get(self, key: str) -> bytes:
        """Read a file; KeyError if there is none."""
        return self.files[key]

    def exists(self, key: str) -> bool:
        """Whether the file is there."""
        return key in self.files

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with the prefix, sorted."""
        return sorted(key for key in self.files if key.startswith(prefix))

    def listing(self, prefix: str) -> list[StoredFile]:
        """The files whose keys start with the prefix, sorted by key."""
        return [StoredFile(key, len(self.files[key]), self.modified[key]) for key in self.keys(prefix)]

    def touch(self, key: str) -> bool:
        """Make a file as young as one written now. False if there is none."""
        if key in self.files:
            self.modified[key] = datetime.now(UTC)
        return key in self.files

    def remove(self, key: str) -> None:
        """Remove a file; nothing happens if there is none."""
        _check(key)
        self.files.pop(key, None)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> list[StoredFile]:
        """Nothing: a write in memory leaves nothing behind."""
        return []


def _check(key: str) -> None:
    if not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"a store key is a relative path without '.' and '..'; found {key!r}")
