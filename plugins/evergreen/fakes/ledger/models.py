"""Snapshots and candidates in memory."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import Any

from evergreen.core.errors import EvergreenError
from evergreen.core.records import ENDED, REFUSED, Candidate, CandidateState, Lease, Snapshot, Verdict
from evergreen.core.verdict_json import finite, from_json, to_json
from evergreen.fakes.ledger.leases import InMemoryLeases


class InMemoryModels:
    """Twin of adapters.ledger.models. Its `lock` is that of all who change a candidate's state."""

    def __init__(self, leases: InMemoryLeases) -> None:
        self.lock = RLock()
        self._leases = leases
        self._snapshots: dict[tuple[str, str], Snapshot] = {}
        self._candidates: dict[tuple[str, int], Candidate] = {}

    def add_snapshot(self, snapshot: Snapshot, *, lease: Lease | None = None) -> None:
        """Keep a snapshot; the same id again changes nothing, but for a `suite` where there was none."""
        with self.lock:
            self._leases.check(lease)
            kept = self._snapshots.setdefault((snapshot.model, snapshot.id), snapshot)
            if not kept.suite:
                self._snapshots[snapshot.model, snapshot.id] = replace(kept, suite=snapshot.suite)

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""
        return self._snapshots[model, snapshot_id]

    def add_candidate(self, candidate: Candidate, *, lease: Lease | None = None) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key).

        Metrics that are not finite are left out. Raises EvergreenError where the version belongs to another train
        key.
        """
        with self.lock:
            self._leases.check(lease)
            if kept := self.by_train_key(candidate.model, candidate.train_key):
                return kept
            if (candidate.model, candidate.version) in self._candidates:
                raise EvergreenError(
                    f"{candidate.model}: version {candidate.version} was made from another train key. "
                    "The model registry and the ledger disagree: were they restored from different times?"
                )
            kept = replace(candidate, metrics=finite(candidate.metrics), verdict=_kept(candidate.verdict))
            self._candidates[candidate.model, candidate.version] = kept
            return kept

    def candidate(self, model: str, version: int) -> Candidate:
        """KeyError if there is none."""
        return self._candidates[model, version]

    def candidates(self, model: str) -> list[Candidate]:
        """All candidates of a model, newest version first."""
        with self.lock:
            rows = [c for c in self._candidates.values() if c.model == model]
        return sorted(rows, key=lambda c: c.version, reverse=True)

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""
        with self.lock:
            rows = self._candidates.values()
            return next((c for c in rows if (c.model, c.train_key) == (model, train_key)), None)

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
        """Keep the verdict and the champion generation that it was reached against. KeyError if there is none.

        A candidate that has ended meanwhile comes back as it is: a late verdict undoes no release and no rejection.
        Numbers of the verdict that are not finite become none, or are left out of its metrics.
        """
        state = CandidateState(state)
        with self.lock:
            self._leases.check(lease)
            kept = self.candidate(model, version)
            if kept.state in ENDED:
                return kept
            return self.change(model, version, verdict=_kept(verdict), state=state, generation_seen=generation_seen)

    def reopen(self, model: str, version: int) -> Candidate:
        """Let a rejected, declined or rolled-back candidate be judged anew: state TRAINED. Others stay as they are.

        Its verdict stays until the next one. KeyError if there is none.
        """
        with self.lock:
            kept = self.candidate(model, version)
            return self.change(model, version, state=CandidateState.TRAINED) if kept.state in REFUSED else kept

    def change(self, model: str, version: int, **changes: Any) -> Candidate:
        """Replace these fields. KeyError if there is no such candidate."""
        with self.lock:
            self._candidates[model, version] = replace(self._candidates[model, version], **changes)
            return self._candidates[model, version]


def _kept(verdict: Verdict | None) -> Verdict | None:
    """As it comes back from a database."""
    return None if verdict is None else from_json(to_json(verdict))
