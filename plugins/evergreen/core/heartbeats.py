"""By which names in the ledger they are heard of that run for ever."""

from __future__ import annotations

RECONCILER = "reconciler"
MONITOR = "monitor"
SCHEDULER = "scheduler"  # Airflow's, as the reconciler hears of it
