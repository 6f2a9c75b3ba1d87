"""The store on anything that fsspec can write to: a folder, or 's3://bucket/prefix'."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from evergreen.core.ports import StoredFile

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

    def listing(self, prefix: str) -> list[StoredFile]:
        """The files whose keys start with the prefix, sorted by key."""
        return [file for file in self._listed(prefix) if _TEMPORARY not in file.key]

    def touch(self, key: str) -> bool:
        """Make a file as young as one written now. False if there is none. On object storage it is written anew."""
        path = self._path(key)
        try:
            if isinstance(self._fs, LocalFileSystem):
                os.utime(path)
            else:
                self._fs.pipe_file(path, self._fs.cat_file(path))
        except FileNotFoundError:
            return False
        return True

    def remove(self, key: str) -> None:
        """Remove a file, and on a disk the folders that it leaves empty; nothing happens if there is none."""
        self._remove(self._path(key))

    def sweep(self, before: datetime, *, dry_run: bool = False) -> list[StoredFile]:
        """Remove what writes that were killed before then have left behind, or only list it; returns what it is."""
        left = [file for file in self._listed("") if _TEMPORARY in file.key and file.modified < before]
        for file in [] if dry_run else left:
            self._remove(f"{self._root}/{file.key}")
        return left

    def _listed(self, prefix: str) -> list[StoredFile]:
        self._fs.invalidate_cache()
        folder = prefix.rpartition("/")[0]
        below = f"{self._root}/{folder}" if folder else self._root
        found = self._fs.find(below, detail=True).items()
        files = ((path[len(self._root) + 1 :], facts) for path, facts in found)
        listed = (StoredFile(key, facts["size"], _modified(facts)) for key, facts in files if key.startswith(prefix))
        return sorted(listed, key=lambda file: file.key)

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(path)
        if isinstance(self._fs, LocalFileSystem):
            for folder in Path(path).parents:
                if str(folder) == self._root or not _removed_if_empty(folder):
                    break

    def _path(self, key: str) -> str:
        if not key or any(part in ("", ".", "..") or part.startswith(_TEMPORARY) for part in key.split("/")):
            raise ValueError(f"a store key is a relative path without '.' and '..'; found {key!r}")
        return f"{self._root}/{key}"


def _modified(facts: Mapping[str, Any]) -> datetime:
    """Of a file, as its file system tells it: seconds on a disk, a time on object storage and in memory."""
    told = facts.get("mtime", facts.get("LastModified", facts.get("created")))
    return told.astimezone(UTC) if isinstance(told, datetime) else datetime.fromtimestamp(float(told), UTC)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _open_new(path: Path) -> IO[bytes]:
    for _ in range(100):  # a removal may take the empty folder away at this very moment
        with suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
    raise FileNotFoundError(path)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        with _open_new(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave a name without its bytes
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
