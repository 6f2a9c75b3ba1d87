"""The parts of the ledger by which serving and the reconciler talk: trials, settings, rolls of a pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import ArmCount, PoolEvent, ServingSettings, Trip


class Trials(Protocol):
    """What replicas count of the releases on trial, and what their guards decide."""

    def trip(self, trip: Trip) -> bool:
        """Take a release off trial; false where one did already: the first stays."""

    def trips(self, release_ids: Iterable[str]) -> dict[str, Trip]:
        """The trips of these releases, by release."""

    def count(self, counts: Iterable[ArmCount]) -> None:
        """Keep counts, each in place of the one of the same release, stage, arm, replica and boot."""

    def counts(self, release_id: str) -> list[ArmCount]:
        """All counts of a release, by stage, arm, replica and boot."""


class Settings(Protocol):
    """What the specs say that serving must know."""

    def put(self, settings: ServingSettings) -> bool:
        """Keep a model's settings in place of those before; false where nothing changed."""

    def of(self, pool: str) -> dict[str, ServingSettings]:
        """The settings of a pool's models, by model."""


class Pools(Protocol):
    """Which colour of a pool callers are sent to, and how it came to that. History never shrinks."""

    def record(self, event: PoolEvent) -> None:
        """Keep a step of a roll."""

    def history(self, pool: str) -> list[PoolEvent]:
        """All steps, oldest first; the last one names the active colour."""
