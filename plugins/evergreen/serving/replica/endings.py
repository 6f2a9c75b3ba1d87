"""Why workers ended that nobody told to, counted and told."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from evergreen.serving.cgroup import own_cgroup
from evergreen.serving.state import Reason

CRASHED, HUNG, KILLED, OOM = "crashed", "hung", "killed", "oom"
TOLD_FOR = 600.0  # seconds
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Endings:
    """Of one replica's workers, since its start. `cgroup` is the folder of the memory limit that they live under."""

    def __init__(self, cgroup: Path | None = None) -> None:
        self.counts = dict.fromkeys((CRASHED, HUNG, KILLED, OOM), 0)
        self._events = (cgroup or own_cgroup()) / "memory.events"
        self._oom_kills = self._counted()
        self._last: dict[str, tuple[float, str]] = {}

    def add(self, slot: str, status: int, *, hung: bool) -> str:
        """Count a worker's end by its exit status (negative: the signal); in words."""
        oom_kills = self._counted()
        if hung:
            kind, text = HUNG, "it hung"
        elif status == -signal.SIGKILL and oom_kills > self._oom_kills:
            kind, text = OOM, "the kernel killed it: the memory limit was reached"
        elif -status in _FROM_OUTSIDE:
            kind, text = KILLED, f"somebody sent it {signal.Signals(-status).name}"
        else:
            kind, text = CRASHED, f"it crashed ({_told(status)})"
        self._oom_kills = oom_kills
        self.counts[kind] += 1
        self._last[kind] = (time.monotonic(), f"worker {slot} was started again: {text}")
        return text

    def reasons(self) -> list[Reason]:
        """What ended them lately: the last of each kind."""
        now = time.monotonic()
        return [
            Reason(f"Within the last {TOLD_FOR / 60:.0f} minutes {text}. {_DO[kind]}")
            for kind, (at, text) in self._last.items()
            if now - at < TOLD_FOR
        ]

    def _counted(self) -> int:
        try:
            lines = dict(line.split() for line in self._events.read_text().splitlines())
            return int(lines.get("oom_kill", 0))
        except (OSError, ValueError):
            return 0  # no cgroups of version 2 here, or no limit


_DO = {
    CRASHED: "The replica's log has its last words.",
    HUNG: "The replica's log says since when.",
    KILLED: "If it was nobody of you, look at the kernel's log for a lack of memory.",
    OOM: "Raise the limit, or lower --workers or --model-memory.",
}


def _told(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
