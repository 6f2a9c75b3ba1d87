"""What workers count in one mapped file, and the latch beside it: across processes, deaths and races."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from evergreen.core.records import CHALLENGER, CHAMPION, TripKind
from evergreen.serving.trials.guard_file import (
    ARM,
    ARMS,
    FAULTS,
    GUARD,
    LATENCY,
    PREDICTIONS,
    REQUESTS,
    GuardFile,
    files_of,
)
from evergreen.serving.trials.latch import LATCHES, latch, latched, unlatch


def in_processes(count: int, act: Callable[[int], None]) -> None:
    """Let so many forks do this, all at once."""
    begin_read, begin_write = os.pipe()
    pids = []
    for number in range(count):
        if (pid := os.fork()) == 0:
            os.close(begin_write)
            os.read(begin_read, 1)
            act(number)
            os._exit(0)
        pids.append(pid)
    os.close(begin_read)
    os.close(begin_write)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * count


def count(folder: Path, slot: int, arm: str, requests: int) -> None:
    file = GuardFile(folder, "r1", "canary-50")
    first = file.slot(slot) + ARMS[arm] * ARM
    for _ in range(requests):
        for cell in (REQUESTS, FAULTS, LATENCY + 3, PREDICTIONS + 9):
            file.cells[first + cell] += 1


def test_workers_that_start_at_once_share_one_file_and_lose_no_count(tmp_path: Path) -> None:
    in_processes(6, lambda slot: count(tmp_path, slot, CHALLENGER, 500))
    file = GuardFile(tmp_path, "r1", "canary-50")
    counted = file.counted(CHALLENGER)
    assert (counted.requests, counted.faults, counted.latency[3], counted.predictions[9]) == (3000, 3000, 3000, 3000)
    assert sum(counted.latency) == sum(counted.predictions) == 3000
    assert file.counted(CHAMPION).requests == 0
    assert [path.name for path in (tmp_path / GUARD).iterdir()] == ["r1.canary-50"]


def test_a_worker_that_was_killed_goes_on_counting_where_it_was(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        count(tmp_path, 0, CHAMPION, 7)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    boot = GuardFile(tmp_path, "r1", "canary-50").boot
    count(tmp_path, 0, CHAMPION, 3)
    file = GuardFile(tmp_path, "r1", "canary-50")
    assert file.counted(CHAMPION).requests == 10
    assert file.boot == boot
    file.path.unlink()
    assert GuardFile(tmp_path, "r1", "canary-50").boot != boot  # other counts: not in place of those before


def test_who_looks_sees_workers_that_came_later_and_the_flag_at_once(tmp_path: Path) -> None:
    early = GuardFile(tmp_path, "r1", "shadow")
    assert early.counted(CHAMPION).requests == 0
    late = GuardFile(tmp_path, "r1", "shadow")
    first = late.slot(40)
    late.cells[first] += 5
    assert early.counted(CHAMPION).requests == 5
    assert early.tripped is None
    late.trip(TripKind.LATENCY)
    assert early.tripped is TripKind.LATENCY


def test_there_is_room_on_the_disk_for_all_that_is_mapped(tmp_path: Path) -> None:
    """A hole in it would kill the worker that writes there once the disk is full."""
    file = GuardFile(tmp_path, "r1", "shadow")
    file.slot(63)
    found = file.path.stat()
    assert found.st_blocks * 512 >= found.st_size > 64 * 512


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / GUARD).mkdir()
    (tmp_path / GUARD / "r1.shadow").write_bytes(b"x" * 4096)
    with pytest.raises(ValueError, match="another kind of file"):
        GuardFile(tmp_path, "r1", "shadow")


def test_files_are_listed_by_release_and_stage(tmp_path: Path) -> None:
    for release, stage in (("b", "shadow"), ("a", "canary-5"), ("a", "canary-25")):
        GuardFile(tmp_path, release, stage)
    assert files_of(tmp_path) == [("a", "canary-25"), ("a", "canary-5"), ("b", "shadow")]
    assert files_of(tmp_path / "elsewhere") == []


def test_of_many_that_latch_at_once_one_says_why(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.mkdir()

    def trip(number: int) -> None:
        found = latch(tmp_path, "r1", TripKind.FAULTS, f"worker {number}")
        (said / str(number)).write_text(found.reason)

    in_processes(8, trip)
    found = latched(tmp_path, "r1")
    assert found
    assert {path.read_text() for path in said.iterdir()} == {found.reason}
    assert [path.name for path in (tmp_path / LATCHES).iterdir()] == ["r1"]


def test_a_latch_stays_as_it_is_until_its_release_is_forgotten(tmp_path: Path) -> None:
    assert latched(tmp_path, "r1") is None
    first = latch(tmp_path, "r1", TripKind.LATENCY, "slow")
    assert latch(tmp_path, "r1", TripKind.FAULTS, "later") == first
    latch(tmp_path, "r2", TripKind.FAULTS, "other")
    (tmp_path / LATCHES / ".r1.99.1").touch()  # of a process that was killed
    unlatch(tmp_path, {"r2"})
    assert [path.name for path in (tmp_path / LATCHES).iterdir()] == ["r2"]
    assert latched(tmp_path, "r1") is None


def test_a_latch_that_cannot_be_read_still_holds(tmp_path: Path) -> None:
    latch(tmp_path, "r1", TripKind.LATENCY, "slow")
    (tmp_path / LATCHES / "r1").write_text("{")
    found = latched(tmp_path, "r1")
    assert found
    assert found.reason == "its latch cannot be read"


def test_on_a_full_disk_the_finding_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("evergreen.serving.trials.latch.replace", full)
    assert latch(tmp_path, "r1", TripKind.LATENCY, "slow").reason == "slow"
    assert latched(tmp_path, "r1") is None
