"""A follower of releases with everything around it in memory, but for its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bundles import release

from evergreen.core.ports import Ledger, Store
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.store import InMemoryStore
from evergreen.serving.replica.caller_list import CallerList
from evergreen.serving.replica.follower import Follower, Pool
from evergreen.serving.state import (
    STATE,
    STATUS,
    WORKERS,
    PoolState,
    Reason,
    Released,
    Status,
    WorkerReport,
    read,
    write,
)


@dataclass
class Replica:
    """A follower with one pretended worker, whose reports a test writes."""

    folder: Path
    ledger: Ledger = field(default_factory=in_memory_ledger)
    store: InMemoryStore = field(default_factory=InMemoryStore)
    ledger_down: bool = False
    store_down: bool = False
    tokens: bool = False

    def __post_init__(self) -> None:
        (self.folder / WORKERS).mkdir(parents=True, exist_ok=True)
        self.follower = self.new()

    def new(self) -> Follower:
        """A follower as a restarted supervisor makes it."""
        callers = CallerList(self.folder) if self.tokens else None
        pool = Pool("default", "host:1", "http://host:1", self.folder)
        return Follower(pool, self.open_ledger, self.open_store, self, callers)

    def pids(self) -> Mapping[str, int]:
        return {"0": os.getpid()}

    def restarts(self) -> dict[str, int]:
        return {}

    def worker_reasons(self) -> list[Reason]:
        return []

    def open_ledger(self) -> Ledger:
        if self.ledger_down:
            raise ConnectionError("could not connect to server\nmore lines")
        return self.ledger

    def open_store(self) -> Store:
        if self.store_down:
            raise ConnectionError("bucket does not answer")
        return self.store

    def release(self, version: int, model: str = "flight-delay", pool: str = "default") -> None:
        release(self.ledger, self.store, version=version, model=model, pool=pool)

    def served(self) -> dict[str, int]:
        state = read(self.folder / STATE, PoolState)
        assert state is not None
        return {name: released.version for name, released in state.models.items()}

    def entry(self) -> Released:
        state = read(self.folder / STATE, PoolState)
        assert state is not None
        return state.models["flight-delay"]

    def reasons(self) -> list[Reason]:
        status = read(self.folder / STATUS, Status)
        assert status is not None
        return status.reasons

    def acknowledge(self, loaded: Released, **refused: str) -> None:
        report = WorkerReport(os.getpid(), 1, {"flight-delay": loaded}, refused)
        write(self.folder / WORKERS / "0.json", report)
