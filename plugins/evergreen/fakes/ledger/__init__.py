"""The control ledger in memory, for tests and rehearsals of a step: safe for threads, gone with the process."""

from __future__ import annotations

from evergreen.core.ports import Ledger
from evergreen.fakes.ledger.alerts import InMemoryAlerts
from evergreen.fakes.ledger.approvals import InMemoryApprovals
from evergreen.fakes.ledger.events import InMemoryEvents, InMemoryHeartbeats, InMemoryNotices
from evergreen.fakes.ledger.holds import InMemoryHolds
from evergreen.fakes.ledger.leases import InMemoryLeases
from evergreen.fakes.ledger.models import InMemoryModels
from evergreen.fakes.ledger.points import InMemoryPoints
from evergreen.fakes.ledger.pulled_days import InMemoryPulledDays
from evergreen.fakes.ledger.releases import InMemoryReleases
from evergreen.fakes.ledger.replicas import InMemoryReplicas
from evergreen.fakes.ledger.requests import InMemoryTriggerRequests
from evergreen.fakes.ledger.slot_events import InMemorySlotEvents
from evergreen.fakes.ledger.tokens import InMemoryTokens
from evergreen.fakes.ledger.trials import InMemoryPools, InMemorySettings, InMemoryTrials
from evergreen.fakes.ledger.tunings import InMemoryTunings


def in_memory_ledger() -> Ledger:
    """An empty ledger."""
    leases, holds = InMemoryLeases(), InMemoryHolds()
    models = InMemoryModels(leases)
    approvals, trials = InMemoryApprovals(models), InMemoryTrials()
    return Ledger(
        requests=InMemoryTriggerRequests(),
        leases=leases,
        models=models,
        releases=InMemoryReleases(models, holds, approvals, trials),
        replicas=InMemoryReplicas(),
        holds=holds,
        approvals=approvals,
        tokens=InMemoryTokens(),
        slot_events=InMemorySlotEvents(),
        events=InMemoryEvents(),
        heartbeats=InMemoryHeartbeats(),
        notices=InMemoryNotices(),
        trials=trials,
        settings=InMemorySettings(),
        pools=InMemoryPools(),
        points=InMemoryPoints(),
        alerts=InMemoryAlerts(),
        pulled_days=InMemoryPulledDays(leases),
        tunings=InMemoryTunings(leases),
    )
