"""Serving's client in memory: asks what answers at a URL of a pretended network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from evergreen.core.errors import ServingFailed
from evergreen.core.ports import Answer

Serve = Callable[[str, Sequence[Mapping[str, Any]]], Answer]


class InMemoryServingClient:
    """`network` says what answers at which URL, now: fakes.slots adds to it and takes away."""

    def __init__(self, network: Mapping[str, Serve]) -> None:
        self._network = network

    @contextmanager
    def connect(self, url: str) -> Iterator[InMemoryConnection]:
        """A connection, which notices at its first request if nothing answers there."""
        yield InMemoryConnection(self._network, url)

    def readiness(self, url: str) -> str:
        """What answers there is ready."""
        return "" if url in self._network else f"{url} does not answer"


class InMemoryConnection:
    """A connection to one URL."""

    def __init__(self, network: Mapping[str, Serve], url: str) -> None:
        self._network, self._url = network, url

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Ask what answers there. Raises ServingFailed when it refuses, or nothing does."""
        if self._url not in self._network:
            raise ServingFailed(f"POST /models/{model}/predict at {self._url} did not answer")
        return self._network[self._url](model, rows)
