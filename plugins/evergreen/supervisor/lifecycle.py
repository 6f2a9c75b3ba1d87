"""`up` and `down` of the embedded shape."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from evergreen import wiring
from evergreen.core.errors import ServiceFailed
from evergreen.supervisor import stack as stacks
from evergreen.supervisor.components import components, environment, new_stack
from evergreen.supervisor.health import healthy
from evergreen.supervisor.sessions import end, members
from evergreen.supervisor.stack import KEEPER, Record, Stack, running
from evergreen.wiring import Settings

READY_WITHIN = 180.0  # seconds
MAX_STARTS = 3  # a component that died so often while coming up will not come up
TAIL_LINES = 15

Progress = Callable[[str], None]


def up(settings: Settings, *, progress: Progress | None = None) -> Stack:
    """Start everything and return when all of it answers; the running stack where there is one.

    Raises ServiceFailed, naming the component and the last lines of its log, after stopping what had started.
    """
    tell = progress or (lambda line: None)
    with _private(settings.home):
        if stack := running(settings):
            tell("Already running.")
            return stack
        down(settings)  # what a killed keeper left behind
        return _start(settings, tell)


def down(settings: Settings) -> int:
    """Stop everything of this home; returns how many processes were ended, 0 where nothing ran."""
    record = stacks.read(settings.home)
    if record is None:
        return 0
    found = len(members(record.sessions.values()))
    if keeper := record.sessions.get(KEEPER):
        end([keeper], grace=25)  # it stops its components
    record = stacks.read(settings.home) or record  # it may have started one since
    end(record.sessions.values())
    stacks.path(settings.home).unlink(missing_ok=True)
    return found


def _start(settings: Settings, tell: Progress) -> Stack:
    stack = new_stack(settings.home)
    env = environment(settings, stack)
    tell("Control ledger: bringing its tables up to date")
    wiring.ledger(settings)
    tell("Airflow: bringing its database up to date")
    _migrate_airflow(settings.home, env)
    stacks.write(settings.home, Record(stack, psutil.boot_time()))
    keeper = _spawn(settings.home, KEEPER, [sys.executable, "-m", "evergreen.supervisor", str(settings.home)], env)
    threading.Thread(target=keeper.wait, daemon=True).start()  # no zombie where the caller outlives it
    try:
        _wait(settings, keeper, tell)
    except BaseException:
        down(settings)
        raise
    started = running(settings)
    assert started is not None
    return started


def _migrate_airflow(home: Path, env: dict[str, str]) -> None:
    name = "airflow-db"
    code = _spawn(home, name, [sys.executable, "-m", "airflow", "db", "migrate"], env).wait()
    if code != 0:
        raise ServiceFailed(_story(home, name, f"`airflow db migrate` ended with {code}"))


def _spawn(home: Path, name: str, argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    with (home / "logs" / f"{name}.log").open("ab") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=env,
            start_new_session=True,
        )


def _wait(settings: Settings, keeper: subprocess.Popen[bytes], tell: Progress) -> None:
    """Until every component answers."""
    began = time.monotonic()
    record = stacks.read(settings.home)
    assert record is not None
    waiting = {component.name: component.title for component in components(record.stack, settings.home)}
    while waiting:
        time.sleep(0.3)
        record = _record_while_hopeful(settings, keeper, waiting, time.monotonic() - began)
        for name in healthy(record, list(waiting)):
            tell(f"{waiting.pop(name)}: ready after {time.monotonic() - began:.0f} s")


def _record_while_hopeful(
    settings: Settings, keeper: subprocess.Popen[bytes], waiting: dict[str, str], passed: float
) -> Record:
    record = stacks.read(settings.home)
    if keeper.poll() is not None or record is None:
        raise ServiceFailed(_story(settings.home, KEEPER, "the supervisor was stopped while it was starting"))
    for name, title in waiting.items():
        if record.starts.get(name, 0) > MAX_STARTS:
            raise ServiceFailed(_story(settings.home, name, f"{title} died {MAX_STARTS} times while starting"))
        if passed > READY_WITHIN:
            raise ServiceFailed(_story(settings.home, name, f"{title} did not answer within {READY_WITHIN:.0f} s"))
    return record


def _story(home: Path, name: str, what: str) -> str:
    log = home / "logs" / f"{name}.log"
    tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.exists() else []
    return "\n".join([f"{what}. The end of its log, {log}:", *(f"  {line}" for line in tail)])


@contextlib.contextmanager
def _private(home: Path) -> Iterator[None]:
    """One `up` at a time in this home, and all it writes is readable by its owner only."""
    before = os.umask(0o077)
    try:
        for folder in (home, home / "logs", home / "airflow", home / "mlflow" / "artifacts"):
            folder.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)  # also where somebody else made it
        with (home / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    finally:
        os.umask(before)
