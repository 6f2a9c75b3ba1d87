"""Trials, settings of serving and rolls of pools in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from evergreen.core.records import ArmCount, PoolEvent, ServingSettings, Trip
from evergreen.fakes.ledger.times import aware

_Key = tuple[str, str, str, str, str]


class InMemoryTrials:
    """Twin of adapters.ledger.trials."""

    def __init__(self) -> None:
        self._trips: dict[str, Trip] = {}
        self._counts: dict[_Key, ArmCount] = {}

    def trip(self, trip: Trip) -> bool:
        """Take a release off trial; false where one did already: the first stays."""
        new = replace(trip, at=aware(trip.at))
        return self._trips.setdefault(trip.release_id, new) is new

    def trips(self, release_ids: Iterable[str]) -> dict[str, Trip]:
        """The trips of these releases, by release."""
        return {one: self._trips[one] for one in release_ids if one in self._trips}

    def count(self, counts: Iterable[ArmCount]) -> None:
        """Keep counts, each in place of the one of the same release, stage, arm, replica and boot."""
        self._counts |= {(c.release_id, c.stage, c.arm, c.replica, c.boot): c for c in counts}

    def counts(self, release_id: str) -> list[ArmCount]:
        """All counts of a release, by stage, arm, replica and boot."""
        return [count for key, count in sorted(self._counts.items(), key=lambda item: item[0]) if key[0] == release_id]


class InMemorySettings:
    """Twin of adapters.ledger.settings."""

    def __init__(self) -> None:
        self._rows: dict[str, ServingSettings] = {}

    def put(self, settings: ServingSettings) -> bool:
        """Keep a model's settings in place of those before; false where nothing changed."""
        changed = self._rows.get(settings.model) != settings
        self._rows[settings.model] = settings
        return changed

    def of(self, pool: str) -> dict[str, ServingSettings]:
        """The settings of a pool's models, by model."""
        return {model: row for model, row in sorted(self._rows.items()) if row.pool == pool}


class InMemoryPools:
    """Twin of adapters.ledger.pools."""

    def __init__(self) -> None:
        self._rows: dict[str, list[PoolEvent]] = defaultdict(list)

    def record(self, event: PoolEvent) -> None:
        """Keep a step of a roll."""
        self._rows[event.pool].append(replace(event, at=aware(event.at)))

    def history(self, pool: str) -> list[PoolEvent]:
        """All steps, oldest first; the last one names the active colour."""
        return list(self._rows[pool])
