"""Heartbeats of serving replicas in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from evergreen.core.records import Replica


class InMemoryReplicas:
    """Twin of adapters.ledger.replicas."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Replica] = {}

    def beat(self, replica: Replica, now: datetime) -> None:
        """Record that the replica lives and which versions it answers with."""
        self._rows[replica.pool, replica.replica] = replace(replica, heartbeat=now)

    def alive(self, pool: str, since: datetime) -> list[Replica]:
        """Replicas that were heard of since then, by name."""
        rows = [r for r in list(self._rows.values()) if r.pool == pool and r.heartbeat and r.heartbeat >= since]
        return sorted(rows, key=lambda r: r.replica)
