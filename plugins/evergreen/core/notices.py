"""What people are told, and how often: each function writes one notice to the outbox, once.

The key says what a notice tells of (an approval, a request, a release), so that whoever notices the same thing again
writes nothing. All return whether the notice is new. `link` is the page to act on; an empty one is left out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.records import FLEET, NoticeKind, ReleaseKind
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Approval, Candidate, Release, TriggerRequest

FLEET_TITLE = "All models"  # in titles of notices that are about none in particular


def approval_needed(ledger: Ledger, approval: Approval, link: str, now: datetime) -> bool:
    """A question waits for a person."""
    title = f"{_version(approval.model, approval.version)} waits for approval"
    return _about(ledger, approval, NoticeKind.APPROVAL_NEEDED, title, _question(approval), link, now)


def reminder(ledger: Ledger, approval: Approval, link: str, now: datetime) -> bool:
    """A question has waited for long."""
    title = f"{_version(approval.model, approval.version)} still waits for approval"
    return _about(ledger, approval, NoticeKind.REMINDER, title, _question(approval), link, now)


def escalation(ledger: Ledger, approval: Approval, link: str, now: datetime) -> bool:
    """A question is about to end without an answer."""
    title = f"{_version(approval.model, approval.version)}: nobody has answered"
    return _about(ledger, approval, NoticeKind.ESCALATION, title, _question(approval), link, now)


def refused(ledger: Ledger, candidate: Candidate, link: str, now: datetime) -> bool:
    """A candidate's gates refused it. One that is judged anew, and refused again, is told of again."""
    why = candidate.verdict.reason if candidate.verdict else "it has no verdict"
    return ledger.notices.add(
        candidate.model,
        NoticeKind.REFUSED,
        key=f"refused:{candidate.version}:{candidate.generation_seen}",
        title=f"{_version(candidate.model, candidate.version)} was refused by its gates",
        text=f"{_sentence(why)} The champion stays.",
        link=link,
        now=now,
    )


def released(ledger: Ledger, release: Release, link: str, now: datetime) -> bool:
    """A version became champion."""
    return ledger.notices.add(
        release.model,
        NoticeKind.RELEASED,
        key=f"released:{release.id}",
        title=f"{_version(release.model, release.version)} was released",
        text=_done_by(release),
        link=link,
        now=now,
    )


def rolled_back(ledger: Ledger, release: Release, link: str, now: datetime) -> bool:
    """A release was taken back; `release` is the rollback, whose version is champion again."""
    return ledger.notices.add(
        release.model,
        NoticeKind.ROLLED_BACK,
        key=f"rolled_back:{release.id}",
        title=f"{release.model} was rolled back to version {release.version}",
        text=f"{_done_by(release)} The model is held until a person lifts the hold.",
        link=link,
        now=now,
    )


def tripped(ledger: Ledger, release: Release, why: str, link: str, now: datetime) -> bool:
    """A guard took a version off its trial."""
    return ledger.notices.add(
        release.model,
        NoticeKind.ROLLED_BACK,
        key=f"rolled_back:{release.id}",
        title=f"{_version(release.model, release.version)} was rolled back on its trial",
        text=f"{_sentence(why)} The champion answers all callers, and the version does not come back by itself.",
        link=link,
        now=now,
    )


def short_of_requests(ledger: Ledger, release: Release, so_far: str, link: str, now: datetime) -> bool:
    """A stage of a trial is over but for its requests, and long so; each stage is told of once."""
    what = (
        f"{_version(release.model, release.version)} stays in a stage of its trial for want of requests: {so_far}. "
        f"It goes on once they have come. Sooner: `evergreen promote {release.model}` or `evergreen abort "
        f"{release.model}`. Is the model asked seldom, a smaller rollout.min_requests suits it"
    )
    return reported(ledger, release.model, what, f"short:{release.id}:{release.stage}", link, now)


def aborted(ledger: Ledger, release: Release, by: str, why: str, link: str, now: datetime) -> bool:
    """A release was decided and did not go live."""
    title = f"{_version(release.model, release.version)} was not released after all"
    text = f"Aborted by {by}: {_sentence(why)}"
    key = f"aborted:{release.id}"
    return ledger.notices.add(release.model, NoticeKind.REPORTED, key=key, title=title, text=text, link=link, now=now)


def failed(ledger: Ledger, request: TriggerRequest, reason: str, link: str, now: datetime) -> bool:
    """A retrain failed. One that is cleared and fails again is told of again."""
    ended = request.closed_at.isoformat() if request.closed_at else ""
    return ledger.notices.add(
        request.model,
        NoticeKind.FAILED,
        key=f"failed:{request.id}:{ended}",
        title=f"{request.model}: a retrain failed at {request.step or 'its start'}",
        text=f"{_sentence(reason)} The champion stays.",
        link=link,
        now=now,
    )


def reported(ledger: Ledger, model: str, what: str, key: str, link: str, now: datetime) -> bool:
    """Something was repaired, or happened that nobody caused here. `key` says what, `what` is a sentence."""
    title = f"{FLEET_TITLE if model == FLEET else model}: something to look at"
    return ledger.notices.add(
        model, NoticeKind.REPORTED, key=f"reported:{key}", title=title, text=_sentence(what), link=link, now=now
    )


def silent(ledger: Ledger, since: datetime | None, link: str, now: datetime) -> bool:
    """The reconciler was last heard of at `since` (none: never). Each silence is told of once."""
    last = f"last heard of at {readable_time(since)}" if since else "never heard of"
    return ledger.notices.add(
        FLEET,
        NoticeKind.SILENT,
        key=f"silent:{since.isoformat() if since else 'never'}",
        title="Nothing heard from the reconciler",
        text=f"It was {last}. Until it is back, no request that waits is started, no rollout goes on and no alias is "
        "repaired; what is released goes on answering. See the triggerer and its log.",
        link=link,
        now=now,
    )


def monitor_silent(ledger: Ledger, since: datetime, link: str, now: datetime) -> bool:
    """The monitor was last heard of at `since`, or a first version answers since then and it never was."""
    return ledger.notices.add(
        FLEET,
        NoticeKind.SILENT,
        key=f"silent:monitor:{since.isoformat()}",
        title="Nothing heard from the monitor",
        text=f"Nothing since {readable_time(since)}. Until it is back, neither drift nor quality is watched and no "
        "metric starts a retrain; what is released goes on answering. See the DAG `monitor`: is it paused, does its "
        "task fail, does the scheduler run?",
        link=link,
        now=now,
    )


def stale(ledger: Ledger, model: str, newest: datetime, within: timedelta, link: str, now: datetime) -> bool:
    """The newest data of a model is older than its spec allows. Told of once, until newer data comes and ages too."""
    what = (
        f"The newest data of {model} is of {readable_time(newest)}, older than {format_duration(within)} "
        "(monitoring.fresh_within): see whether its source still gets rows"
    )
    return reported(ledger, model, what, f"stale:{newest.isoformat()}", link, now)


def _about(
    ledger: Ledger, approval: Approval, kind: NoticeKind, title: str, text: str, link: str, now: datetime
) -> bool:
    key = f"{kind}:{approval.id}"
    return ledger.notices.add(approval.model, kind, key=key, title=title, text=text, link=link, now=now)


def _question(approval: Approval) -> str:
    override = f" An approval would set aside gates that failed: {approval.overrides}." if approval.overrides else ""
    return (
        f"Asked at {readable_time(approval.asked_at)}; it ends without an answer at "
        f"{readable_time(approval.expires_at)}, and then the champion stays.{override}"
    )


def _done_by(release: Release) -> str:
    what = "Rolled back" if release.kind is ReleaseKind.ROLLBACK else "Released"
    return f"{what} at {readable_time(release.released_at)} by {release.released_by}: {_sentence(release.reason)}"


def _version(model: str, version: int) -> str:
    return f"{model} version {version}"


def _sentence(text: str) -> str:
    """With a full stop; first letter as it is, since many begin with a name."""
    return text if text.endswith((".", "!", "?")) else f"{text or 'No reason was given'}."
