"""A replica whose disk takes no more: the live version goes on, the reason is told, and it recovers by itself."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.bundles import release_bundle

from disks import fill, small_disk
from evergreen.core.caller_tokens import digest
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.replica import release_follower as following
from evergreen.serving.replica.local_bundles import LocalBundles
from evergreen.serving.state import (
    CALLERS,
    STATE,
    STATUS,
    WORKERS,
    Callers,
    PoolState,
    Status,
    WorkerReport,
    read,
    write,
)
from replicas import Replica

NOW = datetime.now(UTC)
LARGEST = 4096  # bytes: more than any of the small files, less than a booster


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause before the next try."""
    monkeypatch.setattr(following, "RETRY", 0.0)


@contextmanager
def no_large_files() -> Iterator[None]:
    """As a disk that is nearly full: every write beyond some bytes of a file fails (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_a_bundle_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "default")
    replica.release(1)
    replica.follower.poll()
    before = files_of(replica.folder)
    replica.release(2)
    with no_large_files():
        for _ in range(2):
            replica.follower.tick()
            replica.follower.poll()
    assert files_of(replica.folder) == before | {STATUS}
    assert replica.served() == {"flight-delay": 1}
    (reason,) = replica.reasons()
    assert reason.text.startswith("flight-delay version 2 cannot be kept here, version 1 goes on answering. ")
    assert "File too large (0.0 MB are needed). " in reason.text
    assert (reason.blocks, reason.refused) == (False, False)
    (alive,) = replica.ledger.replicas.alive("default", NOW)
    assert alive.reasons == (reason.text,)
    replica.follower.poll()
    assert (replica.served(), replica.reasons()) == ({"flight-delay": 2}, [])
    replica.follower.tick()
    assert replica.ledger.replicas.alive("default", NOW)[0].reasons == ()


def test_without_a_version_that_answers_it_blocks(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "default")
    replica.release(1)
    with no_large_files():
        replica.follower.poll()
    assert [(reason.blocks, reason.model) for reason in replica.reasons()] == [(True, "flight-delay")]
    assert list((replica.folder / "bundles").iterdir()) == []


def test_a_fetch_that_was_killed_half_way_is_cleared_away(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "default")
    replica.release(1)
    left = replica.folder / "bundles" / f".fetching-{'0' * 64}"
    left.mkdir(parents=True)
    (left / "model.ubj").write_bytes(b"half")
    replica.follower.poll()
    assert [path.name for path in (replica.folder / "bundles").iterdir()] == [replica.entry().bundle]
    assert LocalBundles(replica.folder / "bundles").is_intact(replica.entry().bundle)


# ---------------------------------------------------------------- a real full disk


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB, if this machine lets us mount one."""
    with small_disk(tmp_path / "disk", "256k") as disk:
        yield disk


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left."""
    filler = disk / "filler"
    fill(filler)
    yield
    filler.unlink()


def test_on_a_full_disk_reasons_are_told_and_tokens_are_revoked(small: Path) -> None:
    replica = Replica(small / "default", tokens=True)
    replica.release(1)
    kept = replica.ledger.tokens.add("shop", digest("one"), by="ada", now=NOW)
    replica.follower.poll()
    with filled(small):
        replica.release(2)
        replica.follower.poll()
        (reason,) = replica.reasons()
        assert "version 1 goes on answering" in reason.text
        assert "No space left on device (0.0 MB are needed, 0.0 MB are free)" in reason.text
        replica.ledger.tokens.revoke(kept.id, by="ada", now=NOW)
        replica.follower.poll()
        assert read(replica.folder / CALLERS, Callers) == Callers()
        assert replica.served() == {"flight-delay": 1}
        status = read(replica.folder / STATUS, Status)
        time.sleep(0.01)
        replica.follower.poll()
        assert read(replica.folder / STATUS, Status).written_at > status.written_at
        assert not list(replica.folder.rglob(".*"))
    replica.follower.poll()
    assert (replica.served(), replica.reasons()) == ({"flight-delay": 2}, [])


def test_a_rollback_to_the_version_before_works_on_a_full_disk(small: Path) -> None:
    replica = Replica(small / "default")
    replica.release(1)
    replica.follower.poll()
    first = replica.entry().bundle
    replica.release(2)
    replica.follower.poll()
    with filled(small):
        release_bundle(replica.ledger, first, version=3)  # its bundle is here, as the one to fall back on
        replica.follower.poll()
        assert (replica.served(), replica.reasons()) == ({"flight-delay": 3}, [])
        assert replica.entry().bundle == first
        replica.follower = replica.new()  # a restarted supervisor reads it
        replica.follower.poll()
        assert (replica.served(), replica.reasons()) == ({"flight-delay": 3}, [])


def test_what_does_not_fit_is_not_begun(small: Path) -> None:
    write(small / STATE, PoolState(1))
    with filled(small):
        large = Callers({digest(str(number)): "shop" for number in range(100)})
        with pytest.raises(OSError, match="No space left"):
            write(small / CALLERS, large)
        assert not (small / CALLERS).exists()
    write(small / CALLERS, Callers({"a" * 64: "shop"}))
    with filled(small):
        with pytest.raises(OSError, match="No space left"):
            write(small / CALLERS, large)
        assert read(small / CALLERS, Callers) == Callers({"a" * 64: "shop"})
        write(small / CALLERS, Callers({"b" * 64: "shop", "c" * 64: "robot"}))
        write(small / CALLERS, Callers({"b" * 64: "shop"}))
        assert read(small / CALLERS, Callers) == Callers({"b" * 64: "shop"})


def test_a_worker_that_cannot_report_answers_and_says_so_once(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    (small / WORKERS).mkdir()
    write(small / STATE, PoolState(1))
    table = ModelTable(small, "0", Metrics())
    with filled(small):
        for _ in range(3):
            asyncio.run(table.follow_once(False))
            table.reports._told = None
        assert [reason.text for reason in table.own_reasons()] == [
            f"A worker cannot write its report to {small}: No space left on device."
        ]
        assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    table.reports._told = None
    asyncio.run(table.follow_once(False))
    assert table.own_reasons() == []
    assert read(small / WORKERS / "0.json", WorkerReport).pid == os.getpid()
