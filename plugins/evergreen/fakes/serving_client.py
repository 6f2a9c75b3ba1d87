"""Serving's client in memory: asks what answers at a URL of a pretended network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from evergreen.core.errors import ServingFailed
from evergreen.core.logged_parts import milliseconds_of
from evergreen.core.ports import Answer

Told = dict[tuple[str, str], list[Mapping[str, Any]]]
Serve = Callable[[str, Sequence[Mapping[str, Any]]], Answer]


class InMemoryServingClient:
    """`network` says what answers at which URL, now: fakes.slots adds to it and takes away. `told` is the ground truth
    that was kept, by URL and model."""

    def __init__(self, network: Mapping[str, Serve]) -> None:
        self._network = network
        self.told: Told = {}

    @contextmanager
    def connect(self, url: str) -> Iterator[InMemoryConnection]:
        """A connection, which notices at its first request if nothing answers there."""
        yield InMemoryConnection(self._network, url, self.told)

    def readiness(self, url: str) -> str:
        """What answers there is ready."""
        return "" if url in self._network else f"{url} does not answer"


class InMemoryConnection:
    """A connection to one URL."""

    def __init__(self, network: Mapping[str, Serve], url: str, told: Told) -> None:
        self._network, self._url, self.told = network, url, told

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Ask what answers there. Raises ServingFailed when it refuses, or nothing does."""
        if self._url not in self._network:
            raise ServingFailed(f"POST /models/{model}/predict at {self._url} did not answer")
        return self._network[self._url](model, rows)

    def tell(self, model: str, records: Sequence[Mapping[str, Any]]) -> int:
        """Keep ground truth of a model that answers there. Raises ServingFailed for what serving refuses."""
        if self._url not in self._network:
            raise ServingFailed(f"POST /models/{model}/ground-truth at {self._url} did not answer")
        if not records:
            raise ServingFailed(f"POST /models/{model}/ground-truth was answered with 422: records: found no record")
        wrong = [at for at, one in enumerate(records) if milliseconds_of(str(one.get("inference_id"))) is None]
        if wrong:
            said = f"record {wrong[0]}, field 'inference_id'"
            raise ServingFailed(f"POST /models/{model}/ground-truth was answered with 422: {said}")
        self.told.setdefault((self._url, model), []).extend(records)
        return len(records)
