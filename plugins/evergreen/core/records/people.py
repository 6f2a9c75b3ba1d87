"""What people decide: holds, approvals, and who may ask serving. See the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

FLEET = "*"  # the model of a hold on all models


@dataclass(frozen=True)
class Hold:
    """No automatic promotion of a model (or of all: FLEET), until a person lifts it."""

    model: str
    by: str
    reason: str
    since: datetime


@dataclass(frozen=True)
class HoldEvent:
    """A hold placed or lifted; the history of holds never shrinks."""

    model: str
    held: bool
    by: str
    reason: str
    at: datetime


class ApprovalState(StrEnum):
    """open → approved | rejected | expired | void | superseded; the first answer stands.

    Void: answered, but without a reason where one is needed, or after what was asked about had changed. Superseded: a
    newer candidate came before an answer. Only a rejection blocks the candidate.
    """

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Approval:
    """One question to people about one candidate, and its answer. `answered_by` is none after a timeout.

    `evidence` is the digest of the verdict that the question shows (core.verdict_json). `overrides` names the gates
    that failed and that an approval sets aside; empty where the candidate passed.
    """

    id: str
    model: str
    version: int
    request_id: str
    run_id: str
    bundle: str
    generation_seen: int
    asked_at: datetime
    expires_at: datetime
    state: ApprovalState
    answered_by: str | None = None
    reason: str = ""
    answered_at: datetime | None = None
    evidence: str = ""
    overrides: str = ""


@dataclass(frozen=True)
class CallerToken:
    """Who may ask serving. The token itself is kept nowhere: `sha256` is its digest (core.caller_tokens)."""

    id: str
    caller: str
    sha256: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    reason: str = ""
