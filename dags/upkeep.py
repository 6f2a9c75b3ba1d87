"""One Airflow DAG for each part that keeps the platform itself: `housekeeping`, `monitor`, `reconciler`.

Where serving runs in slots there are two more: `platform`, which watches them, and `roll_pool`. One file for all of
them: each file is a process of its own every few seconds, for as long as Airflow runs.
"""

from __future__ import annotations

from evergreen.orchestration.housekeeping import build_housekeeping_dag
from evergreen.orchestration.monitor import build_monitor_dag
from evergreen.orchestration.reconciler import build_reconciler_dag
from evergreen.orchestration.roll_pool import roll_dag
from evergreen.orchestration.slot_watch import platform_dag

housekeeping, monitor, reconciler = build_housekeeping_dag(), build_monitor_dag(), build_reconciler_dag()
slots, roll = platform_dag(), roll_dag()
