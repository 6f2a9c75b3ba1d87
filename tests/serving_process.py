"""A serving replica as real processes, and a small client for it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evergreen import wiring
from evergreen.core.ports import Ledger, Store
from evergreen.serving.state import WORKERS, WorkerReport, read


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Serving:
    """A supervisor of pool 'default' with its home, ledger and store. `token` goes with every request."""

    def __init__(self, home: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.token = ""
        self.home, self.port, self._options = home, free_port(), options
        self.folder = home / "serving" / "default"
        self._workers = int(options[options.index("--workers") + 1]) if "--workers" in options else 1
        self._environment = {**os.environ, "EVERGREEN_HOME": str(home), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        settings = wiring.Settings(home, home, f"sqlite:///{home / 'ledger.db'}", str(home / "store"), "sqlite:///none")
        self.ledger: Ledger = wiring.ledger(settings)
        self.store: Store = wiring.store(settings)

    def start(self) -> None:
        """Start the supervisor; its log goes to <home>/serving.log."""
        command = [sys.executable, "-m", "evergreen.serving", "--port", str(self.port), *self._options]
        with (self.home / "serving.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor's process."""
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """kill -9 the supervisor."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it by SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def report(self, slot: int = 0) -> WorkerReport | None:
        """What a worker last reported."""
        return read(self.folder / WORKERS / f"{slot}.json", WorkerReport)

    def worker_pid(self, slot: int = 0) -> int:
        """The process id of a worker."""
        report = self.report(slot)
        assert report is not None
        return report.pid

    def log(self) -> str:
        """What supervisor and workers wrote."""
        return (self.home / "serving.log").read_text()

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 10) -> tuple[int, Any]:
        """One request on a connection of its own; status and decoded body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            return ask(connection, method, path, body, self.token)
        finally:
            connection.close()

    def answer(self, row: dict[str, Any], model: str = "flight-delay") -> tuple[int, float]:
        """Version and prediction for one row."""
        status, found = self.ask("POST", f"/models/{model}/predict", {"records": [row]})
        assert status == 200, found
        return found["version"], found["predictions"][0]

    def await_version(self, version: int, model: str = "flight-delay", seconds: float = 20) -> float:
        """Wait until every worker answers with this version; the seconds that took."""

        def answers() -> bool:
            loaded = [report.loaded.get(model) for report in map(self.report, range(self._workers)) if report]
            if [released and released.version for released in loaded] != [version] * self._workers:
                return False
            status, found = self.ask("GET", f"/v2/models/{model}", timeout=seconds)
            return status == 200 and found["versions"] == [str(version)]

        return wait_for(answers, seconds, self.log)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, token: str = ""
) -> tuple[int, Any]:
    """One request on a connection that stays open."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    decoded = json.loads(text) if "json" in response.headers.get("content-type", "") else text.decode()
    return response.status, decoded


def wait_for(happened: Callable[[], bool], seconds: float, log: Callable[[], str] = str) -> float:
    """Ask until it is so; the seconds that took. Connection errors count as 'not yet'."""
    begun = time.monotonic()
    last = "it was not so"
    while time.monotonic() - begun < seconds:
        try:
            if happened():
                return time.monotonic() - begun
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {last}\n{log()}")


@contextmanager
def serving(home: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[Serving]:
    """A replica that is ended with its test, whatever the test did to it."""
    replica = Serving(home, *options, environment=environment)
    try:
        yield replica
    finally:
        if replica._process is not None and replica.process.poll() is None:
            replica.stop()
