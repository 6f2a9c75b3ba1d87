"""How long a pass of the monitor over many models takes, and how much memory: each with 20 features and new answers.

    python benchmarks/monitor_pass.py --models 100 --rows 10000

The first pass counts all; the second finds nothing new, the third as many rows again, a fifth of them with labels. The
ledger is SQLite, the store a folder, both in a temporary one.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from evergreen.adapters.file_store import FileStore
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.logged_predictions import LoggedPredictions
from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core import bundle as bundles
from evergreen.core import logged_parts as parts
from evergreen.core.addresses import Addresses
from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import category_bins, number_bins
from evergreen.core.monitoring.reference import PREDICTION, REFERENCE, Reference, to_bytes
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import Candidate, CandidateState, LoggedBy, LoggedFeature, LoggedRows, Truth
from evergreen.core.spec import ModelSpec
from evergreen.steps.monitor import Outside, Turns, monitor

NUMBERS, CATEGORIES, NAMES = 16, 4, tuple(f"c{at}" for at in range(12))
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SPEC = {
    "owner": "ops@example.com",
    "task": "binary_classification",
    "source": {"connection": "warehouse", "table": "rows", "event_time": "at", "key": "id"},
    "label": {"column": "y", "arrives_after": "1d"},
    "window": {"train": "60d", "holdout": {"length": "7d"}},
    "validation": {"suite": "m"},
    "gates": [{"metric": "auc", "min": 0.6}],
}
RNG = np.random.default_rng(0)


def features() -> tuple[LoggedFeature, ...]:
    """Numbers, and categories of twelve names."""
    numbers = [LoggedFeature(f"n{at}") for at in range(NUMBERS)]
    return (*numbers, *(LoggedFeature(f"k{at}", NAMES) for at in range(CATEGORIES)))


def reference(rows: int = 20_000) -> Reference:
    """Of rows like those that come."""
    bins = [number_bins(f"n{at}", RNG.normal(size=rows).astype(np.float32)) for at in range(NUMBERS)]
    bins += [category_bins(f"k{at}", NAMES, RNG.integers(0, 12, rows)) for at in range(CATEGORIES)]  # type: ignore
    said = number_bins(PREDICTION, RNG.beta(2, 5, rows).astype(np.float32), 200)
    return Reference(Task.BINARY, rows, tuple(bins), said, ((0.0, 0.0), (1.0, 1.0)), {"auc": 0.7, "brier": 0.2})


def model(name: str, ledger: Ledger, store: Store, slices: list[str]) -> ModelSpec:
    """A champion with a reference."""
    bundle, sealed = bundles.seal({REFERENCE: to_bytes(reference())}, model=name, train_key="k", snapshot="s")
    for file, data in sealed.items():
        store.put(bundles.key(bundle, file), data)
    candidate = Candidate(
        name, 1, "request", "key", "snapshot", NOON, bundle, "run", {}, CandidateState.TRAINED, None, 0, NOON
    )  # fmt: skip
    kept = ledger.models.add_candidate(candidate)
    why = {"pool": "default", "released_by": "bench", "reason": "bench", "watermark": NOON, "now": NOON}
    ledger.releases.go_live(ledger.releases.prepare(kept, **why).id, NOON)  # type: ignore[arg-type]
    names = [one.name for one in features()]
    columns = {"columns": names, "categorical": [n for n in names if n.startswith("k")]}
    rules = [{"name": "drift.psi.max", "above": 0.2}, {"name": "quality.estimated.auc", "below": 0.6}]
    monitoring = {"alerts": rules, "slices": slices}
    return ModelSpec.model_validate({**SPEC, "name": name, "features": columns, "monitoring": monitoring})


def answers(name: str, store: Store, rows: int, at: datetime, segment: int) -> list[str]:
    """A part of answers within an hour; their ids."""
    told = (round(at.timestamp() * 1000) + np.sort(RNG.integers(0, 3_000_000, rows))).astype(np.uint64)
    ids = np.zeros((rows, 16), np.uint8)
    ids[:, :6] = told.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    ids[:, 6:] = RNG.integers(0, 256, (rows, 10))
    ids[:, 6], ids[:, 8] = 0x70 | ids[:, 6] & 0x0F, 0x80 | ids[:, 8] & 0x3F
    matrix = np.column_stack([RNG.normal(size=(rows, NUMBERS)), RNG.integers(0, 12, (rows, CATEGORIES))])
    by = LoggedBy(name, 1, "release", "bundle", "champion", features())
    said = RNG.beta(2, 5, rows).astype(np.float32).tobytes()
    batch = LoggedRows(by, ids.tobytes(), matrix.astype(np.float32).tobytes(), said)
    key = parts.part_key(parts.PREDICTIONS, name, at.date(), f"{segment:032x}")
    store.put(key, ArrowParts().predictions([batch]))
    return [f"{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:]}" for x in map(bytes.hex, map(bytes, ids))]


def labels(name: str, store: Store, ids: list[str], at: datetime, segment: int) -> None:
    """A part of ground truth."""
    records = [Truth(one, float(RNG.random() < 0.3), round(at.timestamp() * 1000)) for one in ids]
    store.put(parts.part_key(parts.TRUTH, name, at.date(), f"{segment:032x}"), ArrowParts().truth(records))


def passes(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, float, float, int]]:
    """What each pass was over, its seconds, those of them on a processor, and the rows that it counted."""
    ledger, store = open_ledger(f"sqlite:///{folder / 'ledger.db'}"), FileStore(str(folder / "store"))
    specs = {f"m{at}": model(f"m{at}", ledger, store, options.slices) for at in range(options.models)}
    ids = {name: answers(name, store, options.rows, NOON, 1) for name in specs}
    outside, turns = Outside(specs, store, LoggedPredictions(store), Addresses("", "")), Turns()
    now = NOON + timedelta(hours=2)
    for what in ("first", "nothing new", "new rows and labels"):
        if what == "new rows and labels":
            for name in specs:
                answers(name, store, options.rows, NOON + timedelta(hours=1), 2)
                labels(name, store, ids[name][: options.rows // 5], NOON, 3)
        began, busy = time.perf_counter(), time.process_time()
        report = monitor(ledger, outside, turns, lambda now=now: now)  # type: ignore[misc]
        yield what, time.perf_counter() - began, time.process_time() - busy, report.rows
        assert not report.failures, report.failures
        now += timedelta(minutes=5)


def main() -> None:
    """Print a line of JSON for each pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--slices", nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for what, seconds, busy, rows in passes(options, Path(folder)):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            each = {"ms_a_model": round(1000 * seconds / options.models, 1)}
            each["cpu_ms_a_model"] = round(1000 * busy / options.models, 1)
            print(json.dumps({"pass": what, "models": options.models, "rows": rows, **each, "peak_mb": peak}))


if __name__ == "__main__":
    main()
