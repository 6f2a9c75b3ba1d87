"""The control ledger: the one place that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import (
        Approval,
        ApprovalState,
        CallerToken,
        Candidate,
        CandidateState,
        Cause,
        Champion,
        Event,
        Heartbeat,
        Hold,
        HoldEvent,
        Lease,
        Notice,
        NoticeKind,
        Release,
        ReleaseEvent,
        Replica,
        RequestState,
        SlotEvent,
        Snapshot,
        TriggerRequest,
        Verdict,
    )


class TriggerRequests(Protocol):
    """Trigger requests: one row for each reason to retrain."""

    def open(
        self,
        *,
        model: str,
        source: str,
        cause: Cause,
        dedupe_key: str,
        run_id: str | None,
        watermark: datetime | None,
        as_of: datetime | None,
        detail: Mapping[str, Any],
        now: datetime,
        due_at: datetime | None = None,
    ) -> TriggerRequest:
        """Make an open request, or return the one that has this (model, dedupe key).

        Without a `run_id` it waits for the reconciler (`queued`), until `due_at` if that is given.
        """

    def put_off(self, request_id: str, *, until: datetime | None, reason: str, now: datetime) -> TriggerRequest:
        """Let an open request wait for the reconciler (`queued`), under the next own run id; its step is empty again.

        One that is queued already keeps its run id, and takes the new `until` and `reason`; one that is not open stays
        as it is.
        """

    def unfinished(self, model: str | None = None) -> list[TriggerRequest]:
        """The open and claimed requests, oldest first."""

    def get(self, request_id: str) -> TriggerRequest:
        """KeyError if there is none."""

    def for_run(self, model: str, run_id: str) -> TriggerRequest | None:
        """The request that this run serves, else the one that it opened and that was put off since."""

    def mark(
        self,
        request_id: str,
        *,
        now: datetime,
        state: RequestState | None = None,
        step: str | None = None,
        reason: str | None = None,
        watermark: datetime | None = None,
        as_of: datetime | None = None,
    ) -> TriggerRequest:
        """Change what is given. `closed_at` is set by each closed state, and cleared by claimed."""

    def latest(self, model: str, *, limit: int = 1) -> list[TriggerRequest]:
        """The newest requests of a model, newest first."""

    def last_served(self, model: str) -> TriggerRequest | None:
        """The newest served request of a model."""

    def newest_watermark(
        self, *, model: str | None = None, source: str | None = None, cause: Cause | None = None
    ) -> datetime | None:
        """The newest watermark of any request of this model, source or cause, whatever its state."""


class Leases(Protocol):
    """One holder a model at a time, from pull to judge."""

    def acquire(self, model: str, holder: str, ttl: timedelta, now: datetime) -> Lease:
        """Take or renew the lease. Raises LeaseBusy (naming the holder) while another's has not expired."""

    def release(self, model: str, holder: str) -> None:
        """Give it up; nothing happens if it is not held by this holder."""

    def get(self, model: str) -> Lease | None:
        """The lease, expired or not."""

    def check(self, lease: Lease) -> None:
        """Raise LeaseLost where another has taken it since, or it was given up. That it has run out does not matter."""


class Models(Protocol):
    """Snapshots and candidates.

    Who writes under a lease hands it in: LeaseLost is raised, and nothing written, where it is no longer theirs
    (see Leases.check), in the same transaction.
    """

    def add_snapshot(self, snapshot: Snapshot, *, lease: Lease | None = None) -> None:
        """Keep a snapshot; the same id again changes nothing, but for a `suite` where there was none."""

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""

    def add_candidate(self, candidate: Candidate, *, lease: Lease | None = None) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key)."""

    def candidate(self, model: str, version: int) -> Candidate:
        """KeyError if there is none."""

    def candidates(self, model: str) -> list[Candidate]:
        """All candidates of a model, newest version first."""

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""

    def judge(
        self,
        model: str,
        version: int,
        *,
        verdict: Verdict,
        state: CandidateState,
        generation_seen: int,
        lease: Lease | None = None,
    ) -> Candidate:
        """Keep the verdict and the champion generation that it was reached against.

        A candidate that has ended meanwhile (records.ENDED: two requests may judge one) comes back as it is.
        """

    def reopen(self, model: str, version: int) -> Candidate:
        """Let a rejected, declined or rolled-back candidate be judged anew: state TRAINED. Others stay as they are."""


class Releases(Protocol):
    """Releases and who is champion. History never shrinks."""

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""

    def prepare(
        self,
        candidate: Candidate,
        *,
        pool: str,
        released_by: str,
        reason: str,
        watermark: datetime | None,
        now: datetime,
        approval_id: str = "",
    ) -> Release:
        """Decide to release the candidate, against `candidate.generation_seen`: a release that is prepared.

        Its prepared release comes back where there is one, its newest release where its state is RELEASED. Raises
        PromotionConflict if the champion has changed, EvergreenError for a candidate that may not be released: ended,
        or to_override without an approval of its verdict.
        """

    def go_live(self, release_id: str, now: datetime) -> Release:
        """Make a prepared release champion, if the generation is still `seen`; one that is not prepared stays as it is.

        One transaction: the release, its event, the champion row, the release that it replaces, the candidate's state.
        Raises PromotionConflict if the champion has changed: then it stays prepared. KeyError if there is none.
        """

    def abort(self, release_id: str, *, by: str, reason: str, now: datetime, decline: bool = False) -> Release:
        """End a prepared release; one that is not prepared comes back as it is. KeyError if there is none.

        `decline`: a person does not want the candidate, which is then DECLINED in the same transaction.
        """

    def prepared(self) -> list[Release]:
        """The prepared releases of all models, oldest first."""

    def roll_back(
        self,
        candidate: Candidate,
        *,
        seen: int,
        pool: str,
        by: str,
        reason: str,
        act: str,
        now: datetime,
    ) -> Release:
        """Make an earlier version champion again, if the generation is still `seen`.

        One transaction: a release of kind rollback, its event, the champion row, the state ROLLED_BACK of the
        version that was champion and of its release, and a hold on the model by the same person and reason. The same
        act again returns its release. Raises PromotionConflict if the champion has changed, EvergreenError for a
        version that was never released or is champion already.
        """

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""

    def history(self, model: str | None = None) -> list[Release]:
        """All releases that went live, oldest first."""

    def events(self, model: str | None = None) -> list[ReleaseEvent]:
        """All changes of state of all releases, oldest first."""

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""


class Holds(Protocol):
    """Who may not be promoted automatically. `model` may be records.FLEET: all of them."""

    def place(self, model: str, *, by: str, reason: str, now: datetime) -> Hold:
        """Hold the model. Held already: the first hold stays and comes back."""

    def lift(self, model: str, *, by: str, reason: str, now: datetime) -> bool:
        """End the model's hold; false if there was none."""

    def applying(self, model: str) -> Hold | None:
        """The model's own hold, else the fleet's."""

    def history(self, model: str | None = None) -> list[HoldEvent]:
        """All events, oldest first."""


class Approvals(Protocol):
    """Questions to people, and their answers."""

    def ask(
        self,
        candidate: Candidate,
        *,
        request_id: str,
        run_id: str,
        expires_at: datetime,
        now: datetime,
        overrides: str = "",
    ) -> Approval:
        """Open a question about the candidate's bundle, generation and verdict, as they are now.

        Asked again for the same request and version, the newest open one comes back; one that was answered stays in
        the history and a new one is opened.
        """

    def answer(self, approval_id: str, *, state: ApprovalState, by: str | None, reason: str, now: datetime) -> Approval:
        """Keep the first answer; whoever comes later gets that one back. KeyError if there is no such question.

        In the same transaction REJECTED marks a candidate that is still PASSED as DECLINED, and whatever is no
        approval one that is still TO_OVERRIDE as REJECTED. EXPIRED has `by` none.
        """

    def open_ones(self) -> list[Approval]:
        """The open questions of all models, oldest first."""

    def latest(self, model: str, version: int) -> Approval | None:
        """The newest question about this version."""

    def history(self, model: str | None = None) -> list[Approval]:
        """All questions, oldest first."""


class Tokens(Protocol):
    """Callers of serving. Only digests of tokens are kept; rows are revoked and never removed."""

    def add(self, caller: str, digest: str, *, by: str, now: datetime, reason: str = "") -> CallerToken:
        """Keep a token's digest (core.caller_tokens.digest). The same digest again returns the token that has it."""

    def revoke(self, token_id: str, *, by: str, now: datetime) -> CallerToken:
        """End a token's life. Revoked already: the first one stays. KeyError if there is no such token."""

    def active(self) -> list[CallerToken]:
        """The tokens that are not revoked, oldest first."""

    def all(self) -> list[CallerToken]:
        """All tokens, oldest first."""


class SlotEvents(Protocol):
    """What happened to container slots: deaths, restarts, refusals."""

    def add(self, slot: str, what: str, detail: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the slot has one of this key already."""

    def latest(self, limit: int) -> list[SlotEvent]:
        """The newest events of all slots, newest first."""


class Events(Protocol):
    """What people must be able to read later: an alias that a hand moved, an override, a question superseded."""

    def add(self, model: str, what: str, detail: str, *, by: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the model has one of this key already."""

    def history(self, model: str | None = None) -> list[Event]:
        """All events, oldest first."""


class Heartbeats(Protocol):
    """Who runs for ever, and was last heard of when."""

    def beat(self, name: str, detail: str, now: datetime) -> None:
        """It lives, and says this."""

    def last(self, name: str) -> Heartbeat | None:
        """None where it was never heard of."""


class Notices(Protocol):
    """Messages to people: written with what they tell of, sent afterwards by whoever can."""

    def add(self, model: str, kind: NoticeKind, *, key: str, title: str, text: str, link: str, now: datetime) -> bool:
        """Keep a message to be sent; false where the model has one of this key already."""

    def unsent(self, *, tries: int) -> list[Notice]:
        """Those that were not sent and have failed fewer times than this, oldest first."""

    def sent(self, notice_id: str, now: datetime) -> None:
        """It went out."""

    def failed(self, notice_id: str, error: str) -> None:
        """Count a try that failed, and why."""

    def latest(self, limit: int) -> list[Notice]:
        """The newest, sent or not, newest first."""


class Replicas(Protocol):
    """Who serves."""

    def beat(self, replica: Replica, now: datetime) -> None:
        """Record that the replica lives and which versions it answers with."""

    def alive(self, pool: str, since: datetime) -> list[Replica]:
        """Replicas that were heard of since then."""


@dataclass(frozen=True)
class Ledger:
    """The control ledger: the one place that decides."""

    requests: TriggerRequests
    leases: Leases
    models: Models
    releases: Releases
    replicas: Replicas
    holds: Holds
    approvals: Approvals
    tokens: Tokens
    slot_events: SlotEvents
    events: Events
    heartbeats: Heartbeats
    notices: Notices
