"""The model registry and experiment record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class LoggedTrial:
    """A run below another one: one trial of a tuning. `name` is its own below that run."""

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    failed: bool = False


class Aliases(Protocol):
    """The names by which versions are found in the registry. A model has each alias once."""

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias at the version."""

    def aliases(self, model: str) -> dict[str, int]:
        """Version by alias; empty where the model is not known."""


class Registry(Aliases, Protocol):
    """The model registry and experiment record (a projection: the ledger decides)."""

    def start_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run with this name in the model's experiment; made if there is none."""

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run. Metrics and tags logged before under the same name are replaced.

        A param keeps its first value (MLflow never changes one); another value goes to the tag `changed.<name>`.
        Numbers that are not finite are left out.
        """

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """Store an artifact of the run ('validation/result.json')."""

    def find_run(self, model: str, name: str) -> str | None:
        """The id of the run with this name in the model's experiment; none where there is none, and none is made."""

    def logged_file(self, run_id: str, path: str) -> bytes:
        """An artifact of the run. KeyError where it has none at this path, or there is no such run."""

    def log_trials(self, run_id: str, trials: Sequence[LoggedTrial]) -> None:
        """Keep each as an ended run of its own below this one; those that are there by their name stay as they are."""

    def register(self, model: str, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> int:
        """The version that this run registered with these tags; registers one if there is none yet."""

    def describe(self, run_id: str, markdown: str) -> None:
        """Describe the run, and the versions that it registered, to whoever opens them."""

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close the run."""
