"""Notices that nothing comes: no pass of the monitor, no newer data of a model. Nobody else would say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import notices
from evergreen.core.watching import MONITOR, first_release, silent_since

if TYPE_CHECKING:
    from evergreen.core.addresses import Addresses
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec


def watch_silence(ledger: Ledger, specs: Mapping[str, ModelSpec], pages: Addresses, *, now: datetime) -> list[str]:
    """Write what is not written yet; returns what was. Each silence is told of once."""
    return [*_monitor(ledger, specs, pages, now), *_stale(ledger, specs, pages, now)]


def _monitor(ledger: Ledger, specs: Mapping[str, ModelSpec], pages: Addresses, now: datetime) -> Iterator[str]:
    since = silent_since(specs, ledger.heartbeats.last(MONITOR), first_release(ledger), now)
    if since and notices.monitor_silent(ledger, since, pages.dag(MONITOR), now):
        yield "told people: nothing is heard from the monitor"


def _stale(ledger: Ledger, specs: Mapping[str, ModelSpec], pages: Addresses, now: datetime) -> Iterator[str]:
    for name, spec in specs.items():
        within = spec.monitoring.fresh_within
        newest = ledger.requests.newest_watermark(model=name) if within else None
        if not (within and newest and now - newest > within):
            continue
        if notices.stale(ledger, name, newest, within, pages.model(name), now):
            yield f"told people: the data of {name} is stale"
