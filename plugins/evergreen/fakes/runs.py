"""Runs in memory. A test plays Airflow: it ends runs, lets them wait for an answer, pauses a model's DAG."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evergreen.core.errors import FoundProblem, ServiceFailed
from evergreen.core.ports import RunState

Run = tuple[str, str]  # model, run id


class InMemoryRuns:
    """Runs of any model, queued until a test says otherwise.

    `started` holds the runs in the order of their start, with their conf; `dismissed` the reason of each run whose
    wait was ended. `heard_at` is the time of the scheduler's heartbeat. `away`: Airflow does not answer. `refusing`:
    why a model's DAG starts nothing, by model.
    """

    def __init__(self) -> None:
        self.started: dict[Run, dict[str, Any]] = {}
        self.dismissed: dict[Run, str] = {}
        self.refusing: dict[str, str] = {}
        self.heard_at: datetime | None = None
        self.away = False
        self._states: dict[Run, RunState] = {}
        self._waiting: set[Run] = set()

    def start(self, model: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """See Runs."""
        self._reach()
        if (model, run_id) in self._states:
            return
        if why := self.refusing.get(model):
            do = "Repair or unpause it in Airflow; the request waits."
            raise FoundProblem(f"DAG '{model}'", found=why, allowed="a DAG that runs", do=do)
        self.started[model, run_id] = dict(conf)
        self._states[model, run_id] = RunState.QUEUED

    def state(self, model: str, run_id: str) -> RunState | None:
        """See Runs."""
        self._reach()
        return self._states.get((model, run_id))

    def dismiss(self, model: str, run_id: str, reason: str) -> None:
        """See Runs."""
        self._reach()
        if (model, run_id) in self._waiting:
            self._waiting.remove((model, run_id))
            self.dismissed[model, run_id] = reason

    def scheduler_heard_at(self) -> datetime | None:
        """See Runs."""
        self._reach()
        return self.heard_at

    def put(self, model: str, run_id: str, state: RunState | None) -> None:
        """The run is in this state now, whoever started it; none: Airflow knows it no more."""
        self._waiting.discard((model, run_id))
        if state is None:
            self._states.pop((model, run_id), None)
        else:
            self._states[model, run_id] = state

    def wait(self, model: str, run_id: str) -> None:
        """The run waits for a person's answer now."""
        self.put(model, run_id, RunState.RUNNING)
        self._waiting.add((model, run_id))

    def waits(self, model: str, run_id: str) -> bool:
        """Whether it waits for an answer."""
        return (model, run_id) in self._waiting

    def _reach(self) -> None:
        if self.away:
            raise ServiceFailed("Airflow does not answer.")
