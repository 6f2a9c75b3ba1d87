"""Rehearsal slots as child processes: the serving program, for one version, in a session and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from evergreen.adapters.child_slots.child import POOL, Child, limited
from evergreen.adapters.child_slots.folder import own_folder
from evergreen.adapters.child_slots.session import end

TIMEOUT = 60.0  # seconds until it must be ready
SERVING = (sys.executable, "-m", "evergreen.serving")
# Of our own environment it gets what a library may need, and none of what opens ledger, sources, Airflow or MLflow.
_KEPT_FROM_IT = ("EVERGREEN_", "AIRFLOW", "MLFLOW_", "_AIRFLOW")


class WaitUntilReady(Protocol):
    """What adapters.slot_readiness.wait_until_ready does."""

    def __call__(
        self, url: Callable[[], str | None], model: str, version: int, *, timeout: float, check: Callable[[], None]
    ) -> str:
        """The URL, once the process is ready there. Raises RehearsalFailed."""


class ChildSlots:
    """Starts the serving program as a child. `command` is its command line, `timeout` in seconds.

    A slot whose processes together hold more than `memory_limit_mb` (of 10^6 bytes) is killed, so that a runaway
    candidate cannot take the host with it. A slot ends with its context, and with this process, however that ends.
    """

    beside = True

    def __init__(
        self,
        root: Path,
        home: Path,
        store_url: str,
        wait_until_ready: WaitUntilReady,
        *,
        memory_limit_mb: float,
        command: Sequence[str] = SERVING,
        timeout: float = TIMEOUT,
    ) -> None:
        self._root, self._folders, self._store_url = root, home / "rehearsals", store_url
        self._wait_until_ready, self._command = wait_until_ready, tuple(command)
        self._timeout, self._memory_limit_mb = timeout, memory_limit_mb

    @contextmanager
    def start(self, model: str, version: int, bundle: str) -> Iterator[ChildSlot]:
        """Serve this version of this model, and nothing else; stopped with the context. Raises RehearsalFailed."""
        what = f"{model} version {version}"
        only = ("--only", f"{model}:{version}:{bundle}", "--pool", POOL, "--port", "0", "--end-with-stdin")
        with own_folder(self._folders) as folder, self._running((*self._command, *only), folder) as process:
            child = Child(what, process, folder)
            with limited(child, self._memory_limit_mb):
                url = self._wait_until_ready(child.url, model, version, timeout=self._timeout, check=child.check)
                yield ChildSlot(url, child)

    @contextmanager
    def _running(self, command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The program in a session of its own, which is ended with the context."""
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self._environment(folder),
                stdin=subprocess.PIPE,  # it ends when this is closed: by us, or by the kernel when we are killed
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            with contextlib.suppress(OSError):  # if memory runs out before we look, the kernel is to take this one
                Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
            yield process
        finally:
            end(process)

    def _environment(self, folder: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_FROM_IT)}
        own = {"PROJECT": str(self._root), "HOME": str(folder), "STORE_URL": self._store_url}
        return {**kept, **{f"EVERGREEN_{name}": value for name, value in own.items()}}


class ChildSlot:
    """A slot that is up."""

    def __init__(self, url: str, child: Child) -> None:
        self.url, self._child = url, child

    def memory_mb(self) -> float:
        """The highest resident memory of the worker so far, in MB. Raises RehearsalFailed if it is gone."""
        return self._child.peak_mb()
