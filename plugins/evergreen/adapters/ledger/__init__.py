"""The control ledger on SQLite or Postgres, through SQLAlchemy Core; tables are kept by Alembic."""

from __future__ import annotations

from evergreen.adapters.ledger.alerts import SqlAlerts
from evergreen.adapters.ledger.approvals import SqlApprovals
from evergreen.adapters.ledger.engine import Database
from evergreen.adapters.ledger.events import SqlEvents, SqlHeartbeats
from evergreen.adapters.ledger.holds import SqlHolds
from evergreen.adapters.ledger.leases import SqlLeases
from evergreen.adapters.ledger.models import SqlModels
from evergreen.adapters.ledger.notices import SqlNotices
from evergreen.adapters.ledger.points import SqlPoints
from evergreen.adapters.ledger.pools import SqlPools
from evergreen.adapters.ledger.pulled_days import SqlPulledDays
from evergreen.adapters.ledger.releases import SqlReleases
from evergreen.adapters.ledger.replicas import SqlReplicas
from evergreen.adapters.ledger.requests import SqlTriggerRequests
from evergreen.adapters.ledger.settings import SqlSettings
from evergreen.adapters.ledger.slot_events import SqlSlotEvents
from evergreen.adapters.ledger.tokens import SqlTokens
from evergreen.adapters.ledger.trials import SqlTrials
from evergreen.adapters.ledger.tunings import SqlTunings
from evergreen.adapters.ledger.upgrade import upgrade
from evergreen.core.ports import Ledger


def open_ledger(url: str) -> Ledger:
    """The ledger behind this SQLAlchemy URL, made or upgraded first where needed.

    Safe from several processes at once. Open it anew after a fork. Raises LedgerRefused for a URL or a
    database that cannot be a ledger, and where the tables are not this program's and may not be upgraded by it.
    """
    database = Database(url)
    upgrade(database)
    return Ledger(
        requests=SqlTriggerRequests(database),
        leases=SqlLeases(database),
        models=SqlModels(database),
        releases=SqlReleases(database),
        replicas=SqlReplicas(database),
        holds=SqlHolds(database),
        approvals=SqlApprovals(database),
        tokens=SqlTokens(database),
        slot_events=SqlSlotEvents(database),
        events=SqlEvents(database),
        heartbeats=SqlHeartbeats(database),
        notices=SqlNotices(database),
        trials=SqlTrials(database),
        settings=SqlSettings(database),
        pools=SqlPools(database),
        points=SqlPoints(database),
        alerts=SqlAlerts(database),
        pulled_days=SqlPulledDays(database),
        tunings=SqlTunings(database),
    )
