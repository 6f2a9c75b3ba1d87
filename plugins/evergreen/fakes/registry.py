"""In-memory twin of the MLflow registry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evergreen.core.ports import LoggedTrial


@dataclass
class FakeRun:
    """What was logged to one run. `status` is RUNNING, FINISHED or FAILED."""

    model: str
    name: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    status: str = "RUNNING"
    description: str = ""
    trials: dict[str, LoggedTrial] = field(default_factory=dict)


@dataclass
class FakeVersion:
    """One registered version: its run, the bundle's files and its tags."""

    run_id: str
    files: dict[str, bytes]
    tags: dict[str, str]


class FakeRegistry:
    """Keeps runs, versions and aliases in dictionaries that a test can read."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.versions: dict[tuple[str, int], FakeVersion] = {}
        self.pointers: dict[tuple[str, str], int] = {}  # by model and alias

    def start_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        """See Registry."""
        run_id = self.find_run(model, name)
        if run_id is None:
            run_id = f"run-{len(self.runs) + 1}"
            self.runs[run_id] = FakeRun(model, name)
        self.runs[run_id].tags.update(tags)
        self.runs[run_id].status = "RUNNING"
        return run_id

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """See Registry."""
        run = self.runs[run_id]
        for name, value in (params or {}).items():
            if run.params.setdefault(name, str(value)) != str(value):
                run.tags[f"changed.{name}"] = str(value)
        run.metrics.update({name: value for name, value in (metrics or {}).items() if math.isfinite(value)})
        run.tags.update(tags or {})

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """See Registry."""
        self.runs[run_id].files[path] = data

    def find_run(self, model: str, name: str) -> str | None:
        """See Registry."""
        return next((i for i, run in self.runs.items() if (run.model, run.name) == (model, name)), None)

    def logged_file(self, run_id: str, path: str) -> bytes:
        """See Registry."""
        return self.runs[run_id].files[path]

    def log_trials(self, run_id: str, trials: Sequence[LoggedTrial]) -> None:
        """See Registry."""
        for trial in trials:
            self.runs[run_id].trials.setdefault(trial.name, trial)

    def register(self, model: str, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> int:
        """See Registry."""
        for (name, version), kept in self.versions.items():
            if (name, kept.run_id, kept.tags) == (model, run_id, dict(tags)):
                return version
        version = 1 + max((number for name, number in self.versions if name == model), default=0)
        self.versions[model, version] = FakeVersion(run_id, dict(files), dict(tags))
        self.runs[run_id].files.update({f"bundle/{name}": data for name, data in files.items()})
        return version

    def describe(self, run_id: str, markdown: str) -> None:
        """See Registry."""
        self.runs[run_id].description = markdown

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """See Registry."""
        if (model, version) not in self.versions:
            raise KeyError(f"{model} has no version {version}")
        self.pointers[model, alias] = version

    def aliases(self, model: str) -> dict[str, int]:
        """See Registry."""
        return {alias: version for (name, alias), version in self.pointers.items() if name == model}

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """See Registry."""
        self.runs[run_id].status = "FAILED" if failed else "FINISHED"
