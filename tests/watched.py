"""Models that are watched, for tests: a log that fills, bundles with references, and what an honest recount gives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from evergreen.adapters.logged_predictions import LoggedPredictions
from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core import bundle as bundles
from evergreen.core import logged_parts as parts
from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import category_bins, number_bins
from evergreen.core.monitoring.reference import PREDICTION, REFERENCE, Reference, to_bytes
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import LoggedBy, LoggedFeature, LoggedRows, Truth, UserMetric
from evergreen.core.spec import ModelSpec
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.counting import Counting
from evergreen.steps.layouts import Layouts
from records import make_candidate, make_spec

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CARRIERS = ("AA", "DL", "UA")
FEATURES = (LoggedFeature("distance"), LoggedFeature("carrier", CARRIERS))


def watched_spec(**changes: Any) -> ModelSpec:
    monitoring = {"every": "5m", "window": "1d", "min_rows": 10, **changes.pop("monitoring", {})}
    features = {"columns": ["distance", "carrier"], "categorical": ["carrier"]}
    return make_spec(**{"features": features, "monitoring": monitoring, **changes})


def reference_of(task: Task = Task.BINARY, seed: int = 0, rows: int = 2000) -> Reference:
    rng = np.random.default_rng(seed)
    distance = rng.normal(1000, 200, rows).astype(np.float32)
    features = (
        number_bins("distance", distance),
        category_bins("carrier", CARRIERS, rng.integers(0, 3, rows)),
    )
    said = rng.uniform(0, 1, rows).astype(np.float32)
    line = ((0.0, 0.0), (1.0, 1.0)) if task is not Task.REGRESSION else ()
    return Reference(task, rows, features, number_bins(PREDICTION, said, 200), line, {"brier": 0.2, "accuracy": 0.6})


def usual_distances(rows: int) -> list[float]:
    """As the reference's, so that there is next to no drift."""
    distances = np.random.default_rng(0).normal(1000, 200, 2000)
    return np.quantile(distances, (np.arange(rows) + 0.5) / rows).tolist()


def put_bundle(store: Store, reference: Reference | None, salt: str = "", **others: bytes) -> str:
    """A bundle with nothing in it but a reference, or not even that; and these."""
    files = {**others, **({} if reference is None else {REFERENCE: to_bytes(reference)})}
    bundle, sealed = bundles.seal(files, model="m", train_key=f"key{salt}", snapshot="none")
    for name, data in sealed.items():
        store.put(bundles.key(bundle, name), data)
    return bundle


def id_at(time: datetime, number: int) -> str:
    told = round(time.timestamp() * 1000)
    return f"{told >> 16:08x}-{told & 0xFFFF:04x}-7000-8000-{number:012x}"


class World:
    """A store with a log, a ledger, and one model, whose versions have bundles."""

    def __init__(self, spec: ModelSpec | None = None, *versions: int, bare: Sequence[int] = ()) -> None:
        self.spec = spec or watched_spec()
        self.store, self.ledger = InMemoryStore(), in_memory_ledger()
        self.log = LoggedPredictions(self.store)
        self.numbers, self.segments = 0, 0
        for version in versions or (1,):
            reference = None if version in bare else reference_of(self.spec.task)
            self.add_version(self.ledger, version, put_bundle(self.store, reference, str(version)))

    def add_version(self, ledger: Ledger, version: int, bundle: str) -> None:
        ledger.models.add_candidate(make_candidate(model=self.spec.name, version=version, bundle=bundle))

    def counting(self) -> Counting:
        return Counting(self.spec, self.log, Layouts(self.ledger, self.store))

    def answers(
        self,
        predictions: Sequence[float] | Sequence[Sequence[float]],
        *,
        at: datetime = NOON,
        version: int = 1,
        arm: str = "champion",
        distance: float | Sequence[float] = 1000.0,
        carrier: str | None = "DL",
        unseen: str = "",
        step: timedelta = timedelta(seconds=1),
        keys: Sequence[str] = (),
    ) -> list[str]:
        """One part; the ids of its rows."""
        ids = [id_at(at + step * row, self.numbers + row) for row in range(len(predictions))]
        self.numbers += len(ids)
        code = np.nan if unseen or carrier is None else CARRIERS.index(carrier)
        matrix = np.array([[0, code]] * len(ids), np.float32)
        matrix[:, 0] = distance
        by = LoggedBy(self.spec.name, version, f"release-{version}", "bundle", arm, FEATURES)
        packed = b"".join(bytes.fromhex(one.replace("-", "")) for one in ids)
        told = tuple((row, "carrier", unseen) for row in range(len(ids))) if unseen else ()
        said = np.array(predictions, np.float32)
        outputs = said.shape[1] if said.ndim == 2 else 0
        rows = LoggedRows(by, packed, matrix.tobytes(), said.tobytes(), outputs, tuple(keys), told)
        self._put(parts.PREDICTIONS, at, ArrowParts().predictions([rows]))
        return ids

    def truths(self, labels: dict[str, float | str], *, told: datetime = NOON + timedelta(hours=6)) -> str:
        """One part, all labels told at one time; its key."""
        records = [Truth(one, label, round(told.timestamp() * 1000), "") for one, label in labels.items()]
        first = parts.answered_at(next(iter(labels)))
        assert first is not None
        return self._put(parts.TRUTH, first, ArrowParts().truth(records))

    def metrics(self, values: dict[str, float], *, at: datetime = NOON) -> str:
        """One part of users' metrics, all of one time; its key."""
        records = [UserMetric(name, value, round(at.timestamp() * 1000)) for name, value in values.items()]
        return self._put(parts.METRICS, at, ArrowParts().metrics(records))

    def _put(self, folder: str, at: datetime, data: bytes) -> str:
        self.segments += 1
        key = parts.part_key(folder, self.spec.name, at.date(), f"{self.segments:032x}")
        self.store.put(key, data)
        return key


def ids_of(frame: pl.DataFrame) -> list[str]:
    return frame[parts.ID].to_list()
