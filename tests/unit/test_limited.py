"""A step in a child with a memory limit: real children, which return, raise, grow, are killed or orphaned."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from evergreen.core.errors import LeaseLost, PromotionConflict, RunEnds, SourceUnavailable
from evergreen.orchestration.limited import InTheChild, MemoryExceeded, StepKilled, in_child

PLENTY = 100_000.0  # MB


def test_what_it_returns_comes_back_and_what_it_changes_stays_in_the_child() -> None:
    here: list[int] = []

    def act() -> dict[str, Any]:
        here.append(1)
        return {"pid": os.getpid(), "large": b"x" * 3_000_000}

    found = in_child("train", PLENTY, act)
    assert found["pid"] != os.getpid()
    assert len(found["large"]) == 3_000_000
    assert here == []
    assert not psutil.pid_exists(found["pid"])  # reaped


@pytest.mark.parametrize(
    "error",
    [
        RunEnds("nothing to train", served=True),
        PromotionConflict("m", seen=1, found=2),
        SourceUnavailable("warehouse", found="no answer", allowed="an answer", do="Wait."),
        ZeroDivisionError("by zero"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_it_raises_is_raised_here_with_its_traceback(error: Exception) -> None:
    def act() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        in_child("train", PLENTY, act)
    assert str(raised.value) == str(error)
    assert vars(raised.value) == vars(error)
    assert isinstance(raised.value.__cause__, InTheChild)
    assert "in act" in str(raised.value.__cause__)


class Odd(Exception):
    """Cannot be made again from what pickle keeps."""

    def __init__(self, one: str, *, other: str) -> None:
        super().__init__(f"{one} {other}")


def test_an_error_that_cannot_cross_is_told_and_so_is_a_result() -> None:
    def act() -> None:
        raise Odd("a", other="b")

    with pytest.raises(RuntimeError, match="Odd: a b"):
        in_child("train", PLENTY, act)
    with pytest.raises(Exception, match="pickle"):
        in_child("train", PLENTY, lambda: lambda: 1)


def test_above_its_limit_it_is_stopped_and_told_what_to_do(pytestconfig: pytest.Config) -> None:
    limit = psutil.Process().memory_info().rss / 1e6 + 60
    kept: list[bytearray] = []

    def grow() -> None:
        for _ in range(100):
            kept.append(bytearray(os.urandom(1)) * 10_000_000)
            time.sleep(0.02)
        time.sleep(30)

    began = time.monotonic()
    with pytest.raises(MemoryExceeded) as raised:
        in_child("train", limit, grow)
    assert time.monotonic() - began < 5
    for told in ("step train", f"{limit:,.0f} MB", "window.train", "columns", "EVERGREEN_TRAINING_MEMORY_MB"):
        assert told in str(raised.value)
    assert raised.value.retryable is False
    assert children(pytestconfig) == []


def test_what_it_has_forked_counts_too(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """Each holds less than the limit, and both together more; what they were born with counts once."""
    born_with = anonymous_mb()
    told = tmp_path / "pids"

    def forks() -> None:
        inherited = bytearray(os.urandom(1)) * 200_000_000
        for _ in range(2):
            if not (pid := os.fork()):
                own = bytearray(os.urandom(1)) * 200_000_000
                time.sleep(30)
                del own
                os._exit(0)
            with told.open("a") as file:
                file.write(f"{pid}\n")
        time.sleep(30)
        del inherited

    with pytest.raises(MemoryExceeded) as raised:
        in_child("validate", born_with + 450, forks)
    held = float(raised.value.found.split(" MB")[0].replace(",", ""))
    assert held < born_with + 780  # 200 three times; nobody counts again what it was born with
    assert children(pytestconfig) == []
    until(lambda: not any(psutil.pid_exists(int(pid)) for pid in told.read_text().split()))


def test_what_it_has_forked_may_share_what_it_was_born_with() -> None:
    limit = anonymous_mb() + 300

    def forks() -> int:
        inherited = bytearray(os.urandom(1)) * 200_000_000
        for _ in range(2):
            if not os.fork():
                time.sleep(1)  # it is looked at five times meanwhile
                os._exit(0)
        os.wait()
        os.wait()
        return len(inherited)

    assert in_child("validate", limit, forks) == 200_000_000


def test_a_program_that_it_has_started_has_a_limit_of_its_own() -> None:
    limit = anonymous_mb() + 100
    code = "import os, time; held = bytearray(os.urandom(1)) * 300_000_000; time.sleep(1)"
    assert in_child("train", limit, lambda: subprocess.run([sys.executable, "-c", code], check=True).returncode) == 0


@pytest.mark.parametrize(("number", "told"), [(signal.SIGKILL, "ran out of memory"), (signal.SIGTERM, "SIGTERM")])
def test_a_child_that_is_killed_is_told_as_such_and_worth_a_retry(number: signal.Signals, told: str) -> None:
    with pytest.raises(StepKilled, match=told) as raised:
        in_child("judge", PLENTY, lambda: os.kill(os.getpid(), number))
    assert raised.value.retryable
    assert "MB when last seen" in str(raised.value)


def test_it_is_the_first_that_the_kernel_takes() -> None:
    assert in_child("train", PLENTY, lambda: Path("/proc/self/oom_score_adj").read_text().strip()) == "1000"
    assert Path("/proc/self/oom_score_adj").read_text().strip() != "1000"


def test_an_interrupted_parent_leaves_no_child(pytestconfig: pytest.Config) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise TimeoutError("enough")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TimeoutError, match="enough"):
            in_child("train", PLENTY, lambda: time.sleep(30))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert children(pytestconfig) == []


def has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import os, pathlib, sys, time\n"
        "from evergreen.orchestration.limited import in_child\n"
        "def act():\n"
        "    pathlib.Path(sys.argv[1] + '.new').write_text(str(os.getpid()))\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "    time.sleep(60)\n"
        "in_child('train', 1e6, act)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(told)])
    until(told.exists)
    child = psutil.Process(int(told.read_text()))
    assert child.ppid() == parent.pid
    parent.kill()
    parent.wait()
    until(lambda: has_ended(child))


def test_what_it_prints_and_logs_is_not_lost_and_not_told_twice() -> None:
    code = (
        "import logging, sys\n"
        "from evergreen.orchestration.limited import in_child\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "def act():\n"
        "    print('printed', end='')\n"
        "    logging.info('logged')\n"
        "print('before', end=' ')\n"  # still in the buffer when the child is made
        "in_child('train', 1e6, act)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.count("before") == done.stdout.count("printed") == done.stdout.count("logged") == 1


def test_it_says_what_was_held(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        in_child("validate", 4000, lambda: None)
    assert re.search(r"validate took \d+\.\d\d s and held up to [\d,]+ of 4,000 MB", caplog.text)


OTHERS = pytest.StashKey[set[int]]()


@pytest.fixture(autouse=True)
def _others(request: pytest.FixtureRequest) -> None:
    """Children that other tests of this process have left on purpose, such as a fork server."""
    request.config.stash[OTHERS] = {process.pid for process in psutil.Process().children()}


def children(config: pytest.Config) -> list[psutil.Process]:
    found = (process for process in psutil.Process().children() if process.pid not in config.stash[OTHERS])
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def anonymous_mb() -> float:
    """What this process holds, and so what each fork of it is born with."""
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) / 1e6


def until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- renewed meanwhile


def test_what_must_be_renewed_is_renewed_here_while_the_child_works(tmp_path: Path) -> None:
    renewed: list[int] = []

    def renew() -> None:
        renewed.append(os.getpid())
        if len(renewed) == 2:
            (tmp_path / "twice").touch()

    found = in_child("train", PLENTY, lambda: until((tmp_path / "twice").exists), renew=renew, every=0.01)
    assert found is None
    assert set(renewed) == {os.getpid()}


def test_it_is_renewed_only_as_often_as_asked() -> None:
    in_child("train", PLENTY, lambda: None, renew=lambda: pytest.fail("too soon"), every=60)


def test_what_cannot_be_renewed_stops_the_child(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    def renew() -> None:
        raise LeaseLost("another has it")

    def act() -> None:
        time.sleep(30)
        (tmp_path / "written").touch()

    began = time.monotonic()
    with pytest.raises(LeaseLost, match="another has it"):
        in_child("train", PLENTY, act, renew=renew, every=0.01)
    assert time.monotonic() - began < 10
    assert children(pytestconfig) == []
    assert not (tmp_path / "written").exists()
