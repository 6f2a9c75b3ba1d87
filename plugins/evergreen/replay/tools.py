"""The real tools of a replay, on a store in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen import wiring
from evergreen.core.bundle import sha256
from evergreen.core.train_key import Provenance, provenance
from evergreen.fakes.store import InMemoryStore

if TYPE_CHECKING:
    from evergreen.core.ports import Snapshots, Store, Trainer, Validator
    from evergreen.core.spec import ModelSpec


@dataclass(frozen=True)
class Tools:
    """What the steps need beside ledger, registry and source. `suite_sha256` is of the suite's file."""

    store: Store
    snapshots: Snapshots
    trainer: Trainer
    validator: Validator
    suite: Mapping[str, Any]
    suite_sha256: str
    made_with: Provenance


def real_tools(root: Path, spec: ModelSpec) -> Tools:
    """XGBoost, Great Expectations, and Parquet parts in memory: about the size of the rows that are replayed."""
    from evergreen.adapters.parquet_snapshots import ParquetSnapshots

    store = InMemoryStore()
    declared = (root / "expectations" / f"{spec.validation.suite}.json").read_bytes()
    return Tools(
        store=store,
        snapshots=ParquetSnapshots(store),
        trainer=wiring.trainer(pictures=False),
        validator=wiring.validator(store, wiring.Settings.load().training_memory_mb),
        suite=json.loads(declared),
        suite_sha256=sha256(declared),
        made_with=provenance(root, spec),
    )
