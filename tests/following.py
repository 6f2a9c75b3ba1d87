"""Serving that follows an in-memory ledger, by a clock that moves only while somebody waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from evergreen.core.answering import Wait
from evergreen.core.errors import ServingFailed
from evergreen.core.ports import Answer, Ledger
from evergreen.core.records import Replica
from records import NOW

POOL = "fast"


@dataclass
class Serving:
    """The replicas of a pool, and its client. A replica follows the ledger `lag` seconds after a wait begins.

    `stuck` never follow, though they beat; `silent` report the version and refuse to answer. `asked` counts requests.
    """

    ledger: Ledger
    replicas: tuple[str, ...] = ("one:1",)
    lag: float = 0.0
    stuck: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    now: datetime = NOW
    asked: int = 0
    waited: float = 0.0
    versions: dict[str, dict[str, int]] = field(default_factory=dict)

    def wait(self, seconds: float) -> Wait:
        """A wait by this clock."""
        return Wait(seconds, clock=lambda: self.now, sleep=self._sleep)

    def beat(self) -> None:
        """All replicas follow what is released, and say so."""
        live = {release.model: release.version for release in self.ledger.releases.live(POOL)}
        for name in self.replicas:
            if name not in self.stuck or name not in self.versions:
                self.versions[name] = live
            self.ledger.replicas.beat(Replica(POOL, name, f"http://{name}", self.versions[name]), self.now)

    @contextmanager
    def connect(self, url: str) -> Iterator[Serving.Connection]:
        """One connection to a replica."""
        yield Serving.Connection(self, url.removeprefix("http://"))

    def _sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.waited += seconds
        if self.waited >= self.lag:
            self.beat()

    @dataclass
    class Connection:
        """To one replica."""

        serving: Serving
        replica: str

        def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
            """The version that the replica has."""
            self.serving.asked += 1
            if self.replica in self.serving.silent:
                raise ServingFailed("503 Service Unavailable")
            return Answer(self.serving.versions[self.replica][model], [0.5] * len(rows), 1.0)
