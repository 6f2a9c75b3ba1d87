"""How long a pass of the monitor over many models takes, and how much memory: each with 20 features and new answers.

    python benchmarks/monitor_pass.py                   10, 100 and 1,000 models, 10,000 new rows each
    python benchmarks/monitor_pass.py --write           ... and the table goes into RESULTS.md
    python benchmarks/monitor_pass.py --models 100 --rows 2000 --slices k0

One process, as the task of the DAG `monitor`. The first pass counts all and writes each model's first points; the
second finds nothing new, the third as many rows again, a fifth of the first ones with labels. The ledger is SQLite, the
store a folder, both in a temporary one. Each number of models is a process of its own, so that its peak memory is. All
models have the same rows, in one file that is linked: it is read, decoded and counted for each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from results import measured, table, write

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

TITLE = "A pass of the monitor over many models"
SECONDS, MEGABYTES = 60, 1000  # what a pass over the most models may take (issue 7)
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


def model(name: str, ledger: Ledger, store: Store, slices: list[str], described: bytes) -> ModelSpec:
    """A champion with a reference, and a bundle of its own."""
    bundle, sealed = bundles.seal({REFERENCE: described}, model=name, train_key="k", snapshot="s")
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


def answers(names: list[str], folder: Path, rows: int, at: datetime, segment: int) -> list[str]:
    """A part of answers within an hour, for each model; their ids."""
    told = (round(at.timestamp() * 1000) + np.sort(RNG.integers(0, 3_000_000, rows))).astype(np.uint64)
    ids = np.zeros((rows, 16), np.uint8)
    ids[:, :6] = told.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    ids[:, 6:] = RNG.integers(0, 256, (rows, 10))
    ids[:, 6], ids[:, 8] = 0x70 | ids[:, 6] & 0x0F, 0x80 | ids[:, 8] & 0x3F
    matrix = np.column_stack([RNG.normal(size=(rows, NUMBERS)), RNG.integers(0, 12, (rows, CATEGORIES))])
    by = LoggedBy(names[0], 1, "release", "bundle", "champion", features())
    said = RNG.beta(2, 5, rows).astype(np.float32).tobytes()
    batch = LoggedRows(by, ids.tobytes(), matrix.astype(np.float32).tobytes(), said)
    _for_each(names, folder, parts.PREDICTIONS, at, segment, ArrowParts().predictions([batch]))
    return [f"{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:]}" for x in map(bytes.hex, map(bytes, ids))]


def labels(names: list[str], folder: Path, ids: list[str], at: datetime, segment: int) -> None:
    """A part of ground truth, for each model."""
    records = [Truth(one, float(RNG.random() < 0.3), round(at.timestamp() * 1000)) for one in ids]
    _for_each(names, folder, parts.TRUTH, at, segment, ArrowParts().truth(records))


def _for_each(names: list[str], folder: Path, kind: str, at: datetime, segment: int, data: bytes) -> None:
    first, *others = (folder / parts.part_key(kind, name, at.date(), f"{segment:032x}") for name in names)
    first.parent.mkdir(parents=True, exist_ok=True)
    first.write_bytes(data)
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        os.link(first, other)


def passes(options: argparse.Namespace, models: int, folder: Path) -> Iterator[dict[str, float | str]]:
    """What each pass was over, its seconds, those on a processor, the rows that it counted, and the peak so far."""
    ledger, place = open_ledger(f"sqlite:///{folder / 'ledger.db'}"), folder / "store"
    store, described = FileStore(str(place)), to_bytes(reference())
    specs = {f"m{at}": model(f"m{at}", ledger, store, options.slices, described) for at in range(models)}
    names = list(specs)
    ids = answers(names, place, options.rows, NOON, 1)
    outside, turns = Outside(specs, store, LoggedPredictions(store), Addresses("", "")), Turns()
    now = NOON + timedelta(hours=2)
    for what in PASSES:
        if what == PASSES[-1]:
            answers(names, place, options.rows, NOON + timedelta(hours=1), 2)
            labels(names, place, ids[: options.rows // 5], NOON, 3)
        began, busy = time.perf_counter(), time.process_time()
        report = monitor(ledger, outside, turns, lambda now=now: now)  # type: ignore[misc]
        taken, busy = time.perf_counter() - began, time.process_time() - busy
        assert not report.failures, report.failures
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield {"pass": what, "models": models, "rows": report.rows, "seconds": taken, "busy": busy, "peak_mb": peak}
        now += timedelta(minutes=5)


PASSES = ("first", "nothing new", "new rows and labels")


def measure(options: argparse.Namespace, models: int) -> list[dict[str, float | str]]:
    """In a process of its own."""
    command = [sys.executable, __file__, "--one", "--models", str(models), "--rows", str(options.rows)]
    done = subprocess.run([*command, "--slices", *options.slices], check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(found: list[list[dict[str, float | str]]], rows: int) -> str:
    """A line for each number of models, seconds by pass."""
    head = ["models", *(f"{what}: seconds (of a processor), ms a model" for what in PASSES), "peak memory"]
    lines = []
    for taken in found:
        models = float(taken[0]["models"])
        cells = [
            f"{one['seconds']:.2f} ({one['busy']:.2f}), {1000 * float(one['seconds']) / models:.1f}" for one in taken
        ]
        lines.append([f"{models:,.0f}", *cells, f"{taken[-1]['peak_mb']:,.0f} MB"])
    limit = f"Limits for 1,000 models: {SECONDS} s a pass, {MEGABYTES:,} MB."
    about = f"{measured()}; {NUMBERS + CATEGORIES} features, {rows:,} new rows a model and pass. One process. {limit}"
    return f"{about}\n\n{table(head, lines)}"


def main() -> None:
    """Print the table; with --one, a line of JSON for each pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--slices", nargs="*", default=[])
    parser.add_argument("--one", action="store_true", help="in this process, the first number of models only")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            for one in passes(options, options.models[0], Path(folder)):
                print(json.dumps(one), flush=True)
        return
    text = told([measure(options, models) for models in options.models], options.rows)
    print(text)
    if options.write:
        write(TITLE, text)


if __name__ == "__main__":
    main()
