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
    Releases,
    Replicas,
    Settings,
    SlotEvents,
    Tokens,
    Trials,
    TriggerRequests,
)
from evergreen.core.ports.logged import LoggedParts, LoggedRow, PartWriter, Predictions, Removed
from evergreen.core.ports.registry import Aliases, Registry
from evergreen.core.ports.runs import Runs, RunState
from evergreen.core.ports.serving_counters import Served, ServingCounters
from evergreen.core.ports.training import TrainedModel, Trainer
from evergreen.core.ports.validation import ExpectationResult, ValidationReport, Validator

__all__ = [
    "GRACE",
    "Alerts",
    "Aliases",
    "Answer",
    "Approvals",
    "Door",
    "EdgeProxy",
    "EdgeServer",
    "Events",
    "ExpectationResult",
    "Heartbeats",
    "Holds",
    "Leases",
    "Ledger",
    "LoggedParts",
    "LoggedRow",
    "Models",
    "Notices",
    "PartWriter",
    "Points",
    "Pools",
    "Predictions",
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
    "Tokens",
    "TrainedModel",
    "Trainer",
    "Trials",
    "TriggerRequests",
    "ValidationReport",
    "Validator",
]
