"""The registry's aliases `champion` and `previous`: a picture of what the ledger says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry


def project(ledger: Ledger, registry: Registry, model: str) -> None:
    """Set the aliases to what the ledger says now, whoever ran last."""
    shown = -1
    while shown != (now := ledger.releases.champion(model).generation):  # another release may come meanwhile
        versions = {release.generation: release.version for release in ledger.releases.history(model)}
        for alias, generation in (("champion", now), ("previous", now - 1)):
            if generation in versions:
                registry.set_alias(model, alias, versions[generation])
        shown = now
