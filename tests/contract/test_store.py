"""What every store does, the one on disk and the one in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evergreen.adapters.file_store import FileStore
from evergreen.core.ports import Store
from evergreen.fakes.store import InMemoryStore


@pytest.fixture(params=["folder", "file url", "object storage", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FileStore(str(tmp_path / "store"))
    if request.param == "file url":
        return FileStore((tmp_path / "store").as_uri())
    if request.param == "object storage":
        return FileStore(f"memory://{tmp_path.name}")  # fsspec's own: a flat key space, as on S3
    return InMemoryStore()


def test_reads_back_what_was_put_and_replaces_it(store: Store) -> None:
    store.put("bundles/a/model.ubj", b"one")
    store.put("bundles/a/model.ubj", b"two")
    assert store.get("bundles/a/model.ubj") == b"two"
    assert store.exists("bundles/a/model.ubj")


def test_a_missing_file_is_a_key_error(store: Store) -> None:
    store.put("bundles/a/model.ubj", b"one")
    with pytest.raises(KeyError, match="bundles/b"):
        store.get("bundles/b")
    with pytest.raises(KeyError):
        store.get("bundles/a")  # a folder is no file
    assert not store.exists("bundles/b")
    assert not store.exists("bundles/a")


def test_keys_start_with_the_prefix_and_are_sorted(store: Store) -> None:
    for key in ("snapshots/m/2-b", "snapshots/m/1-a", "snapshots/other/1", "bundles/x"):
        store.put(key, b"")
    assert store.keys("snapshots/m/") == ["snapshots/m/1-a", "snapshots/m/2-b"]
    assert store.keys("snapshots/m/1") == ["snapshots/m/1-a"]
    assert store.keys("none/") == []
    assert len(store.keys("")) == 4


@pytest.mark.parametrize("key", ["", "../outside", "/etc/passwd", "a//b", "a/./b"])
def test_a_key_cannot_leave_the_store(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="store key"):
        store.put(key, b"x")


def test_a_killed_write_is_never_seen(tmp_path: Path) -> None:
    """A child overwrites one key with large files until it is killed in the middle of it, again and again."""
    code = (
        "import sys; from evergreen.adapters.file_store import FileStore; store = FileStore(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for byte in (b'a', b'b'): store.put('part', byte * 8_000_000)\n"
    )
    store = FileStore(str(tmp_path))
    for delay in (0.01, 0.023, 0.041):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        while not store.exists("part"):
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        data = store.get("part")
        assert len(data) == 8_000_000
        assert len(set(data)) == 1
        assert store.keys("") == ["part"]
