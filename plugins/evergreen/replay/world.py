"""One way of keeping a model: its twins of the platform, and the steps that make a candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen.core.champion import load
from evergreen.core.records import Candidate, Lease, TriggerRequest
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.pull import pull
from evergreen.steps.train import train
from evergreen.steps.validate import validate

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec
    from evergreen.replay.past_source import PastSource
    from evergreen.replay.tools import Tools


@dataclass
class World:
    """One way of keeping the model: its own ledger and registry, the source and the store shared with the others."""

    spec: ModelSpec
    source: PastSource
    tools: Tools
    registry: FakeRegistry = field(default_factory=FakeRegistry)

    @cached_property
    def ledger(self) -> Ledger:
        """In memory, empty at first."""
        return in_memory_ledger()

    def candidate(self, request: TriggerRequest, lease: Lease | None, now: datetime) -> Candidate:
        """pull, validate and train, as the run of a request calls them; raises as they do."""
        spec, tools = self.spec, self.tools
        snapshot = pull(
            spec, self.ledger, self.source, tools.snapshots, tools.store, request_id=request.id, lease=lease
        )
        clean = validate(
            spec, self.ledger, tools.snapshots, tools.validator, self.registry, tools.store, tools.suite,
            suite_sha256=tools.suite_sha256, request_id=request.id, snapshot_id=snapshot.id, lease=lease,
        )  # fmt: skip
        return train(
            spec, self.ledger, tools.snapshots, tools.trainer, self.registry, tools.store,
            request_id=request.id, snapshot_id=clean.id, provenance=tools.made_with, lease=lease, now=now,
        )  # fmt: skip

    def predict(self, version: int, rows: pl.DataFrame) -> np.ndarray:
        """What a version answers."""
        sealed = self.ledger.models.candidate(self.spec.name, version).bundle
        return self.tools.trainer.predict(load(self.tools.store, sealed), rows)
