"""Releases and champions in memory."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

from evergreen.core.errors import EvergreenError, PromotionConflict, TrialTripped
from evergreen.core.records import (
    NEVER_RELEASED,
    ON_TRIAL,
    ApprovalState,
    Candidate,
    CandidateState,
    Champion,
    Release,
    ReleaseEvent,
    ReleaseKind,
    RolloutPlan,
    RolloutState,
)
from evergreen.core.verdict_json import digest
from evergreen.fakes.ledger.approvals import InMemoryApprovals
from evergreen.fakes.ledger.holds import InMemoryHolds
from evergreen.fakes.ledger.models import InMemoryModels
from evergreen.fakes.ledger.times import aware, utc
from evergreen.fakes.ledger.trials import InMemoryTrials


class InMemoryReleases:
    """Twin of adapters.ledger.releases."""

    def __init__(
        self, models: InMemoryModels, holds: InMemoryHolds, approvals: InMemoryApprovals, trials: InMemoryTrials
    ) -> None:
        self._lock = models.lock
        self._models = models
        self._holds = holds
        self._approvals = approvals
        self._trials = trials
        self._rows: dict[str, Release] = {}  # in order of their making
        self._champions: dict[str, Champion] = {}
        self._events: list[ReleaseEvent] = []

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""
        return self._champions.get(model, Champion(model, None, 0))

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
        RELEASED. Raises PromotionConflict if the champion has changed, EvergreenError for a candidate that may not be
        released, KeyError for one that was never kept.
        """
        model, version, seen = candidate.model, candidate.version, candidate.generation_seen
        with self._lock:
            state = self._models.candidate(model, version).state
            went_live = self._of_version(model, version)
            under_way = [r for r in self._under_way() if (r.model, r.version) == (model, version)]
            if found := went_live if state is CandidateState.RELEASED else under_way:
                return found[-1]
            self._refuse(candidate, state)
            self._unchanged(model, seen)
            told = {"released_by": released_by, "reason": reason, "watermark": utc(watermark)}
            told |= {"released_at": aware(now), "approval_id": approval_id, "state": RolloutState.PREPARED}
            told["plan"] = plan
            return self._tell(self._new(candidate, pool, seen, **told), released_by, reason, now)

    def enter(self, release: Release, state: RolloutState, weight: int, *, reason: str, now: datetime) -> Release:
        """Put a release that is as `release` says (its state and weight) into a stage of its trial.

        One that has moved meanwhile comes back as it is. Raises PromotionConflict if the champion has changed,
        EvergreenError where another release of the model is on trial.
        """
        with self._lock:
            kept = self._rows[release.id]
            if (kept.state, kept.weight) != (release.state, release.weight):
                return kept
            self._unchanged(kept.model, kept.seen)
            for other in self.on_trial():
                if other.model == kept.model and other.id != kept.id:
                    told = f"{kept.model}: version {other.version} is on trial; version {kept.version} has to wait."
                    raise EvergreenError(told)
            entered = replace(kept, state=state, weight=weight, stage_since=aware(now))
            return self._tell(entered, kept.released_by, reason, now)

    def go_live(self, release_id: str, now: datetime, *, by: str = "", reason: str = "") -> Release:
        """Make a release champion that is prepared or on trial, if the generation is still `seen`.

        Another comes back as it is. Raises PromotionConflict if the champion has changed: then it stays. TrialTripped
        where a guard took it off, EvergreenError for a candidate that may not be released any more, KeyError for a
        release that there is none of.
        """
        with self._lock:
            kept = self._rows[release_id]
            if kept not in self._under_way():
                return kept
            state = self._models.candidate(kept.model, kept.version).state
            if state in NEVER_RELEASED:
                raise _may_not(kept.model, kept.version, state)
            if self._trials.trips([release_id]):
                raise TrialTripped(kept.model, kept.version)
            live = replace(_off_trial(kept, RolloutState.LIVE), generation=kept.seen + 1, released_at=aware(now))
            return self._make_champion(live, RolloutState.REPLACED, by=by, reason=reason)

    def abort(
        self, release_id: str, *, by: str, reason: str, now: datetime, decline: bool = False, tripped: bool = False
    ) -> Release:
        """End a release that is prepared or on trial; another comes back as it is. KeyError if there is none.

        `decline`: a person does not want the candidate, which is then DECLINED. `tripped`: a guard ended its trial, so
        it is ROLLED_BACK and not ABORTED, and so is its candidate.
        """
        with self._lock:
            kept = self._rows[release_id]
            if kept not in self._under_way():
                return kept
            waiting = (CandidateState.PASSED, CandidateState.TO_OVERRIDE)
            if (decline or tripped) and self._models.candidate(kept.model, kept.version).state in waiting:
                becomes = CandidateState.ROLLED_BACK if tripped else CandidateState.DECLINED
                self._models.change(kept.model, kept.version, state=becomes)
            ends = RolloutState.ROLLED_BACK if tripped else RolloutState.ABORTED
            return self._tell(_off_trial(kept, ends), by, reason, now)

    def prepared(self) -> list[Release]:
        """The prepared releases of all models, oldest first."""
        with self._lock:
            return [r for r in self._rows.values() if r.state is RolloutState.PREPARED]

    def on_trial(self, pool: str | None = None) -> list[Release]:
        """The releases on trial, of a pool or of all, oldest first."""
        with self._lock:
            return [r for r in self._rows.values() if r.state in ON_TRIAL and pool in (None, r.pool)]

    def _under_way(self) -> list[Release]:
        return [*self.prepared(), *self.on_trial()]

    def roll_back(
        self, candidate: Candidate, *, seen: int, pool: str, by: str, reason: str, act: str, now: datetime
    ) -> Release:
        """Make an earlier version champion again, if the generation is still `seen`; its champion is held.

        The same act again returns its release. Raises PromotionConflict if the champion has changed, EvergreenError
        for a version that was never released or is champion already, KeyError for a candidate that was never kept.
        """
        model, version = candidate.model, candidate.version
        with self._lock:
            self._models.candidate(model, version)
            if done := next((r for r in self.history(model) if r.act == act != ""), None):
                return done
            earlier = self._of_version(model, version)
            if not earlier:
                raise EvergreenError(f"{model}: version {version} was never released. Nothing was rolled back.")
            self._unchanged(model, seen)
            champion = self._rows[str(self.champion(model).release_id)]
            if champion.version == version:
                raise EvergreenError(f"{model}: version {version} is champion already. Nothing was rolled back.")
            told = {"released_by": by, "reason": reason, "watermark": earlier[-1].watermark, "released_at": aware(now)}
            new = self._new(candidate, pool, seen, generation=seen + 1, kind=ReleaseKind.ROLLBACK, act=act, **told)
            made = self._make_champion(new, RolloutState.ROLLED_BACK)
            self._models.change(model, champion.version, state=CandidateState.ROLLED_BACK)
            self._holds.place(model, by=by, reason=reason, now=now)
            return made

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""
        return self._rows[release_id]

    def history(self, model: str | None = None) -> list[Release]:
        """All releases that went live, oldest first."""
        with self._lock:
            return [self._rows[e.release_id] for e in self.events(model) if e.state is RolloutState.LIVE]

    def events(self, model: str | None = None) -> list[ReleaseEvent]:
        """All changes of state of all releases, oldest first."""
        with self._lock:
            return [e for e in self._events if model in (None, e.model)]

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""
        with self._lock:
            live = [self._rows[c.release_id] for c in self._champions.values() if c.release_id]
        return sorted((r for r in live if r.pool == pool), key=lambda r: r.model)

    def changes(self) -> int:
        """Another number than before where a release has changed its state since, of any model; 0 before the first."""
        return len(self._events)

    def _of_version(self, model: str, version: int) -> list[Release]:
        return [r for r in self.history(model) if r.version == version]

    def _refuse(self, candidate: Candidate, state: CandidateState) -> None:
        if state in NEVER_RELEASED or (state is CandidateState.TO_OVERRIDE and not self._is_approved(candidate)):
            raise _may_not(candidate.model, candidate.version, state)

    def _is_approved(self, candidate: Candidate) -> bool:
        wanted = (candidate.version, digest(candidate.verdict), ApprovalState.APPROVED)
        return any((a.version, a.evidence, a.state) == wanted for a in self._approvals.history(candidate.model))

    def _unchanged(self, model: str, seen: int) -> None:
        found = self.champion(model).generation
        if found != seen:
            raise PromotionConflict(model, seen=seen, found=found)

    def _make_champion(self, new: Release, leaves: RolloutState, *, by: str = "", reason: str = "") -> Release:
        self._unchanged(new.model, new.seen)
        before = self.champion(new.model).release_id
        told = (by or new.released_by, reason or new.reason, new.released_at)
        if before:
            self._tell(replace(self._rows[before], state=leaves), *told)
        self._tell(new, *told)
        self._champions[new.model] = Champion(new.model, new.id, new.generation)
        self._models.change(new.model, new.version, state=CandidateState.RELEASED)
        return new

    def _tell(self, changed: Release, by: str, reason: str, at: datetime) -> Release:
        self._rows[changed.id] = changed
        told = (changed.id, changed.model, changed.version, changed.state, by, reason, aware(at))
        self._events.append(ReleaseEvent(*told))
        return changed

    def _new(self, candidate: Candidate, pool: str, seen: int, *, generation: int = 0, **told: Any) -> Release:
        return Release(
            id=uuid.uuid4().hex,
            model=candidate.model,
            version=candidate.version,
            bundle=candidate.bundle,
            request_id=candidate.request_id,
            pool=pool,
            seen=seen,
            generation=generation,
            **told,
        )


def _off_trial(kept: Release, state: RolloutState) -> Release:
    return replace(kept, state=state, weight=0, stage_since=None)


def _may_not(model: str, version: int, state: CandidateState) -> EvergreenError:
    return EvergreenError(f"{model}: version {version} is {state}. Nothing was released.")
