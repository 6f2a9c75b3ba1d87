"""What benchmarks/pull.py measures: one pull of Evergreen, in a process that holds nothing else. Prints JSON.

python pull_once.py <folder of ledger and store> postgresql://user@127.0.0.1:5601/bench <days> <source.lateness>
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "plugins"))

from peers.bare_pull import peak_mb

START, DAYS = datetime(2013, 1, 1, tzinfo=UTC), 90
NUMBERS = [f"wind_{n}" for n in range(12)]
COUNTS = [f"seats_{n}" for n in range(4)]
COLUMNS = ["id", "at", "carrier", "tail", *NUMBERS, *COUNTS, "late"]


def pull_once(folder: str, url: str, days: str, lateness: str) -> dict[str, float]:
    """One pull up to the end of so many days, in this process: seconds, rows of the snapshot, peak_mb."""
    from evergreen import wiring
    from evergreen.core.records import Cause
    from evergreen.core.spec import ModelSpec
    from evergreen.steps.pull import pull

    os.environ["EVERGREEN_CONN_WAREHOUSE"] = url
    spec = ModelSpec.model_validate(_spec(lateness))
    ledger_url, store_url = f"sqlite:///{folder}/ledger.db", f"{folder}/store"
    settings = wiring.Settings(Path(folder), Path(folder), ledger_url, store_url, mlflow_url="")
    ledger, source = wiring.ledger(settings), wiring.source(spec.source)
    as_of = START + timedelta(days=int(days), microseconds=-1)
    request = ledger.requests.open(
        model=spec.name, source=spec.source.id, cause=Cause.SCHEDULE, dedupe_key=days, run_id=days,
        watermark=as_of + spec.label.arrives_after, as_of=as_of, detail={}, now=datetime.now(UTC),
    )  # fmt: skip
    parts, store = wiring.snapshots(settings), wiring.store(settings)
    began = time.perf_counter()
    made = pull(spec, ledger, source, parts, store, request_id=request.id, lease=None)
    return {"seconds": time.perf_counter() - began, "rows": made.rows, "peak_mb": peak_mb()}


def _spec(lateness: str) -> dict[str, Any]:
    source = {"connection": "warehouse", "table": "flights", "event_time": "at", "key": "id", "lateness": lateness}
    return {
        "name": "flights",
        "owner": "ops@example.com",
        "task": "binary_classification",
        "source": source,
        "label": {"column": "late", "arrives_after": "1d"},
        "features": {"columns": COLUMNS[2:-1], "categorical": ["carrier", "tail"]},
        "window": {"train": f"{DAYS - 15}d", "holdout": {"length": "14d", "min_rows": 1000}},
        "validation": {"suite": "flights"},
        "gates": [{"metric": "auc", "min": 0.5}],
    }


if __name__ == "__main__":
    print(json.dumps(pull_once(*sys.argv[1:])))
