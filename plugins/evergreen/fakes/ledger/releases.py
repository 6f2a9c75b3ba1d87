"""Releases and champions in memory."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from evergreen.core.errors import EvergreenError, PromotionConflict
from evergreen.core.records import REFUSED, Candidate, CandidateState, Champion, Release, ReleaseKind
from evergreen.fakes.ledger.holds import InMemoryHolds
from evergreen.fakes.ledger.models import InMemoryModels
from evergreen.fakes.ledger.times import aware, utc


class InMemoryReleases:
    """Twin of adapters.ledger.releases."""

    def __init__(self, models: InMemoryModels, holds: InMemoryHolds) -> None:
        self._lock = models.lock
        self._models = models
        self._holds = holds
        self._rows: dict[str, Release] = {}  # in order of their making
        self._champions: dict[str, Champion] = {}

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""
        return self._champions.get(model, Champion(model, None, 0))

    def release(
        self,
        candidate: Candidate,
        *,
        pool: str,
        released_by: str,
        reason: str,
        watermark: datetime | None,
        now: datetime,
    ) -> Release:
        """Make the candidate champion, if the generation is still `candidate.generation_seen`.

        The newest release of a candidate whose state is RELEASED comes back unchanged. Raises PromotionConflict if
        the champion has changed, EvergreenError for a candidate that is rejected, declined or rolled back, KeyError
        for one that was never kept.
        """
        model, version, seen = candidate.model, candidate.version, candidate.generation_seen
        with self._lock:
            state = self._models.candidate(model, version).state
            if state is CandidateState.RELEASED and (done := self._of_version(model, version)):
                return done[-1]
            if state in REFUSED:
                raise EvergreenError(f"{model}: version {version} is {state}. Nothing was released.")
            self._unchanged(model, seen)
            told = {
                "released_by": released_by,
                "reason": reason,
                "watermark": utc(watermark),
                "released_at": aware(now),
            }
            return self._make(candidate, pool=pool, generation=seen + 1, **told)

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
            self._models.change(model, champion.version, state=CandidateState.ROLLED_BACK)
            self._holds.place(model, by=by, reason=reason, now=now)
            told = {"released_by": by, "reason": reason, "watermark": earlier[-1].watermark, "released_at": aware(now)}
            return self._make(candidate, pool=pool, generation=seen + 1, kind=ReleaseKind.ROLLBACK, act=act, **told)

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""
        return self._rows[release_id]

    def history(self, model: str | None = None) -> list[Release]:
        """All releases, oldest first."""
        with self._lock:
            return [r for r in self._rows.values() if model in (None, r.model)]

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""
        with self._lock:
            live = [self._rows[c.release_id] for c in self._champions.values() if c.release_id]
        return sorted((r for r in live if r.pool == pool), key=lambda r: r.model)

    def _of_version(self, model: str, version: int) -> list[Release]:
        return [r for r in self.history(model) if r.version == version]

    def _unchanged(self, model: str, seen: int) -> None:
        found = self.champion(model).generation
        if found != seen:
            raise PromotionConflict(model, seen=seen, found=found)

    def _make(self, candidate: Candidate, **told: Any) -> Release:
        new = Release(
            id=uuid.uuid4().hex,
            model=candidate.model,
            version=candidate.version,
            bundle=candidate.bundle,
            request_id=candidate.request_id,
            **told,
        )
        self._rows[new.id] = new
        self._champions[new.model] = Champion(new.model, new.id, new.generation)
        self._models.change(new.model, new.version, state=CandidateState.RELEASED)
        return new
