"""Who runs the tasks: Airflow, as the reconciler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class RunState(StrEnum):
    """Of a run of a model's DAG."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class Runs(Protocol):
    """The runs of models' DAGs. Each method raises ServiceFailed where Airflow does not answer."""

    def start(self, model: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run under this id; nothing happens where there is one: twice is once."""

    def state(self, model: str, run_id: str) -> RunState | None:
        """None where there is no such run (any more)."""

    def dismiss(self, model: str, run_id: str, reason: str) -> None:
        """End the run's wait for an answer that the ledger has already; nothing happens where it does not wait."""

    def scheduler_heard_at(self) -> datetime | None:
        """When Airflow's scheduler was last heard of; none where it never was."""
