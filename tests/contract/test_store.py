"""What every store does, the one on disk and the one in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
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


def test_a_listing_tells_size_and_age_and_a_touch_makes_young(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    store.put("snapshots/m/1", b"12345")
    store.put("snapshots/mm/1", b"")
    (file,) = store.listing("snapshots/m/")
    assert (file.key, file.size) == ("snapshots/m/1", 5)
    assert before < file.modified < datetime.now(UTC) + timedelta(seconds=2)
    time.sleep(0.02)
    assert store.touch("snapshots/m/1")
    assert store.listing("snapshots/m/")[0].modified > file.modified
    assert store.get("snapshots/m/1") == b"12345"
    assert not store.touch("snapshots/m/2")
    assert [one.key for one in store.listing("")] == ["snapshots/m/1", "snapshots/mm/1"]
    assert store.listing("none/") == []


def test_what_is_removed_is_gone_and_may_come_back(store: Store) -> None:
    store.put("bundles/a/model.ubj", b"one")
    store.put("bundles/b/model.ubj", b"two")
    store.remove("bundles/a/model.ubj")
    store.remove("bundles/a/model.ubj")
    assert store.keys("") == ["bundles/b/model.ubj"]
    assert not store.exists("bundles/a/model.ubj")
    store.put("bundles/a/model.ubj", b"three")
    assert store.get("bundles/a/model.ubj") == b"three"
    with pytest.raises(ValueError, match="store key"):
        store.remove("../outside")


def test_a_sweep_removes_nothing_that_is_a_file(store: Store) -> None:
    store.put("bundles/a/model.ubj", b"one")
    assert store.sweep(datetime.now(UTC) + timedelta(days=1)) == []
    assert store.exists("bundles/a/model.ubj")


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


def test_what_killed_writes_left_is_swept_when_it_is_old_and_empty_folders_go(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    for name, age in (("old", 2), ("new", 0)):
        left = tmp_path / "bundles" / name / ".writing-123"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
        at = (datetime.now(UTC) - timedelta(days=age)).timestamp()
        os.utime(left, (at, at))
    listed = store.sweep(datetime.now(UTC) - timedelta(days=1), dry_run=True)
    assert len(list(tmp_path.rglob(".writing-123"))) == 2
    swept = store.sweep(datetime.now(UTC) - timedelta(days=1))
    assert swept == listed
    assert [(file.key, file.size) for file in swept] == [("bundles/old/.writing-123", 4)]
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == ["new"]
    assert tmp_path.is_dir()


def test_a_folder_that_is_removed_while_another_writes_into_it_loses_no_write(tmp_path: Path) -> None:
    code = (
        "import sys; from evergreen.adapters.file_store import FileStore; store = FileStore(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True: store.put('a/b/other', b'x'); store.remove('a/b/other')\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        child.stdout.readline()
        store, until = FileStore(str(tmp_path)), time.monotonic() + 1
        while time.monotonic() < until:
            store.put("a/b/mine", b"1")
            assert store.get("a/b/mine") == b"1"
            store.remove("a/b/mine")
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
