"""Keeps in the ledger when Airflow's scheduler was last heard of.

While it is silent no notice could tell of it, since a task sends those: serving's metrics page does, from the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.heartbeats import SCHEDULER

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Runs


def hear_scheduler(ledger: Ledger, runs: Runs) -> list[str]:
    """Write its heartbeat, with its own time. Says nothing: it is no event. Raises ServiceFailed without Airflow."""
    if heard_at := runs.scheduler_heard_at():
        ledger.heartbeats.beat(SCHEDULER, "", heard_at)
    return []
