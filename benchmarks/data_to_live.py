"""How long from data landed to the new version answering, against a bare script that only pulls, trains and writes.

For each size: a fresh stack with one model (flight-delay, its window stretched to that many rows), a first release,
then five more days of flights land. The clock runs from the commit of those rows until serving answers with the new
version: the watcher's poll, all seven tasks and the swap are in it. Then `bare_retrain.py` does the same window as a
new process in the same venv, against the same MLflow server, while the stack idles. Each is done --times times, in
turn; the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from evergreen import supervisor, wiring
from evergreen.core.catalog import load_catalog
from evergreen.core.records import Cause
from evergreen.core.window import window
from evergreen.demo.caller import Caller
from evergreen.demo.flights import flights
from evergreen.demo.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[1]
MODEL = "flight-delay"
LATER = timedelta(days=5)  # of new flights in each retrain
HOLDOUT = timedelta(days=14)
PATIENCE = 300  # seconds for one retrain
TASKS = ("admit", "pull", "validate", "train", "judge", "approve", "roll_out")


def main() -> None:
    """Measure each size, and print what goes into RESULTS.md."""
    options = _parser().parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; medians of {options.times}"
    )
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
            _print(rows, measure(Path(folder), rows, options.times))


def measure(folder: Path, rows: int, times: int) -> list[dict[str, Any]]:
    """One dict a repetition: rows, Evergreen's seconds by part, the script's seconds."""
    data = flights()
    train = _project(folder, data, rows)
    os.environ |= {
        "EVERGREEN_PROJECT": str(folder),
        "EVERGREEN_HOME": str(folder / ".evergreen"),
        "EVERGREEN_CONN_WAREHOUSE": f"sqlite:///{folder / 'warehouse.db'}",
    }
    settings, warehouse = wiring.Settings.load(), Warehouse(f"sqlite:///{folder / 'warehouse.db'}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each task compiles Evergreen anew
    last = data["time_hour"].max()
    assert isinstance(last, datetime)
    landed = last - times * LATER
    warehouse.load(data.filter(pl.col("time_hour") <= landed))
    print(f"{rows:,} rows: window.train {train.days}d; starting the stack and making the first release", flush=True)
    stack = supervisor.up(settings)
    try:
        return _repeat(settings, stack, warehouse, data, landed, times)
    finally:
        supervisor.down(settings)


def _project(folder: Path, data: pl.DataFrame, rows: int) -> timedelta:
    """A project of its own with one model, whose window holds about so many labelled rows at the end of the data."""
    for name in ("dags", "plugins", "expectations"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "requirements.txt", folder)
    (folder / "models" / MODEL).mkdir(parents=True)
    defaults = yaml.safe_load((ROOT / "models" / "_defaults.yaml").read_text())
    spec = defaults | yaml.safe_load((ROOT / "models" / MODEL / "model.yaml").read_text())
    labelled = data.filter(pl.col("late").is_not_null())["time_hour"]
    start = labelled[max(0, len(labelled) - rows)]
    train = timedelta(days=(labelled[-1] - start - HOLDOUT).days)
    spec["window"] = {"train": f"{train.days}d", "holdout": {"length": f"{HOLDOUT.days}d", "min_rows": 1000}}
    spec["triggers"] = [{"new_data": {"min_rows": 1000}}]
    spec["gates"] = [{"metric": "auc", "min": 0.55}]
    spec["approval"] = {"mode": "auto"}
    (folder / "models" / "_defaults.yaml").write_text("{}\n")
    (folder / "models" / MODEL / "model.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    suites = [file.name for file in (ROOT / "expectations").glob("*.json")]
    assert f"{MODEL}.json" in suites
    return train


def _repeat(
    settings: wiring.Settings,
    stack: supervisor.Stack,
    warehouse: Warehouse,
    data: pl.DataFrame,
    landed: datetime,
    times: int,
) -> list[dict[str, Any]]:
    ledger, api = wiring.ledger(settings), wiring.airflow(stack.airflow_url, stack.user, stack.password)
    spec = load_catalog(settings.root).specs[MODEL]
    record = data.select(spec.features.columns).row(1000, named=True)
    found = []
    with Caller(f"{stack.serving_url}/models/{MODEL}/predict", record) as caller:
        _wait(lambda: bool(caller.answers), "the first release")
        for _ in range(times):
            known = {request.id for request in ledger.requests.latest(MODEL, limit=1000)}
            version = max(caller.answers)
            batch = data.filter(pl.col("time_hour").is_between(landed, landed + LATER, closed="right"))
            landed += LATER
            warehouse.load(batch)
            began, clock = time.monotonic(), time.time()
            _wait(lambda: max(caller.answers) > version, "the new version")  # noqa: B023
            seconds = time.monotonic() - began
            request = next(
                r for r in ledger.requests.latest(MODEL, limit=20) if r.id not in known and r.cause is Cause.NEW_DATA
            )
            _wait(lambda: api.run(MODEL, request.run_id)["state"] == "success", "the run's end")  # noqa: B023
            parts = _parts(api, request.run_id, clock, seconds)
            time.sleep(3)  # the run's last words; then the stack idles
            script = _script(settings, stack, spec, request.as_of)
            found.append({"evergreen": seconds, "parts": parts, "script": script})
            print(f"  Evergreen {seconds:.1f} s, bare script {script['whole']:.1f} s", flush=True)
    return found


def _parts(api: Any, run_id: str, clock: float, seconds: float) -> dict[str, float]:
    """Seconds by part; what is no task is waiting: the watcher's poll, scheduling, serving's swap."""
    path = f"dags/{MODEL}/dagRuns/{run_id}/taskInstances"
    tasks = {task["task_id"]: task for task in api._ask("GET", path)["task_instances"]}
    span = {name: (_stamp(tasks[name]["start_date"]), _stamp(tasks[name]["end_date"])) for name in TASKS}
    parts = {"until admit starts": span["admit"][0] - clock}
    before = span["admit"][0]
    for name in TASKS:
        start, end = span[name]
        parts[f"hop to {name}"] = start - before
        parts[name] = end - start
        before = end
    parts["after roll_out"] = clock + seconds - before
    return parts


def _stamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _script(settings: wiring.Settings, stack: supervisor.Stack, spec: Any, as_of: datetime | None) -> dict[str, Any]:
    assert as_of is not None
    bounds = window(spec, as_of)
    out = settings.root / "bare" / "model.ubj"
    out.parent.mkdir(exist_ok=True)
    argv = [sys.executable, str(ROOT / "benchmarks" / "bare_retrain.py")]
    arguments = {
        "model": settings.root / "models" / MODEL,
        "suite": ROOT / "expectations" / f"{MODEL}.json",
        "source": os.environ["EVERGREEN_CONN_WAREHOUSE"],
        "start": f"{bounds.start:%Y-%m-%d %H:%M:%S}",
        "end": f"{bounds.as_of:%Y-%m-%d %H:%M:%S}",
        "mlflow": stack.mlflow_url,
        "out": out,
    }
    began = time.monotonic()
    done = subprocess.run(
        [*argv, *(part for name, value in arguments.items() for part in (f"--{name}", str(value)))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    whole = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"the bare script failed:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return {**told, "whole": whole, "start and imports": whole - sum(told["seconds"].values())}


def _wait(done: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.05)


def _print(rows: int, found: list[dict[str, Any]]) -> None:
    def median(read: Any) -> float:
        return statistics.median(read(one) for one in found)

    ours, script = median(lambda one: one["evergreen"]), median(lambda one: one["script"]["whole"])
    print(f"\n{rows:,} rows asked, {found[-1]['script']['rows']:,} in the window")
    print(f"  Evergreen, landed to answering   {ours:6.1f} s   " + _all(one["evergreen"] for one in found))
    print(f"  bare script, start to written    {script:6.1f} s   " + _all(one["script"]["whole"] for one in found))
    print(f"  ratio                            {ours / script:6.2f}")
    print("  Evergreen by part:")
    parts = {name: median(lambda one, name=name: one["parts"][name]) for name in found[0]["parts"]}
    hops = sum(value for name, value in parts.items() if name.startswith("hop"))
    for name, value in parts.items():
        if not name.startswith("hop"):
            print(f"    {name:<24} {value:6.2f} s")
    print(f"    {'hops between tasks':<24} {hops:6.2f} s")
    print("  bare script by part:")
    print(f"    {'start and imports':<24} {median(lambda one: one['script']['start and imports']):6.2f} s")
    for name in found[0]["script"]["seconds"]:
        print(f"    {name:<24} {median(lambda one, name=name: one['script']['seconds'][name]):6.2f} s")


def _all(values: Any) -> str:
    return f"({', '.join(f'{value:.1f}' for value in values)})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000], help="in the window")
    parser.add_argument("--times", type=int, default=3, help="retrains measured at each size")
    return parser


if __name__ == "__main__":
    main()
