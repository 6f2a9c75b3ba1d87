"""The ledger's tables. A change here needs a new revision in `migrations/versions/` and a new HEAD."""

from evergreen.adapters.ledger.tables.base import HEAD, VERSION_TABLE, UtcTime, metadata
from evergreen.adapters.ledger.tables.monitoring import alert, alert_request, metric_point, rule_state
from evergreen.adapters.ledger.tables.releasing import (
    approval,
    arm_count,
    champion,
    hold_event,
    release,
    release_event,
    trip,
)
from evergreen.adapters.ledger.tables.retraining import candidate, lease, snapshot, trigger_request
from evergreen.adapters.ledger.tables.serving import caller_token, pool_event, replica, serving_settings, slot_event
from evergreen.adapters.ledger.tables.telling import event, heartbeat, notice
from evergreen.adapters.ledger.tables.training import pulled_day, tuning

__all__ = [
    "HEAD",
    "VERSION_TABLE",
    "UtcTime",
    "alert",
    "alert_request",
    "approval",
    "arm_count",
    "caller_token",
    "candidate",
    "champion",
    "event",
    "heartbeat",
    "hold_event",
    "lease",
    "metadata",
    "metric_point",
    "notice",
    "pool_event",
    "pulled_day",
    "release",
    "release_event",
    "replica",
    "rule_state",
    "serving_settings",
    "slot_event",
    "snapshot",
    "trigger_request",
    "trip",
    "tuning",
]
