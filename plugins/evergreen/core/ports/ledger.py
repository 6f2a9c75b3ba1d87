"""The control ledger: the one place that decides."""

from __future__ import annotations

from dataclasses import dataclass

from evergreen.core.ports.ledger_monitoring import Alerts, Points
from evergreen.core.ports.ledger_pulled import PulledDays
from evergreen.core.ports.ledger_releases import Approvals, Holds, Releases, Replicas
from evergreen.core.ports.ledger_requests import Leases, Models, TriggerRequests
from evergreen.core.ports.ledger_told import Events, Heartbeats, Notices, SlotEvents, Tokens
from evergreen.core.ports.ledger_trials import Pools, Settings, Trials
from evergreen.core.ports.ledger_tunings import Tunings

__all__ = [
    "Alerts",
    "Approvals",
    "Events",
    "Heartbeats",
    "Holds",
    "Leases",
    "Ledger",
    "Models",
    "Notices",
    "Points",
    "Pools",
    "PulledDays",
    "Releases",
    "Replicas",
    "Settings",
    "SlotEvents",
    "Tokens",
    "Trials",
    "TriggerRequests",
    "Tunings",
]


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
    trials: Trials
    settings: Settings
    pools: Pools
    points: Points
    alerts: Alerts
    pulled_days: PulledDays
    tunings: Tunings
