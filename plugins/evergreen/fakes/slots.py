"""Rehearsal slots in memory: a bundle of the store, verified, answering from its golden rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused, LeaseBusy, RehearsalFailed, ServingFailed
from evergreen.core.ports import Answer, Store

Serve = Callable[[str, Sequence[Mapping[str, Any]]], Answer]


class InMemorySlots:
    """Slots on a pretended network, which fakes.serving_client asks: URL → what answers there.

    `milliseconds` and `memory_mb` are told of each version (1.0 and 100.0 unless named); `started` lists the versions
    that were started, `most_at_once` is how many were up together. Without `beside`, a start while another one is up
    raises LeaseBusy. A row that is no golden row is answered as the first one.
    """

    def __init__(
        self,
        store: Store,
        network: dict[str, Serve],
        *,
        milliseconds: Mapping[int, float] | None = None,
        memory_mb: Mapping[int, float] | None = None,
        beside: bool = True,
    ) -> None:
        self.beside = beside
        self.started: list[int] = []
        self.most_at_once = self._up = 0
        self._store, self._network, self._numbers = store, network, itertools.count(1)
        self._milliseconds, self._memory_mb = milliseconds or {}, memory_mb or {}

    @contextmanager
    def start(self, model: str, version: int, bundle: str) -> Iterator[InMemorySlot]:
        """Serve this version of this model, and nothing else; gone with the context. Raises RehearsalFailed."""
        try:
            files = bundles.gather(bundle, lambda name: self._store.get(bundles.key(bundle, name)))
        except (BundleRefused, KeyError) as error:
            raise RehearsalFailed(f"{model} version {version} is refused. {error}") from error
        if self._up and not self.beside:
            raise LeaseBusy(f"{model} version {version}: another has the slot")
        url = f"memory://slot-{next(self._numbers)}"
        answering = _Answering(model, version, json.loads(files[bundles.GOLDEN]), self._milliseconds.get(version, 1.0))
        self.started.append(version)
        self._network[url] = answering.predict
        self._up += 1
        self.most_at_once = max(self.most_at_once, self._up)
        try:
            yield InMemorySlot(url, self._memory_mb.get(version, 100.0))
        finally:
            self._up -= 1
            del self._network[url]


class InMemorySlot:
    """A slot that is up."""

    def __init__(self, url: str, memory_mb: float) -> None:
        self.url, self._memory_mb = url, memory_mb

    def memory_mb(self) -> float:
        """What the test said."""
        return self._memory_mb


class _Answering:
    """As much of serving as its callers see."""

    def __init__(self, model: str, version: int, golden: Mapping[str, Any], milliseconds: float) -> None:
        self._model, self._version, self._milliseconds = model, version, milliseconds
        self._features, self._default = golden["rows"][0].keys(), golden["predictions"][0]
        pairs = zip(golden["rows"], golden["predictions"], strict=True)
        self._known = {bundles.canonical_json(row): prediction for row, prediction in pairs}

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Answer rows of this model's features. Raises ServingFailed."""
        if model != self._model:
            raise ServingFailed(f"404: model '{model}': found no such model here; allowed: '{self._model}'")
        if not rows:
            raise ServingFailed("422: records: found no record; allowed: at least one")
        for at, row in enumerate(rows):
            if other := sorted(row.keys() ^ self._features):
                raise ServingFailed(f"422: row {at}, '{other[0]}'; allowed: {', '.join(self._features)}")
        found = [self._known.get(bundles.canonical_json(dict(row)), self._default) for row in rows]
        return Answer(self._version, found, self._milliseconds)
