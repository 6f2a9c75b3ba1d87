"""What serving counts of the requests that it answers and does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Served:
    """Counted by one worker of a replica for a version in an arm, since the worker began (`boot`, which differs by
    worker, too).

    `version` is 0 where a request failed before it was known. `requests` are those that were answered or failed, not
    those that were refused; `latency` counts the answered ones by time: core.monitoring.tally.LATENCY_SECONDS, and one
    more above.
    """

    boot: str
    model: str
    version: int
    arm: str
    requests: float = 0
    failed: float = 0
    latency: tuple[float, ...] = ()


class ServingCounters(Protocol):
    """The counters of serving replicas."""

    def read(self, url: str) -> list[Served]:
        """Those of the replica at this URL. Raises ServingFailed where it does not answer."""
