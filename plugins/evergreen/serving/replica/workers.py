"""The worker processes of a serving supervisor: fresh interpreters on one listening socket."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evergreen.serving import state as files
from evergreen.serving.limits import Limits, LogLimits
from evergreen.serving.pulse import DRAIN, HANGS_AFTER, Pulse
from evergreen.serving.replica.endings import Endings
from evergreen.serving.state import Reason, WorkerReport

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

    def __init__(
        self,
        folder: Path,
        listening: socket.socket,
        count: int,
        limits: Limits,
        log: LogLimits | None = None,
        *,
        tokens: bool,
    ) -> None:
        self._folder, self._listening, self._count, self._limits = folder, listening, count, limits
        self._tokens, self._log = tokens, log
        self._alive_read, self._alive_write = os.pipe()  # the write end is closed by our death alone
        self._slots: dict[str, _Slot] = {}
        self._endings = Endings()
        self._draining = False

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

    def restarts(self) -> dict[str, int]:
        """How many were started again, by why the one before ended (serving.endings)."""
        return self._endings.counts

    def worker_reasons(self) -> list[Reason]:
        """What ended workers lately."""
        return self._endings.reasons()

    def drain(self) -> None:
        """Let every worker say that it is not ready, and answer on, each connection once more."""
        self._draining = True
        for worker in self._slots.values():
            if worker.process.poll() is None:
                worker.process.send_signal(DRAIN)

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
                ended = self._endings.add(slot, worker.process.returncode, hung=worker.hung)
                _log.warning("worker %s ended (%s); restarted", slot, ended)
            if now >= worker.restart_at:
                worker.pulse.close()
                worker.process, worker.pulse = self._launch(slot)
                worker.started, worker.restart_at, worker.hung = now, None, False
                if self._draining:
                    worker.process.send_signal(DRAIN)  # it waits, blocked, until the worker looks for it

    def _kill(self, slot: str, worker: _Slot) -> None:
        worker.hung = True
        text = "worker %s (process %d) hangs: it lives, and its event loop has not moved for %.0f s. Killed"
        _log.error(text, slot, worker.process.pid, HANGS_AFTER)
        worker.process.kill()

    def stop(self, patience: float = 10.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Let every worker finish its requests, then kill what is still there, at once if told to hurry."""
        for worker in self._slots.values():
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience
        while any(worker.process.poll() is None for worker in self._slots.values()):
            if hurry() or time.monotonic() > deadline:
                self._kill_all()
            time.sleep(0.01)

    def _kill_all(self) -> None:
        for slot, worker in self._slots.items():
            if worker.process.poll() is None:
                _log.warning("worker %s has not ended: killed", slot)
                worker.process.kill()
                worker.process.wait()

    def _launch(self, slot: str) -> tuple[subprocess.Popen[bytes], Pulse]:
        pulse = Pulse()
        descriptors = (self._listening.fileno(), self._alive_read, pulse.write_end)
        command = [sys.executable, "-m", "evergreen.serving.worker", "--slot", slot]
        command += ["--folder", str(self._folder), "--max-body", str(self._limits.max_body)]
        command += ["--max-rows", str(self._limits.max_rows), "--max-queue", str(self._limits.max_queue)]
        command += ["--max-connections", str(self._limits.max_connections)]
        command += ["--model-memory", str(self._limits.model_memory)]
        command += ["--socket", str(descriptors[0]), "--alive", str(descriptors[1])]
        command += ["--pulse", str(descriptors[2])]
        command += ["--share-metrics"] if self._count > 1 else []
        command += ["--tokens"] if self._tokens else []
        command += ["--log"] if self._log else []
        if self._log:
            command += ["--log-seconds", str(self._log.seconds), "--log-backlog", str(self._log.backlog)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, pass_fds=descriptors, env=environment, stdin=subprocess.DEVNULL)
        pulse.handed_over()
        return process, pulse
