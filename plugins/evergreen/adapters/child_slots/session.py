"""The processes of a POSIX session, which is what a child and all that it starts keep in common."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

import psutil


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the leader and all of its session: nobody depends on it, and its folder is removed next."""
    kill(process.pid)
    if process.stdin:
        process.stdin.close()
    process.wait()


def kill(session: int) -> None:
    """SIGKILL to all processes of a session."""
    for _ in range(200):  # again until none is left: a process may fork while it is being killed
        left = members(session)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


def members(session: int) -> list[psutil.Process]:
    """All living processes of a session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(pid) == session and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def resident_mb(session: int) -> float:
    """Resident memory of all processes of a session now, in MB."""
    found = 0
    for process in members(session):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.memory_info().rss
    return found / 1e6
