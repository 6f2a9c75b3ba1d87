"""Processes by POSIX session id.

A running Airflow task leaves its component's process group, and a killed component leaves children behind: the
session id is what they all keep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Session:
    """A session that we started: its id (its leader's pid) and when the leader was created (epoch seconds)."""

    sid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Session:
        """The session led by this living process."""
        return cls(pid, psutil.Process(pid).create_time())

    def ours(self) -> bool:
        """False where the pid now belongs to a process that is not the one we started."""
        try:
            return abs(psutil.Process(self.sid).create_time() - self.created) < 1
        except psutil.NoSuchProcess:
            return True  # the leader is gone, the others may live; the kernel keeps the number from reuse till then

    def leader_lives(self) -> bool:
        """Whether the process that we started still runs."""
        try:
            leader = psutil.Process(self.sid)
            return self.ours() and leader.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def members(sessions: Iterable[Session]) -> list[psutil.Process]:
    """All living processes of these sessions."""
    sids = {session.sid for session in sessions if session.ours()}
    return [process for process in psutil.process_iter() if _session_id(process) in sids]


def _session_id(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
        return None


def end(sessions: Iterable[Session], grace: float = 10) -> int:
    """Ask the leaders to stop, wait up to `grace` seconds, then kill what is left; returns how many were ended."""
    sessions = list(sessions)
    seen = {process.pid for process in members(sessions)}
    leaders = [session for session in sessions if session.leader_lives()]
    for session in leaders:
        _signal(session.sid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(session.leader_lives() for session in leaders):
        time.sleep(0.1)
    while left := members(sessions):  # again until none: a process may fork while it is being killed
        for process in left:
            seen.add(process.pid)
            _signal(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    return len(seen)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
