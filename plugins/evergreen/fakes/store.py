"""The store in memory."""

from __future__ import annotations


class InMemoryStore:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        """Write a file; writing the same key again replaces it."""
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"a store key is a relative path without '.' and '..'; found {key!r}")
        self.files[key] = bytes(data)

    def get(self, key: str) -> bytes:
        """Read a file; KeyError if there is none."""
        return self.files[key]

    def exists(self, key: str) -> bool:
        """Whether the file is there."""
        return key in self.files

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with the prefix, sorted."""
        return sorted(key for key in self.files if key.startswith(prefix))
