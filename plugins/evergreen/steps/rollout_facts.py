"""All that the next move of a release rests on, read from the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.obstacles import Facts
from evergreen.core.records import FLEET, ON_TRIAL, Candidate, Release, Trip
from evergreen.core.rollout import Move, advance
from evergreen.core.trial import by_stage
from evergreen.steps.awaited import approval_of, waiting_request

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Approval, Hold


@dataclass
class Trials:
    """What is on trial now, by model, and what guards took off it, by release: read at once for all models."""

    on: dict[str, Release]
    trips: dict[str, Trip]

    @classmethod
    def read(cls, ledger: Ledger) -> Trials:
        """As it is in the ledger."""
        found = ledger.releases.on_trial()
        return cls({one.model: one for one in found}, ledger.trials.trips(one.id for one in found))

    def note(self, release: Release) -> None:
        """A release has moved."""
        if release.state in ON_TRIAL:
            self.on[release.model] = release
        elif (known := self.on.get(release.model)) and known.id == release.id:
            del self.on[release.model]


def next_move(ledger: Ledger, release: Release, trials: Trials, now: datetime) -> Move:
    """What comes next for the release, by all that the ledger holds."""
    candidate = ledger.models.candidate(release.model, release.version)
    facts = facts_of(ledger, candidate, approval_of(ledger, release), release, trials)
    return advance(release, facts, now)


def facts_of(
    ledger: Ledger,
    candidate: Candidate,
    approval: Approval | None,
    release: Release | None = None,
    trials: Trials | None = None,
) -> Facts:
    """All that the next move of the candidate's release rests on, as it is now; without one, that of its making."""
    champion = ledger.releases.champion(candidate.model)
    live = ledger.releases.get(champion.release_id) if champion.release_id else None
    other = trials.on.get(candidate.model) if trials else None
    tried = release is not None and release.state in ON_TRIAL
    return Facts(
        generation=champion.generation,
        champion=live,
        candidate=candidate,
        approval=approval,
        hold=_newest_hold(ledger, candidate.model),
        champion_run=_run_of(ledger, live) if live else "",
        other=other if other and not (release and other.id == release.id) else None,
        trip=trials.trips.get(release.id) if release and trials else None,
        arms=by_stage(ledger.trials.counts(release.id)).get(release.stage, {}) if release and tried else None,
    )


def _newest_hold(ledger: Ledger, model: str) -> Hold | None:
    """Of the model's own and the fleet's."""
    holds = [hold for what in (model, FLEET) if (hold := ledger.holds.applying(what))]
    return max(holds, key=lambda hold: hold.since, default=None)


def _run_of(ledger: Ledger, release: Release) -> str:
    if approval := approval_of(ledger, release):
        return approval.run_id
    request = waiting_request(ledger, release)
    return request.run_id if request else ""
