"""The outside systems, as Evergreen sees them.

Each port has a real adapter in `adapters/` and an in-memory twin in `fakes/`; both pass the same contract
tests in `tests/contract/`. Frames that cross a port are Polars frames. Errors are those of `core.errors`.
"""

from __future__ import annotations

from evergreen.core.ports.answering import (
    GRACE,
    Answer,
    RehearsalSlots,
    ServingClient,
    ServingConnection,
    Slot,
    SlotContainers,
)
from evergreen.core.ports.data import Snapshots, Source, Store, StoredFile
from evergreen.core.ports.edge import Door, EdgeProxy, EdgeServer
from evergreen.core.ports.ledger import (
    Alerts,
    Approvals,
    Events,
    Heartbeats,
    Holds,
    Leases,
    Ledger,
    Models,
    Notices,
    Points,
    Pools,
    PulledDays,
    Releases,
    Replicas,
    Settings,
    SlotEvents,
    Tokens,
    Trials,
    TriggerRequests,
    Tunings,
)
from evergreen.core.ports.logged import LoggedParts, LoggedRow, PartWriter, Predictions, Removed
from evergreen.core.ports.registry import Aliases, LoggedTrial, Registry
from evergreen.core.ports.runs import Runs, RunState
from evergreen.core.ports.serving_counters import Served, ServingCounters
from evergreen.core.ports.training import TrainedModel, Trainer
from evergreen.core.ports.tuning import Bench, Benches, FoldScore, Studies, Study, TrialLost
from evergreen.core.ports.validation import ExpectationResult, PartRows, ValidationReport, Validator, WindowFacts

__all__ = [
    "GRACE",
    "Alerts",
    "Aliases",
    "Answer",
    "Approvals",
    "Bench",
    "Benches",
    "Door",
    "EdgeProxy",
    "EdgeServer",
    "Events",
    "ExpectationResult",
    "FoldScore",
    "Heartbeats",
    "Holds",
    "Leases",
    "Ledger",
    "LoggedParts",
    "LoggedRow",
    "LoggedTrial",
    "Models",
    "Notices",
    "PartRows",
    "PartWriter",
    "Points",
    "Pools",
    "Predictions",
    "PulledDays",
    "Registry",
    "RehearsalSlots",
    "Releases",
    "Removed",
    "Replicas",
    "RunState",
    "Runs",
    "Served",
    "ServingClient",
    "ServingConnection",
    "ServingCounters",
    "Settings",
    "Slot",
    "SlotContainers",
    "SlotEvents",
    "Snapshots",
    "Source",
    "Store",
    "StoredFile",
    "Studies",
    "Study",
    "Tokens",
    "TrainedModel",
    "Trainer",
    "TrialLost",
    "Trials",
    "TriggerRequests",
    "Tunings",
    "ValidationReport",
    "Validator",
    "WindowFacts",
]
