"""Promote: a person makes a version on trial champion now, without waiting for the trial's end."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem, PromotionConflict, TrialTripped
from evergreen.core.records import Release, RequestState, RolloutState
from evergreen.core.rollout import Abort
from evergreen.steps.awaited import CLOSED, STEP, waiting_request
from evergreen.steps.rollout_facts import Trials, next_move

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger


class NotPromoted(FoundProblem):
    """Raised where no version of the model is on trial, or it must not go live; nothing was changed."""


def promote(ledger: Ledger, model: str, *, by: str, reason: str, now: datetime) -> Release:
    """Make the version on trial champion, and serve its request.

    The same again, in the same words, makes up for what a kill has left. Raises NotPromoted: a guard's trip, and what
    else ends a release, cannot be promoted over.
    """
    reason = " ".join(reason.split())
    if not reason:
        do = "Give one: it is what people read in the history."
        raise FoundProblem(f"promote of {model}, reason", found="an empty text", allowed="a sentence", do=do)
    trials = Trials.read(ledger)
    release = trials.on.get(model)
    live = _go_live(ledger, release, trials, by, reason, now) if release else _done_before(ledger, model, by, reason)
    if live is None:
        raise _nothing(ledger, model)
    _close(ledger, live, by, reason, now)
    return live


def told_of(release: Release) -> str:
    """What a promotion did, in words."""
    return f"{release.model}: version {release.version} is champion, generation {release.generation}; its trial is over"


def promoted_by(version: int, by: str, reason: str) -> str:
    """What a person's promotion is told as."""
    return f"released version {version}: promoted by {by}: {reason}"


def _go_live(ledger: Ledger, release: Release, trials: Trials, by: str, reason: str, now: datetime) -> Release | None:
    move = next_move(ledger, release, trials, now)
    if isinstance(move, Abort):
        raise _refused(release, move.reason)
    try:
        live = ledger.releases.go_live(release.id, now, by=by, reason=reason)
    except (PromotionConflict, TrialTripped) as conflict:
        raise _refused(release, str(conflict)) from conflict
    return live if live.state is RolloutState.LIVE else None  # it was ended this moment


def _refused(release: Release, why: str) -> NotPromoted:
    return NotPromoted(
        f"promote of {release.model} version {release.version}",
        found=why,
        allowed="a version on trial that nothing is in the way of",
        do=f"Nothing was changed. `evergreen history {release.model}` shows what becomes of it.",
    )


def _done_before(ledger: Ledger, model: str, by: str, reason: str) -> Release | None:
    """What the same person promoted for the same reason, where it is live."""
    ours = [e for e in ledger.releases.events(model) if (e.state, e.by, e.reason) == (RolloutState.LIVE, by, reason)]
    champion = ledger.releases.champion(model)
    return ledger.releases.get(champion.release_id) if ours and champion.release_id == ours[-1].release_id else None


def _close(ledger: Ledger, release: Release, by: str, reason: str, now: datetime) -> None:
    told, request = promoted_by(release.version, by, reason), waiting_request(ledger, release)
    if request and request.state not in CLOSED:
        ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step=STEP, reason=told)
    ledger.events.add(release.model, "promoted", told, by=by, key=f"promote:{release.id}", now=now)


def _nothing(ledger: Ledger, model: str) -> NotPromoted:
    last = next(reversed(ledger.releases.events(model)), None)
    waiting = sorted({asked.version for asked in ledger.approvals.open_ones() if asked.model == model})
    do = f"`evergreen status {model}` says what the model waits for."
    if waiting:
        listed = ", ".join(map(str, waiting))
        found, do = f"version {listed}, which waits for approval", f"Answer it: `evergreen approve {model}`."
    elif last and last.state is RolloutState.PREPARED:
        found, do = f"version {last.version}, which is about to go on trial", "Ask again in a few seconds."
    elif last and last.state in (RolloutState.ROLLED_BACK, RolloutState.ABORTED):
        found = f"version {last.version}, which is {last.state.replace('_', ' ')}: {last.reason}"
    else:
        found = f"version {last.version}, which is {last.state}" if last else "no release"
    return NotPromoted(f"promote of {model}", found=found, allowed="a version on trial", do=do)
