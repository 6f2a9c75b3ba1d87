"""Runs `docker compose up` and waits until every service is healthy, telling of each as it gets there."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from evergreen.composed.docker_cli import ALL, ROOT, Container, containers, environment, log_end, state
from evergreen.composed.env_file import Refused

READY_WITHIN = 300.0  # seconds, once the images are built
PATIENCE = 15.0  # seconds without news, then what is waited for is told
LOOK = 1.0  # seconds between two looks
INIT = "init"  # the one service that ends
Say = Callable[[str], None]


class Starting:
    """One start: what was ready `before` it is told of only if it was made or started anew."""

    def __init__(self, say: Say, before: Mapping[str, Container], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._began = self._news = clock()
        self._known = {name: start(one) for name, one in before.items() if is_ready(name, one)}

    def compose_up(self, services: Sequence[str]) -> None:
        """Have Compose start the services. Raises Refused with its words, and init's log if that failed."""
        with tempfile.TemporaryFile("w+") as said:
            command = [*ALL, "up", "--detach", "--no-build", *services]
            process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=said, stderr=said)
            while process.poll() is None:
                self._look(services)
                time.sleep(LOOK)
            if process.returncode:
                said.seek(0)
                raise Refused(why_not(said.read().strip(), containers()))

    def wait(self, services: Sequence[str]) -> None:
        """Until all are ready. Raises Refused with what is not once the time is over."""
        while waiting := self._look(services):
            if self._clock() - self._began > READY_WITHIN:
                raise Refused(late(waiting, containers()))
            time.sleep(LOOK)

    def _look(self, services: Sequence[str]) -> dict[str, str]:
        """The state of each service that is not ready; tells of those that are since the last look."""
        found = containers()
        for name in services:
            if name in found and is_ready(name, found[name]) and self._known.get(name) != start(found[name]):
                self._known[name] = start(found[name])
                self._tell(f"{name}: {'done' if name == INIT else 'ready'}")
        waiting = {n: describe(found.get(n)) for n in services if n not in found or not is_ready(n, found[n])}
        if waiting and self._clock() - self._news > PATIENCE:
            self._tell("waiting for " + ", ".join(f"{name} ({how})" for name, how in waiting.items()))
        return waiting

    def _tell(self, line: str) -> None:
        self._news = self._clock()
        self._say(f"{self._news - self._began:4.0f} s  {line}")


def is_ready(service: str, container: Container) -> bool:
    """Whether it is healthy; of init, whether it ended well."""
    if service == INIT:
        return state(container) == "exited" and container["State"]["ExitCode"] == 0
    return state(container) == "healthy"


def start(container: Container) -> tuple[str, str]:
    """Which container, and which start of it."""
    return container["Id"], container["State"]["StartedAt"]


def describe(container: Container | None) -> str:
    """Its state, and how often it was restarted, where it was."""
    if container is None:
        return "not made yet"
    times = container["RestartCount"]
    return state(container) + (f", restarted {times} times" if times else "")


def why_not(said: str, found: Mapping[str, Container]) -> str:
    """Why Compose could not start it all: the end of init's log where init failed, else Compose's words."""
    init = found.get(INIT)
    if init and init["State"]["Status"] == "exited" and init["State"]["ExitCode"]:
        ended = f"init ended with {init['State']['ExitCode']}, and the rest waits for it. The end of its log:"
        return f"{ended}\n{log_end(init, 15)}"
    hint = ""
    if "address already in use" in said or "port is already allocated" in said:
        hint = "\nAnother program has the port: set EVERGREEN_UI_PORT or EVERGREEN_SERVING_PORT in .env to a free one."
    return f"docker compose up failed:\n{said}{hint}"


def late(waiting: Mapping[str, str], found: Mapping[str, Container]) -> str:
    """What is not ready, what it said last, and where to look."""
    lines = [f"Not ready within {READY_WITHIN:.0f} s:"]
    for name, how in waiting.items():
        lines.append(f"  {name}: {how}. More of its log: make logs ARGS='{name} --tail 50'")
        lines += [f"    {line}" for line in (log_end(found[name], 5).splitlines() if name in found else [])]
    return "\n".join([*lines, "What is ready goes on; `make up` waits again."])
