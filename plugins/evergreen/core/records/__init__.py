"""The records that steps hand to each other and that the ledger keeps. All times are UTC and aware."""

from __future__ import annotations

from evergreen.core.records.candidates import (
    ENDED,
    REFUSED,
    Candidate,
    CandidateState,
    GateResult,
    GateState,
    Part,
    SliceResult,
    Snapshot,
    Verdict,
)
from evergreen.core.records.people import (
    FLEET,
    Approval,
    ApprovalState,
    CallerToken,
    Hold,
    HoldEvent,
)
from evergreen.core.records.releases import (
    Champion,
    Release,
    ReleaseEvent,
    ReleaseKind,
    Replica,
    RolloutState,
)
from evergreen.core.records.requests import (
    Cause,
    Lease,
    RequestState,
    TriggerRequest,
    own_run_id,
)
from evergreen.core.records.told import (
    Event,
    Heartbeat,
    Notice,
    NoticeKind,
    SlotEvent,
)

__all__ = [
    "ENDED",
    "FLEET",
    "REFUSED",
    "Approval",
    "ApprovalState",
    "CallerToken",
    "Candidate",
    "CandidateState",
    "Cause",
    "Champion",
    "Event",
    "GateResult",
    "GateState",
    "Heartbeat",
    "Hold",
    "HoldEvent",
    "Lease",
    "Notice",
    "NoticeKind",
    "Part",
    "Release",
    "ReleaseEvent",
    "ReleaseKind",
    "Replica",
    "RequestState",
    "RolloutState",
    "SliceResult",
    "SlotEvent",
    "Snapshot",
    "TriggerRequest",
    "Verdict",
    "own_run_id",
]
