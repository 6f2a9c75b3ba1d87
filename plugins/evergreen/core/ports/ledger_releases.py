"""The parts of the ledger that decide what is served: releases, holds, approvals; and who serves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import (
        Approval,
        ApprovalState,
        Candidate,
        Champion,
        Hold,
        HoldEvent,
        Release,
        ReleaseEvent,
        Replica,
        RolloutPlan,
        RolloutState,
    )


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
        plan: RolloutPlan | None = None,
    ) -> Release:
        """Decide to release the candidate, against `candidate.generation_seen`: a release that is prepared.

        Its release that is prepared or on trial comes back where there is one, its newest release where its state is
        RELEASED. Raises
        PromotionConflict if the champion has changed, EvergreenError for a candidate that may not be released: ended,
        or to_override without an approval of its verdict.
        """

    def enter(self, release: Release, state: RolloutState, weight: int, *, reason: str, now: datetime) -> Release:
        """Put a release that is as `release` says (its state and weight) into a stage of its trial.

        One transaction: the release with `stage_since` now, and its event. One that has moved meanwhile comes back as
        it is. Raises PromotionConflict if the champion has changed, EvergreenError where another release of the model
        is on trial.
        """

    def go_live(self, release_id: str, now: datetime, *, by: str = "", reason: str = "") -> Release:
        """Make a release champion that is prepared or on trial, if the generation is still `seen`.

        Another comes back as it is.

        One transaction: the release, its event, the champion row, the release that it replaces, the candidate's state.
        `by` and `reason` are a person's who did not wait for the trial's end. Raises PromotionConflict if the champion
        has changed: then it stays. TrialTripped where a guard took it off, KeyError if there is none.
        """

    def abort(
        self, release_id: str, *, by: str, reason: str, now: datetime, decline: bool = False, tripped: bool = False
    ) -> Release:
        """End a release that is prepared or on trial; another comes back as it is. KeyError if there is none.

        `decline`: a person does not want the candidate, which is then DECLINED in the same transaction. `tripped`: a
        guard ended its trial, so it is ROLLED_BACK and not ABORTED, and so is its candidate.
        """

    def prepared(self) -> list[Release]:
        """The prepared releases of all models, oldest first."""

    def on_trial(self, pool: str | None = None) -> list[Release]:
        """The releases on trial, of a pool or of all, oldest first."""

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

    def changes(self) -> int:
        """Another number than before where a release has changed its state since, of any model; 0 before the first.

        Cheap, to be asked several times a second. It may miss one of two changes that happen at once: whoever goes by
        it reads the whole now and then in any case.
        """


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


class Replicas(Protocol):
    """Who serves."""

    def beat(self, replica: Replica, now: datetime) -> None:
        """Record that the replica lives and which versions it answers with."""

    def alive(self, pool: str, since: datetime) -> list[Replica]:
        """Replicas that were heard of since then."""
