"""The worker processes of a serving supervisor: fresh interpreters on one listening socket."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evergreen.serving import state as files
from evergreen.serving.pulse import HANGS_AFTER, Pulse
from evergreen.serving.state import WorkerReport

_QUICK = 3.0  # seconds: a worker that lived shorter is restarted with a growing delay
_LONGEST_DELAY = 5.0
_log = logging.getLogger(__name__)


@dataclass
class _Slot:
    process: subprocess.Popen[bytes]
    pulse: Pulse
    started: float
    delay: float = 0.0
    restart_at: float | None = None
    hung: bool = False


class Workers:
    """N workers. They end themselves when the read end of the pipe that they hold reports that we died."""

    def __init__(self, folder: Path, listening: socket.socket, count: int, max_body: int, *, tokens: bool) -> None:
        self._folder, self._listening, self._count, self._max_body = folder, listening, count, max_body
        self._tokens = tokens
        self._alive_read, self._alive_write = os.pipe()  # the write end is closed by our death alone
        self._slots: dict[str, _Slot] = {}
        self.restarts = self.hangs = 0

    def start(self) -> None:
        """Start every worker."""
        self._void_reports()
        for number in range(self._count):
            self._slots[str(number)] = _Slot(*self._launch(str(number)), time.monotonic())

    def _void_reports(self) -> None:
        """Those of the workers of another supervisor: in a container a new one soon has the same process id.

        A report that will be written again is voided, not removed: on a full disk its place is worth something.
        """
        folder = self._folder / files.WORKERS
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.json"):
            if stale.stem in map(str, range(self._count)):
                files.write(stale, WorkerReport(0, 0, {}, {}))
            else:
                stale.unlink()

    def pids(self) -> Mapping[str, int]:
        """Slot → process id."""
        return {slot: worker.process.pid for slot, worker in list(self._slots.items())}

    def restart_dead(self) -> None:
        """Kill what hangs, start again what has died: at once, with a growing delay if it dies at each start."""
        for slot, worker in self._slots.items():
            if worker.process.poll() is None:
                if not worker.hung and worker.pulse.hangs():
                    self._kill(slot, worker)
                continue
            now = time.monotonic()
            if worker.restart_at is None:
                quick = now - worker.started < _QUICK
                worker.delay = min(max(worker.delay * 2, 0.5), _LONGEST_DELAY) if quick else 0.0
                worker.restart_at = now + worker.delay
                _log.warning("worker %s ended with %s; restarted", slot, worker.process.returncode)
            if now >= worker.restart_at:
                self.restarts += 1
                worker.pulse.close()
                worker.process, worker.pulse = self._launch(slot)
                worker.started, worker.restart_at, worker.hung = now, None, False

    def _kill(self, slot: str, worker: _Slot) -> None:
        self.hangs += 1
        worker.hung = True
        text = "worker %s (process %d) hangs: it lives, and its event loop has not moved for %.0f s. Killed"
        _log.error(text, slot, worker.process.pid, HANGS_AFTER)
        worker.process.kill()

    def stop(self, patience: float = 10.0) -> None:
        """Let every worker finish its requests, then end what is still there."""
        for worker in self._slots.values():
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience
        for slot, worker in self._slots.items():
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("worker %s did not end within %.0f s: killed", slot, patience)
                worker.process.kill()
                worker.process.wait()

    def _launch(self, slot: str) -> tuple[subprocess.Popen[bytes], Pulse]:
        pulse = Pulse()
        descriptors = (self._listening.fileno(), self._alive_read, pulse.write_end)
        command = [sys.executable, "-m", "evergreen.serving.worker", "--slot", slot]
        command += ["--folder", str(self._folder), "--max-body", str(self._max_body)]
        command += ["--socket", str(descriptors[0]), "--alive", str(descriptors[1])]
        command += ["--pulse", str(descriptors[2])]
        command += ["--share-metrics"] if self._count > 1 else []
        command += ["--tokens"] if self._tokens else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, pass_fds=descriptors, env=environment, stdin=subprocess.DEVNULL)
        pulse.handed_over()
        return process, pulse
