"""A world of the monitor (watched.World) with a champion, that passes are made over, for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from evergreen.core.addresses import Addresses
from evergreen.fakes.serving_counters import InMemoryServingCounters
from evergreen.steps.monitor import Outside, Report, Turns, monitor
from ledgers import release
from watched import NOON, World, usual_distances, watched_spec

MINUTES = timedelta(minutes=5)
HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)


class Monitored(World):
    """A world with a champion, that passes are made over."""

    def __init__(self, *versions: int, **spec: Any) -> None:
        super().__init__(watched_spec(**spec), *versions)
        self.now, self.turns, self.counters = NOON, Turns(), InMemoryServingCounters()
        self.specs = {self.spec.name: self.spec}
        self.champion(1)

    def champion(self, version: int, request_id: str = "request") -> None:
        made, seen = self.ledger.models.candidate("m", version), self.ledger.releases.champion("m").generation
        release(self.ledger, replace(made, generation_seen=seen, request_id=request_id), now=self.now)

    def outside(self, **changes: Any) -> Outside:
        pages = Addresses("/evergreen", "http://airflow")
        return replace(Outside(self.specs, self.store, self.log, pages, self.counters), **changes)

    def once(self, after: timedelta = MINUTES, **changes: Any) -> Report:
        self.now += after
        return monitor(self.ledger, self.outside(**changes), self.turns, lambda: self.now)

    def usual(self, rows: int = 100, **changes: Any) -> list[str]:
        """Answers as training saw such."""
        said = ((np.arange(rows) + 0.5) / rows).tolist()
        return self.answers(said, distance=usual_distances(rows), **{"at": self.now, **changes})

    def values(self, **only: Any) -> dict[str, float]:
        return {one.name: one.value for one in self.ledger.points.latest("m") if one.slice == only.get("slice", "")}
