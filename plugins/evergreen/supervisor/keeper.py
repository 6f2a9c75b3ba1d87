"""The keeper: starts the components, restarts what dies, and stops them all when it is asked to end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from evergreen.supervisor import stack as stacks
from evergreen.supervisor.components import Component, components
from evergreen.supervisor.rotation import rotate
from evergreen.supervisor.sessions import Session, end

POLL = 0.25  # seconds
ROTATE = 60.0  # seconds between two looks at the sizes of the logs
STEADY = 30.0  # seconds after which a component counts as up, and its next death as the first
MAX_DELAY = 30.0  # seconds between two starts of a component that keeps dying

# The child waits for a line before it becomes the component: none is started before its session is on record,
# and a keeper that dies in between takes it along.
_GATE = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")

log = logging.getLogger(__name__)


@dataclass
class _Child:
    component: Component
    process: subprocess.Popen[bytes]
    session: Session
    started: float
    deaths: int = 0
    due: float | None = None  # when it is started again; none while it runs


def delay(deaths: int) -> float:
    """Seconds before the next start: at once after the first death, then 1, 2, 4 … 30."""
    return 0.0 if deaths <= 1 else min(2.0 ** (deaths - 2), MAX_DELAY)


class Keeper:
    """Keeps the components of one home running."""

    def __init__(self, home: Path) -> None:
        record = stacks.read(home)
        assert record is not None, "up writes the record before it starts the keeper"
        self._home = home
        self._record = record.with_session(stacks.KEEPER, Session.of(os.getpid()))
        stacks.write(home, self._record)
        self._children: list[_Child] = []
        self._stop = threading.Event()
        self._rotate_at = 0.0  # monotonic

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        try:
            self._children = [self._start(c) for c in components(self._record.stack, self._home)]
            while not self._stop.wait(POLL):
                for child in self._children:
                    self._watch(child)
                self._keep_logs_small()
        finally:
            end(child.session for child in self._children)

    def _start(self, component: Component) -> _Child:
        with (self._home / "logs" / f"{component.name}.log").open("ab") as out:
            process = subprocess.Popen(
                [*_GATE, *component.argv],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                env={**os.environ, **component.environment},
                start_new_session=True,
            )
        session = Session.of(process.pid)
        self._record = self._record.with_session(component.name, session)
        stacks.write(self._home, self._record)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        log.info("%s started, pid %d", component.name, process.pid)
        return _Child(component, process, session, time.monotonic())

    def _watch(self, child: _Child) -> None:
        if child.due is None:
            if child.process.poll() is None:
                return
            self._died(child)
        if child.due is not None and time.monotonic() >= child.due:
            again = self._start(child.component)
            child.process, child.session, child.started, child.due = again.process, again.session, again.started, None

    def _keep_logs_small(self) -> None:
        if time.monotonic() < self._rotate_at:
            return
        self._rotate_at = time.monotonic() + ROTATE
        try:
            for name in rotate(self._home / "logs"):
                log.info("%s was large: rotated", name)
        except OSError:  # a full disk must not stop what keeps the components running
            log.exception("The logs could not be rotated")

    def _died(self, child: _Child) -> None:
        code = child.process.returncode
        end([child.session], grace=0)  # what it left behind may hold its port, or work for a dead parent
        steady = time.monotonic() - child.started > STEADY
        child.deaths = 1 if steady else child.deaths + 1
        child.due = time.monotonic() + delay(child.deaths)
        log.warning("%s ended with %s, starting again in %.0f s", child.component.name, code, delay(child.deaths))


def keep(home: Path) -> None:
    """Run the keeper of this home in this process."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Keeper(home).run()
