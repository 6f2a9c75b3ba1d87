"""The store on anything that fsspec can write to: a folder, or 's3://bucket/prefix'."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

_TEMPORARY = ".writing-"


class FileStore:
    """Immutable files by key, under one URL or folder.

    A write is seen whole or not at all: on a disk through a temporary file and a rename, on object storage
    because a put is one step there. A temporary file left by a killed write is never listed.
    """

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.url_to_fs(url)
        self._root = root.rstrip("/")

    def put(self, key: str, data: bytes) -> None:
        """Write a file; writing the same key again replaces it in one step."""
        path = self._path(key)
        if isinstance(self._fs, LocalFileSystem):
            _replace(Path(path), data)
        else:
            self._fs.pipe_file(path, data)

    def get(self, key: str) -> bytes:
        """Read a file; KeyError if there is none."""
        try:
            data: bytes = self._fs.cat_file(self._path(key))
        except (FileNotFoundError, IsADirectoryError):
            raise KeyError(key) from None
        return data

    def exists(self, key: str) -> bool:
        """Whether the file is there."""
        self._fs.invalidate_cache()  # other processes write too
        return bool(self._fs.isfile(self._path(key)))

    def keys(self, prefix: str) -> list[str]:
        """All keys that start with the prefix, sorted."""
        self._fs.invalidate_cache()
        folder = prefix.rpartition("/")[0]
        below = f"{self._root}/{folder}" if folder else self._root
        found = (path[len(self._root) + 1 :] for path in self._fs.find(below))
        return sorted(key for key in found if key.startswith(prefix) and _TEMPORARY not in key)

    def _path(self, key: str) -> str:
        if not key or any(part in ("", ".", "..") or part.startswith(_TEMPORARY) for part in key.split("/")):
            raise ValueError(f"a store key is a relative path without '.' and '..'; found {key!r}")
        return f"{self._root}/{key}"


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave a name without its bytes
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
