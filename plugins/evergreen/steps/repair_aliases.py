"""Puts the registry's aliases back to what the ledger says, and reports those that a hand has moved.

A hand has moved what differs although the ledger says what it said when the aliases were last as they should be. What
differs because the ledger has gone on is set without a word: a release or a training is at work there, or died.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import notices
from evergreen.core.aliases import CHALLENGER, Picture, wanted

if TYPE_CHECKING:
    from evergreen.core.ports import Aliases, Ledger

BY = "reconciler"
GONE = 0  # the version that an alias has which is not there


def repair_aliases(ledger: Ledger, registry: Aliases, models: Iterable[str], *, now: datetime) -> list[str]:
    """One pass over these models; what was repaired, in sentences. Raises what the registry raises."""
    return [told for model in models for told in _repair(ledger, registry, model, now)]


def _repair(ledger: Ledger, registry: Aliases, model: str, now: datetime) -> list[str]:
    generation, before = ledger.releases.champion(model).generation, _last(ledger, model)
    should, newest = wanted(ledger, model, generation), _newest(ledger, model)
    shown = registry.aliases(model)
    apart = {alias: shown.get(alias, GONE) for alias, version in should.items() if shown.get(alias) != version}
    if apart.get(CHALLENGER, GONE) > newest:
        del apart[CHALLENGER]  # train sets the alias first, and keeps the candidate last
    if ledger.releases.champion(model).generation != generation:
        return []  # the next pass looks again
    moved = apart if should == before.aliases else {}
    told = [_report(ledger, model, alias, moved[alias], should[alias], before, now) for alias in moved]
    if moved != before.moved:
        _keep(ledger, model, Picture(before.aliases, moved), now)
    for alias in apart:
        registry.set_alias(model, alias, should[alias])
    if before.aliases != should or moved:
        _keep(ledger, model, Picture(should), now)
    return told


def _report(ledger: Ledger, model: str, alias: str, version: int, back: int, before: Picture, now: datetime) -> str:
    """Tell people of a hand's move, once for each: what was reported and could not be put back is not told again."""
    said = f"pointed at version {version} (moved" if version else "was gone (taken away"
    told = f"{alias} {said} by hand in MLflow); put back to version {back}"
    if before.moved.get(alias) != version:
        key = f"alias:{alias}:{version}:{back}:{now:%Y-%m-%dT%H:%M}"
        ledger.events.add(model, "alias moved", told, by=BY, key=key, now=now)
        notices.reported(ledger, model, told, key, "", now)
    return f"{model}: {told}"


def _newest(ledger: Ledger, model: str) -> int:
    return max((candidate.version for candidate in ledger.models.candidates(model)), default=GONE)


def _last(ledger: Ledger, model: str) -> Picture:
    beat = ledger.heartbeats.last(_name(model))
    return Picture.of(beat.detail) if beat else Picture()


def _keep(ledger: Ledger, model: str, picture: Picture, now: datetime) -> None:
    ledger.heartbeats.beat(_name(model), picture.text(), now)


def _name(model: str) -> str:
    return f"aliases of {model}"
