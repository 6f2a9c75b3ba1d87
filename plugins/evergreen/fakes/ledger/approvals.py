"""Approvals in memory."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime

from evergreen.core.records import Approval, ApprovalState, Candidate, CandidateState
from evergreen.core.verdict_json import digest
from evergreen.fakes.ledger.models import InMemoryModels
from evergreen.fakes.ledger.times import aware


class InMemoryApprovals:
    """Twin of adapters.ledger.approvals."""

    def __init__(self, models: InMemoryModels) -> None:
        self._lock = models.lock
        self._models = models
        self._rows: dict[str, Approval] = {}  # in order of their making

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
        """Open a question, or return the open one of this request and version.

        KeyError for a candidate that was never kept.
        """
        new = Approval(
            id=uuid.uuid4().hex,
            model=candidate.model,
            version=candidate.version,
            request_id=request_id,
            run_id=run_id,
            bundle=candidate.bundle,
            generation_seen=candidate.generation_seen,
            evidence=digest(candidate.verdict),
            asked_at=aware(now),
            expires_at=aware(expires_at),
            state=ApprovalState.OPEN,
            overrides=overrides,
        )
        with self._lock:
            self._models.candidate(candidate.model, candidate.version)
            kept = next((a for a in self._rows.values() if _same_question(a, new)), new)
            return self._rows.setdefault(kept.id, kept)

    def answer(self, approval_id: str, *, state: ApprovalState, by: str | None, reason: str, now: datetime) -> Approval:
        """Keep the first answer; whoever comes later gets that one back. KeyError if there is no such question.

        REJECTED marks a candidate that is still PASSED as DECLINED; whatever is no approval marks one that is still
        TO_OVERRIDE as REJECTED. Raises ValueError for the state OPEN.
        """
        if state is ApprovalState.OPEN:
            raise ValueError("an answer is approved, rejected or expired, not open")
        with self._lock:
            asked = self._rows[approval_id]
            if asked.state is not ApprovalState.OPEN:
                return asked
            self._refuse_candidate(asked, state)
            answered = replace(asked, state=state, answered_by=by, reason=reason, answered_at=aware(now))
            self._rows[approval_id] = answered
            return answered

    def latest(self, model: str, version: int) -> Approval | None:
        """The newest question about this version."""
        return next((a for a in reversed(self.history(model)) if a.version == version), None)

    def history(self, model: str | None = None) -> list[Approval]:
        """All questions, oldest first."""
        with self._lock:
            return [a for a in self._rows.values() if model in (None, a.model)]

    def open_ones(self) -> list[Approval]:
        """The open questions of all models, oldest first."""
        return [asked for asked in self.history() if asked.state is ApprovalState.OPEN]

    def _refuse_candidate(self, asked: Approval, answer: ApprovalState) -> None:
        state = self._models.candidate(asked.model, asked.version).state
        if answer is not ApprovalState.APPROVED and state is CandidateState.TO_OVERRIDE:
            self._models.change(asked.model, asked.version, state=CandidateState.REJECTED)
        if answer is ApprovalState.REJECTED and state is CandidateState.PASSED:
            self._models.change(asked.model, asked.version, state=CandidateState.DECLINED)


def _same_question(kept: Approval, new: Approval) -> bool:
    same = (kept.model, kept.version, kept.request_id) == (new.model, new.version, new.request_id)
    return same and kept.state is ApprovalState.OPEN
