"""The container slots, through the Docker SDK: low-level calls by name, which are all that docker-slots passes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from evergreen.core.errors import SlotUnavailable
from evergreen.core.ports import GRACE
from evergreen.core.slot_health import SlotFacts

PATIENCE = 30  # seconds for one call
REVISION = "org.opencontainers.image.revision"  # the label of the image, which its containers have too
_NANOSECONDS = re.compile(r"(\.\d{6})\d*")


class DockerSlots:
    """Implements core.ports.SlotContainers. `url` is that of docker-slots, such as tcp://docker-slots:2375."""

    def __init__(self, url: str) -> None:
        self._url = url

    def look(self, slot: str) -> SlotFacts:
        """What Docker says of it now; state `absent` where there is no such container. Raises SlotUnavailable."""
        with self._client(slot) as client:
            try:
                return facts_of(slot, client.inspect_container(slot))
            except NotFound:
                return SlotFacts(slot, "absent", None, None)

    def start(self, slot: str) -> None:
        """Start it; one that runs stays as it is. Raises SlotUnavailable."""
        with self._client(slot) as client:
            client.start(slot)

    def restart(self, slot: str) -> None:
        """Stop it, if it runs, and start it. Raises SlotUnavailable."""
        with self._client(slot) as client:
            client.restart(slot, timeout=round(GRACE))

    def stop(self, slot: str, grace: float = GRACE) -> None:
        """Stop it, with so many seconds to end by itself; one that does not run stays as it is.

        Raises SlotUnavailable.
        """
        with self._client(slot) as client:
            client.stop(slot, timeout=round(grace))

    @contextmanager
    def _client(self, slot: str) -> Iterator[_Client]:
        """A connection for one call: none is kept that a fork could inherit, or that HAProxy has closed."""
        try:
            client = _Client(self._url, version="auto", timeout=PATIENCE)
            try:
                yield client
            finally:
                client.close()
        except NotFound as error:
            raise SlotUnavailable(f"{slot}: there is no such container here. `make up` makes it.") from error
        except (DockerException, APIError, requests.RequestException) as error:
            said = error.explanation if isinstance(error, APIError) else error
            raise SlotUnavailable(
                f"{slot}: docker-slots at {self._url} (EVERGREEN_SLOTS_URL) refuses or does not answer: {said}. "
                "See `make status`, and `make logs` of docker-slots."
            ) from error


class _Client(docker.APIClient):
    """Never through a proxy that the environment names: docker-slots is on a network of its own."""

    trust_env = property(lambda _: False, lambda _, value: None)


def facts_of(slot: str, inspected: Mapping[str, Any]) -> SlotFacts:
    """What `docker inspect` says, as far as it matters here."""
    state, limit = inspected["State"], inspected["HostConfig"].get("Memory") or 0
    failures = _failures(state.get("Health") or {})
    return SlotFacts(
        slot,
        state["Status"],
        _time(state["StartedAt"]),
        _time(state["FinishedAt"]),
        restarts=inspected.get("RestartCount", 0),
        exit_code=state["ExitCode"],
        out_of_memory=state["OOMKilled"],
        health=(state.get("Health") or {}).get("Status", "none"),
        failing_since=_time(failures[0]["Start"]) if failures else None,
        health_said=_last_line(failures[-1]["Output"]) if failures else "",
        memory_limit_mb=limit / 1e6 if limit else None,
        revision=(inspected["Config"]["Labels"] or {}).get(REVISION, ""),
    )


def _failures(health: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The failed checks since the last good one; Docker remembers five checks."""
    failed: list[Mapping[str, Any]] = []
    for check in health.get("Log") or []:
        failed = [] if check["ExitCode"] == 0 else [*failed, check]
    return failed


def _last_line(said: str) -> str:
    """Of a Python program that failed, the line that names the error."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _time(text: str) -> datetime | None:
    """Docker's time has nanoseconds and sometimes an offset; year 1 is never."""
    time = datetime.fromisoformat(_NANOSECONDS.sub(r"\1", text))
    return None if time.year == 1 else time.astimezone(UTC)
