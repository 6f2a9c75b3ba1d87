"""A real process that is killed with SIGKILL at a random moment of its work, and run again until it ends by itself.

How to use it, say for pull (train and tuning alike):

    def pull_once(folder: str) -> None:  # at module level: it is imported in a new interpreter
        ...                              # and so opens the ledger and the store of this folder by itself

    @pytest.fixture(scope="module")
    def seconds(...):                    # of an undisturbed run, measured once; keep its result to compare with
        return Program(pull_once, whole, at_work=lambda: holds(whole, ".parquet")).run()

    @pytest.mark.parametrize("seed", range(5))
    def test_...(tmp_path, seconds, seed):
        program = Program(pull_once, folder := tmp_path / "killed", at_work=lambda: holds(folder, ".parquet"))
        program.kill(moment(seed, of=5, within=seconds))
        program.run()                    # the retry: the very same call, as Airflow makes it
        assert ...                       # the same hash in both folders, no part half-written

`at_work` says whether the first sign of work is there (a file, a row of the ledger); moments count from it, so that
none is lost in the imports. A program that ended before its moment was not killed: `kill` raises then, so that a test
cannot pass by killing nothing. What a killed program has started (its forked step, its trials) must end by itself
within ENDS seconds, else `kill` raises and ends it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

LOOK = 0.005  # seconds between two looks for the first sign of work
STARTS, ENDS = 60.0, 30.0  # seconds: to the first sign of work, and for what a killed program has started to be gone
_CALL = "import importlib, sys; getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])"


def moment(seed: int, *, of: int, within: float) -> float:
    """Seconds after the first sign of work: random for this seed, one seed in each `of`-th of the work's seconds."""
    share = (seed % of + random.Random(seed).random()) / of
    return 0.95 * within * share  # a run is now and then quicker than the one that was measured


def holds(folder: Path, suffix: str) -> bool:
    """Whether a file of this kind is anywhere below. Unlike pathlib's glob, never upset by a folder that goes away."""
    return any(name.endswith(suffix) for _, _, names in os.walk(folder) for name in names)


class EndedBefore(AssertionError):
    """It ended well before its moment: it was quicker than it was measured."""


class Program:
    """`act(folder)` in a new interpreter and a session of its own, as often as it is run."""

    def __init__(self, act: Callable[[str], None], folder: Path, *, at_work: Callable[[], bool]) -> None:
        self._call = [sys.executable, "-c", _CALL, act.__module__, act.__qualname__, str(folder)]
        self._log = folder.with_name(f"{folder.name}.log")
        self._at_work = at_work
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> float:
        """Let it end by itself. Returns the seconds from its first sign of work. AssertionError where it fails."""
        with self._started() as process:
            began = self._wait_for_work(process)
            process.wait()
            seconds = time.monotonic() - began
        assert process.returncode == 0, self._told(f"ended with {process.returncode}")
        return seconds

    def kill(self, after: float) -> None:
        """Start it, and kill it so many seconds after its first sign of work. Nothing of it runs on afterwards.

        Raises EndedBefore where it was done by then.
        """
        with self._started() as process:
            self._wait_for_work(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            process.send_signal(signal.SIGKILL)
            process.wait()
            left = _left_of(process.pid, ENDS)
        if process.returncode != -signal.SIGKILL:
            kind = AssertionError if process.returncode else EndedBefore
            raise kind(self._told(f"ended with {process.returncode} before {after:.2f} s"))
        assert not left, self._told(f"left running: {left}")

    def _started(self) -> _Started:
        search = os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path)
        return _Started(self._call, self._log, {**os.environ, "PYTHONPATH": search})

    def _wait_for_work(self, process: subprocess.Popen[bytes]) -> float:
        until = time.monotonic() + STARTS
        while not self._at_work() and process.poll() is None:
            assert time.monotonic() < until, self._told(f"no sign of work after {STARTS} s")
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
        return time.monotonic()

    def _told(self, what: str) -> str:
        return f"{' '.join(self._call[3:])} {what}:\n{self._log.read_text(errors='replace')[-4000:]}"


class _Started:
    """The process, for the length of a `with`: nothing of its session is left afterwards, however that ends."""

    def __init__(self, call: list[str], log: Path, environment: dict[str, str]) -> None:
        self._call, self._log, self._environment = call, log, environment

    def __enter__(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._call, stdout=log, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
        return self._process

    def __exit__(self, *_: object) -> None:
        for pid in _session(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _left_of(sid: int, seconds: float) -> list[str]:
    """What still runs in this session after so many seconds at most, as command lines."""
    until = time.monotonic() + seconds
    while (left := _session(sid)) and time.monotonic() < until:
        time.sleep(LOOK)
    return [_command(pid) for pid in left]


def _session(sid: int) -> list[int]:
    """The process ids of this session, zombies not among them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == sid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return f"process {pid}, gone by now"
