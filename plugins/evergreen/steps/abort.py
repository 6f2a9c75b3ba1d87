"""Abort: a person ends a release that has not gone live, on trial or before. The champion stays; it is declined."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem
from evergreen.core.records import Release, RequestState, RolloutState
from evergreen.steps.advance_rollouts import aborted_by
from evergreen.steps.awaited import CLOSED, STEP, waiting_request

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger


class NothingToAbort(FoundProblem):
    """Raised where no release of the model is on its way; nothing was changed."""


def abort(ledger: Ledger, model: str, *, by: str, reason: str, now: datetime) -> list[Release]:
    """Abort the model's releases on trial and prepared, decline their versions and end their requests.

    The same again, in the same words, makes up for what a kill has left. Raises NothingToAbort, with what may be done
    instead.
    """
    reason = " ".join(reason.split())
    if not reason:
        do = "Give one: it is what people read in the history."
        raise FoundProblem(f"abort of {model}, reason", found="an empty text", allowed="a sentence", do=do)
    ended = [
        ledger.releases.abort(release.id, by=by, reason=reason, now=now, decline=True)
        for release in [*ledger.releases.on_trial(), *ledger.releases.prepared()]
        if release.model == model
    ]
    aborted = [release for release in ended if release.state is RolloutState.ABORTED]
    aborted = aborted or _done_before(ledger, model, by, reason)
    if not aborted:  # or it went live in this moment
        raise _nothing(ledger, model)
    for release in aborted:
        _close(ledger, release, by, reason, now)
    return aborted


def told_of(aborted: Sequence[Release]) -> str:
    """What an abort did, in words."""
    versions, model = ", ".join(str(release.version) for release in aborted), aborted[0].model
    return f"{model}: the release of version {versions} is aborted and the version declined; the champion stays"


def _done_before(ledger: Ledger, model: str, by: str, reason: str) -> list[Release]:
    """What the same person aborted for the same reason, where nothing came after."""
    last = next(reversed(ledger.releases.events(model)), None)
    if last is None or (last.state, last.by, last.reason) != (RolloutState.ABORTED, by, reason):
        return []
    return [ledger.releases.get(last.release_id)]


def _close(ledger: Ledger, release: Release, by: str, reason: str, now: datetime) -> None:
    told, request = aborted_by(release.version, by, reason), waiting_request(ledger, release)
    if request and request.state not in CLOSED:
        ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step=STEP, reason=told)
    ledger.events.add(release.model, "release aborted", told, by=by, key=f"abort:{release.id}", now=now)


def _nothing(ledger: Ledger, model: str) -> NothingToAbort:
    champion = ledger.releases.champion(model)
    live = ledger.releases.get(champion.release_id).version if champion.release_id else None
    waiting = sorted({asked.version for asked in ledger.approvals.open_ones() if asked.model == model})
    if waiting:
        listed = ", ".join(map(str, waiting))
        found, do = f"version {listed}, which waits for approval", f"Refuse it: `evergreen reject {model} --reason …`."
    elif live is not None:
        found, do = f"version {live}, which is live", f"Go back: `evergreen rollback {model} --reason …`."
    else:
        found, do = "no release", f"`evergreen status {model}` says what the model waits for."
    return NothingToAbort(f"abort of {model}", found=found, allowed="a release that has not gone live", do=do)
