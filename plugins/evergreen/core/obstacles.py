"""What is in the way of a release that has not gone live: another champion, its candidate, a hold, a newer verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.approval import AUTO
from evergreen.core.holds import held, how_to_lift
from evergreen.core.records import ENDED, Approval, Candidate, CandidateState, Hold, Release, ReleaseKind
from evergreen.core.verdict_json import digest

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen.core.records import Trip
    from evergreen.core.trial import Arms

RELEASABLE = frozenset({CandidateState.PASSED, CandidateState.TO_OVERRIDE})


@dataclass(frozen=True)
class Facts:
    """What a move of a release rests on.

    `generation` is the champion's, `champion` its release, none before the first, `champion_run` the run that made it,
    empty where that is not known. `approval` is the one that let the release through, none where nobody was asked.
    `hold` is the newest that applies to the model. `other` is another release of the model that is on trial. Of a
    release on trial: `trip` of its guard, and `arms`, what was counted in its stage.
    """

    generation: int
    champion: Release | None
    candidate: Candidate
    approval: Approval | None = None
    hold: Hold | None = None
    champion_run: str = ""
    other: Release | None = None
    trip: Trip | None = None
    arms: Arms | None = None


def obstacle(release: Release, facts: Facts) -> str:
    """Why the release must not go live any more; empty where nothing is in the way."""
    return _replaced(release, facts) or _ended(facts) or _held(release, facts) or _judged_anew(release, facts)


def who_was_quicker(version: int, facts: Facts) -> str:
    """Who became champion while this version waited, by name."""
    champion, waited = facts.champion, f"(generation {facts.generation}) while version {version} waited"
    if champion is None:
        return f"the champion changed {waited}"
    if champion.kind is ReleaseKind.ROLLBACK:
        return f"{champion.released_by} rolled back to version {champion.version} {waited}"
    by = f" by run {facts.champion_run}" if facts.champion_run else ""
    return f"version {champion.version} became champion{by} {waited}"


def judged_since(approval: Approval, candidate: Candidate) -> str:
    """Says so where a person approved another verdict than the one of now, or one against another champion."""
    if (approval.generation_seen, approval.evidence) == (candidate.generation_seen, digest(candidate.verdict)):
        return ""
    return f"version {candidate.version} was judged again after {approval.answered_by} approved it"


def _replaced(release: Release, facts: Facts) -> str:
    return "" if facts.generation == release.seen else who_was_quicker(release.version, facts)


def _ended(facts: Facts) -> str:
    candidate = facts.candidate
    if candidate.state in RELEASABLE:
        return ""
    when = "by now" if candidate.state in ENDED else "since it was judged anew"
    return f"version {candidate.version} is {candidate.state.replace('_', ' ')} {when}"


def _held(release: Release, facts: Facts) -> str:
    """A hold that was there when a person approved does not stop the release; without a person each hold does."""
    hold, decided = facts.hold, _decided_at(release, facts.approval)
    if hold is None or (decided and hold.since <= decided):
        return ""
    return f"{held(hold)}. Version {release.version} was not released. To lift it: {how_to_lift(hold)}"


def _decided_at(release: Release, approval: Approval | None) -> datetime | None:
    """When a person decided; none where nobody did."""
    if approval:
        return approval.answered_at
    return None if release.released_by == AUTO else release.released_at


def _judged_anew(release: Release, facts: Facts) -> str:
    """What was let through is one verdict; another request may have judged the candidate to another since."""
    verdict = facts.candidate.verdict
    if facts.approval:
        return judged_since(facts.approval, facts.candidate)
    if release.released_by == AUTO and verdict and verdict.ask_why:
        return f"version {release.version} was judged again, and a person must decide: {verdict.ask_why}"
    return ""
