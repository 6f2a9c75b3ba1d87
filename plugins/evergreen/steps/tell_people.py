"""Writes the notices that follow from what the ledger holds: questions, releases, rollbacks, trials that nobody
asks, refusals and failures.

It looks back, so that a step that is killed right after its act loses no notice. The keys make each of them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import notices
from evergreen.core.guarding import Counted
from evergreen.core.judged_anew import judged_for
from evergreen.core.records import CHALLENGER, CandidateState, ReleaseKind, RequestState, RolloutState
from evergreen.core.trial import by_stage, short_of_requests, waits_for

if TYPE_CHECKING:
    from evergreen.core.addresses import Addresses
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Candidate, ReleaseEvent, TriggerRequest

LOOK_BACK = timedelta(days=1)  # what is older is no news
_REQUESTS = 100  # the newest of a model: more than end within a day
_JUDGE = "judge"  # the step at which the request of a refused candidate ends


def tell_people(ledger: Ledger, models: Iterable[str], addresses: Addresses, *, now: datetime) -> list[str]:
    """Write what is not written yet; returns what was."""
    since = now - LOOK_BACK
    told = [
        *_questions(ledger, addresses, now),
        *_releases(ledger, addresses, since, now),
        *_trials(ledger, addresses, now),
        *(one for model in models for one in _requests(ledger, model, addresses, since, now)),
    ]
    return [f"told people: {what}" for what in told]


def _questions(ledger: Ledger, addresses: Addresses, now: datetime) -> Iterator[str]:
    for asked in ledger.approvals.open_ones():
        page = addresses.question(asked.model, asked.run_id)
        if notices.approval_needed(ledger, asked, page, now):
            yield f"{asked.model} version {asked.version} waits for approval"


def _releases(ledger: Ledger, addresses: Addresses, since: datetime, now: datetime) -> Iterator[str]:
    for event in ledger.releases.events():
        if event.at >= since and _about_release(ledger, event, addresses, now):
            yield f"{event.model} version {event.version} is {event.state}"


def _trials(ledger: Ledger, addresses: Addresses, now: datetime) -> Iterator[str]:
    """Those that go on no more, since nobody asks."""
    for release in ledger.releases.on_trial():
        counted = by_stage(ledger.trials.counts(release.id)).get(release.stage, {})
        challenger = counted.get(CHALLENGER, Counted())
        if not short_of_requests(release, challenger, now) or ledger.trials.trips([release.id]):
            continue
        so_far, page = waits_for(release, challenger, now).partition(";")[0], addresses.model(release.model)
        if notices.short_of_requests(ledger, release, so_far, page, now):
            yield f"{release.model} version {release.version} is short of requests in {release.stage}"


def _about_release(ledger: Ledger, event: ReleaseEvent, addresses: Addresses, now: datetime) -> bool:
    """Whether it was news. The end of a release that another one follows is told with that one."""
    if event.state not in (RolloutState.LIVE, RolloutState.ABORTED, RolloutState.ROLLED_BACK):
        return False
    release, page = ledger.releases.get(event.release_id), addresses.version(event.model, event.version)
    if event.state is RolloutState.ROLLED_BACK:
        tried = release.generation == 0  # it never went live
        return tried and notices.tripped(ledger, release, event.reason, page, now)
    if event.state is RolloutState.ABORTED:
        return notices.aborted(ledger, release, event.by, event.reason, page, now)
    tell = notices.rolled_back if release.kind is ReleaseKind.ROLLBACK else notices.released
    return tell(ledger, release, page, now)


def _requests(ledger: Ledger, model: str, addresses: Addresses, since: datetime, now: datetime) -> Iterator[str]:
    for request in ledger.requests.latest(model, limit=_REQUESTS):
        if request.closed_at is None or request.closed_at < since:
            continue
        page = addresses.run(model, request.run_id)
        if request.state is RequestState.FAILED and notices.failed(ledger, request, request.reason, page, now):
            yield f"{model}: a retrain failed at {request.step}"
        if refused := _refused_by(ledger, request):
            page = addresses.version(model, refused.version)
            if notices.refused(ledger, refused, page, now):
                yield f"{model} version {refused.version} was refused"


def _refused_by(ledger: Ledger, request: TriggerRequest) -> Candidate | None:
    """The candidate that was refused in the run of this request; a dry run refuses nothing."""
    if request.state is not RequestState.SERVED or request.step != _JUDGE or request.detail.get("dry_run"):
        return None
    found = (c for c in ledger.models.candidates(request.model) if c.state is CandidateState.REJECTED)
    return next((candidate for candidate in found if judged_for(candidate, request.id)), None)
