"""What one pass of the reconciler costs where nothing is to be done, by the number of models and waiting requests.

python benchmarks/reconciler_pass.py [--models 50 1000] [--waiting 0 1000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evergreen.adapters.ledger import open_ledger
from evergreen.core.addresses import Addresses
from evergreen.core.ports import Ledger
from evergreen.core.records import Cause
from evergreen.core.spec import ModelSpec
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.runs import InMemoryRuns
from evergreen.steps.reconcile import Outside, Pace, reconcile

NOW = datetime.now(UTC)
SPEC = {
    "owner": "ops@example.com",
    "task": "binary_classification",
    "source": {"connection": "warehouse", "table": "rows", "event_time": "at", "key": "id"},
    "label": {"column": "y", "arrives_after": "1d"},
    "features": {"columns": ["x"]},
    "window": {"train": "60d", "holdout": {"length": "7d"}},
    "cooldown": "6h",
    "validation": {"suite": "m"},
    "gates": [{"metric": "auc", "min": 0.6}],
}


def ask(ledger: Ledger, model: str, number: int) -> None:
    """A request that waits for its time."""
    ledger.requests.open(
        model=model,
        source="warehouse/rows/at",
        cause=Cause.METRIC,
        dedupe_key=f"metric:{number}",
        run_id=None,
        watermark=NOW,
        as_of=NOW,
        detail={},
        now=NOW,
        due_at=NOW + timedelta(hours=1),
    )


def passes(models: int, waiting: int, times: int) -> list[float]:
    """Milliseconds of each pass."""
    specs = {f"m{at}": ModelSpec.model_validate({"name": f"m{at}", **SPEC}) for at in range(models)}
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        for number in range(waiting):
            ask(ledger, f"m{number % models}", number)
        outside = Outside(specs, InMemoryRuns(), FakeRegistry(), _no_source, Addresses.under(""))
        pace, taken = Pace(), []
        for _ in range(times):
            began = time.perf_counter()
            report = reconcile(ledger, outside, pace, lambda: datetime.now(UTC))
            taken.append(1000 * (time.perf_counter() - began))
            assert not report.troubles, report.troubles
        return taken


def _no_source(spec: ModelSpec) -> None:
    raise AssertionError("no model here has a new_data trigger")


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--waiting", type=int, nargs="+", default=[0, 1000])
    parser.add_argument("--times", type=int, default=20)
    asked = parser.parse_args()
    for models in asked.models:
        for waiting in asked.waiting:
            first, *rest = passes(models, waiting, asked.times)
            then = statistics.median(rest)
            print(f"{models:>5} models, {waiting:>5} waiting: first {first:6.1f} ms, then {then:6.1f} ms")


if __name__ == "__main__":
    main()
