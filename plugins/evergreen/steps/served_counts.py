"""Brings serving's own counters (requests, failures, latency) into the tallies of the day.

A worker counts from its beginning on; what is added is what has come since it was seen last. Of a worker that is new
all counts, unless nothing was seen of the model before: then nobody knows when they came.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.errors import ServingFailed
from evergreen.core.monitoring.day import Cell
from evergreen.core.monitoring.tally import FAILED, LATENCY, REQUESTS

if TYPE_CHECKING:
    from evergreen.core.monitoring.day import Day
    from evergreen.core.ports import Ledger, Served, ServingCounters
    from evergreen.steps.counting import Counting

ALIVE = timedelta(seconds=30)  # a replica that was heard of within it is asked
REMEMBERED = 1000  # counters of a model
ByModel = Mapping[str, list[tuple[str, "Served"]]]
log = logging.getLogger(__name__)


def read_served(ledger: Ledger, counters: ServingCounters, pools: Collection[str], now: datetime) -> ByModel:
    """By model the counters of all replicas that live, each with its replica. One that does not answer is left out."""
    found: dict[str, list[tuple[str, Served]]] = defaultdict(list)
    for pool in sorted(set(pools)):
        for replica in ledger.replicas.alive(pool, now - ALIVE):
            try:
                counted = counters.read(replica.url)
            except ServingFailed as error:
                log.warning("The counters of %s: %s", replica.replica, error)
                continue
            for one in counted:
                found[one.model].append((f"{pool}/{replica.replica}", one))
    return found


def count_served(
    day: Day,
    served: Sequence[tuple[str, Served]],
    seen: Mapping[str, list[float]],
    champion: int,
    now: datetime,
    counting: Counting,
) -> bool:
    """Add what has come since `seen`, the counters as an earlier pass saw them, to the bucket of now; whether the day
    is to be kept. Requests that failed before a version was known are the champion's."""
    latest, changed = dict(seen), False
    for replica, one in served:
        key, counts = f"{replica}|{one.boot}|{one.version}|{one.arm}", [one.requests, one.failed, *one.latency]
        before = latest.pop(key, [0.0] * len(counts) if seen else counts)
        if len(before) != len(counts) or any(new < old for new, old in zip(counts, before, strict=True)):
            before = [0.0] * len(counts)  # it began anew under the same name
        latest[key] = counts  # the last one now: those not seen for longest come first
        changed |= counts != seen.get(key)
        _add(day, one, [new - old for new, old in zip(counts, before, strict=True)], champion, now, counting)
    day.served = dict(list(latest.items())[-REMEMBERED:])
    return changed


def _add(day: Day, one: Served, came: Sequence[float], champion: int, now: datetime, counting: Counting) -> None:
    import numpy as np

    version = one.version or champion
    layout = counting.layout(day, version)
    if layout is None or not any(came):
        return
    vector = np.zeros(layout.size)
    layout.part(vector, REQUESTS)[:], layout.part(vector, FAILED)[:] = came[0], came[1]
    layout.part(vector, LATENCY)[: len(came) - 2] = came[2:]
    day.add(Cell(version, one.arm, int(now.timestamp()) // day.seconds * day.seconds), vector)
