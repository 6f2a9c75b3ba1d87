"""The registry's aliases `champion`, `previous` and `challenger`: a picture of what the ledger says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen.core.records import ENDED

if TYPE_CHECKING:
    from evergreen.core.ports import Aliases, Ledger

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"


@dataclass(frozen=True)
class Picture:
    """What the aliases were found, or made, to be like: version by alias.

    `moved` are those that a hand has moved and that were reported, and not put back yet: 0 where it took one away.
    """

    aliases: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """For the ledger."""
        return json.dumps([self.aliases, self.moved], sort_keys=True)

    @classmethod
    def of(cls, text: str) -> Picture:
        """What `text` wrote."""
        aliases, moved = json.loads(text)
        return cls(aliases, moved)


def project(ledger: Ledger, registry: Aliases, model: str) -> None:
    """Set champion and previous to what the ledger says now, whoever ran last."""
    shown = -1
    while shown != (now := ledger.releases.champion(model).generation):  # another release may come meanwhile
        for alias, version in released(ledger, model, now).items():
            registry.set_alias(model, alias, version)
        shown = now


def released(ledger: Ledger, model: str, generation: int) -> dict[str, int]:
    """The versions of this generation and of the one before, as far as there were any."""
    versions = {release.generation: release.version for release in ledger.releases.history(model)}
    named = ((CHAMPION, generation), (PREVIOUS, generation - 1))
    return {alias: versions[number] for alias, number in named if number in versions}


def wanted(ledger: Ledger, model: str, generation: int) -> dict[str, int]:
    """All that the ledger has to say. Where no newer version waits, the challenger may stay what it is."""
    by_release = released(ledger, model, generation)
    champion = by_release.get(CHAMPION, 0)
    open_ones = [c.version for c in ledger.models.candidates(model) if c.state not in ENDED and c.version > champion]
    return {**by_release, **({CHALLENGER: max(open_ones)} if open_ones else {})}
