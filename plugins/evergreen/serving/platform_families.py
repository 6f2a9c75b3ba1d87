"""Families of the metrics page that tell of the whole platform, from the control ledger.

All replicas tell the same: a rule or a dashboard takes max by (…) of them.
"""

from __future__ import annotations

PLATFORM_FAMILIES = {
    "evergreen_ledger_read_timestamp_seconds": (
        "gauge",
        "When the supervisor last read the following of the ledger; they vanish once that is two minutes ago. 0: never",
    ),
    "evergreen_alerts_open": ("gauge", "Alerts of the monitor that are open, by model, rule and severity"),
    "evergreen_heartbeat_timestamp_seconds": ("gauge", "When a part of the platform was last heard of. 0: never"),
    "evergreen_approvals_open": ("gauge", "Versions that wait for a person's approval, by model"),
    "evergreen_approval_asked_timestamp_seconds": ("gauge", "Since when the longest of them waits"),
    "evergreen_trigger_requests_open": (
        "gauge",
        "Trigger requests that have not ended: queued (for the reconciler), open (no run has begun), claimed (one has)",
    ),
    "evergreen_model_released_timestamp_seconds": ("gauge", "When the champion was released, of the pool's models"),
    "evergreen_model_data_timestamp_seconds": ("gauge", "The newest row of a model's source that is known"),
    "evergreen_model_fresh_within_seconds": ("gauge", "How old that row may be, where the model's spec says so"),
    "evergreen_monitor_value": ("gauge", "Metrics that a model's rules name, over the monitor's newest window"),
}
