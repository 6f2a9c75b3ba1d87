"""A serving program that runs as our child: what it says, what it holds, and its memory limit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from evergreen.adapters.child_slots.session import kill, resident_mb
from evergreen.core.errors import RehearsalFailed

POOL = "rehearsal"
_WATCH = 0.1  # seconds between two looks at its memory


class Child:
    """What is known of a running serving program, from its folder and from the kernel."""

    def __init__(self, what: str, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.what, self.process = what, process
        self._log, self._pool = folder / "log", folder / "serving" / POOL
        self.killed_because = ""

    def url(self) -> str | None:
        """Where it listens; none before it does."""
        try:
            return (self._pool / "url").read_text()
        except FileNotFoundError:
            return None

    def check(self) -> None:
        """Raise RehearsalFailed if it was killed for its memory, or ended."""
        if self.killed_because:
            raise RehearsalFailed(self.killed_because)
        if self.process.poll() is not None:
            ended = f"{self.what}: its serving process ended with {self.process.returncode}"
            raise RehearsalFailed(f"{ended}. The end of its log:\n{self._last_lines()}")

    def peak_mb(self) -> float:
        """VmHWM of the worker."""
        try:
            worker = json.loads((self._pool / "workers" / "0.json").read_text())["pid"]
            status = Path(f"/proc/{worker}/status").read_text()
            kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        except (FileNotFoundError, StopIteration) as error:  # a process that ended and is still listed has no VmHWM
            self.check()
            raise RehearsalFailed(f"{self.what}: its worker is gone. Its log:\n{self._last_lines()}") from error
        return int(kibibytes) * 1024 / 1e6

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])[-2000:] or "(it is empty)"


@contextmanager
def limited(child: Child, limit_mb: float) -> Iterator[None]:
    """Kill the child when it holds more memory than it may; the context then ends with RehearsalFailed."""
    done = Event()

    def watch() -> None:
        while not done.wait(_WATCH):
            if resident_mb(child.process.pid) > limit_mb:
                child.killed_because = (
                    f"{child.what} needed more than {limit_mb:,.0f} MB of memory, and was stopped; "
                    "EVERGREEN_REHEARSAL_MEMORY_MB allows more"
                )
                kill(child.process.pid)
                return

    watching = Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    except Exception as error:
        if child.killed_because:
            raise RehearsalFailed(child.killed_because) from error
        raise
    finally:
        done.set()
        watching.join()
    if child.killed_because:
        raise RehearsalFailed(child.killed_because)
