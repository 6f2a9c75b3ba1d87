"""How long from data landed to the new version answering, against a bare script that only pulls, trains and writes.

For each size: a fresh stack with one model (flight-delay, its window stretched to that many rows), a first release,
then five more days of flights land. The clock runs from the commit of those rows until serving answers with the new
version: the watcher's poll, all seven tasks and the swap are in it. Then `bare_retrain.py` does the same window as a
new process in the same venv, against the same MLflow server, while the stack idles. Each is done --times times, in
turn; the medians are compared.

    python benchmarks/data_to_live.py                                     100,000 and 300,000 rows
    python benchmarks/data_to_live.py --rows 1000000 --rounds 200         the flights of 2013 over and over
    python benchmarks/data_to_live.py --write                             ... and the tables go into RESULTS.md

What a task *adds* is its wall clock and the hop before it, less what the script needs for the same work. The script
has no work for admit, approve and roll_out, which ask and wait, and none for judge: it measures within its training,
rehearses nothing, draws nothing. Of judge, its own step (from the task's log) counts as the work.
Where a window needs more rows than a year has, the year is repeated, 364 days earlier each time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
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
from results import measured, table, write

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
BARE = {
    "pull": ("pull",),
    "validate": ("validate",),
    "train": ("train", "log and write"),
}  # the script's parts, by task
TITLE = "Data landed to new version answering"
ADDS = 1.0  # seconds that a task may add, hop included (issue 8)
YEAR = timedelta(days=364)  # whole weeks: a day stays the day of the week that it was


def main() -> None:
    """Measure each size, and print what goes into RESULTS.md."""
    options = _parser().parse_args()
    texts = [f"{measured()}; medians of {options.times}."]
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
            found = measure(Path(folder), rows, options.times, options.rounds)
        texts.append(told(rows, options.rounds, found))
        print(f"\n{texts[-1]}\n", flush=True)
    if options.write:
        write(TITLE, "\n\n".join(texts))


def enough(rows: int) -> pl.DataFrame:
    """The flights, and those of as many years before as so many labelled rows need, in order."""
    data = flights()
    labelled = data["late"].is_not_null().sum()
    years = math.ceil(rows * 1.05 / labelled)
    return data if years == 1 else pl.concat([_shifted(data, back) for back in range(years - 1, -1, -1)])


def _shifted(data: pl.DataFrame, years: int) -> pl.DataFrame:
    start = data["time_hour"].max() - YEAR  # type: ignore[operator]  # two years share no hour
    return data.filter(pl.col("time_hour") > start).with_columns(
        pl.col("time_hour") - YEAR * years, pl.format("{}-{}", "flight_id", pl.lit(years)).alias("flight_id")
    )


def measure(folder: Path, rows: int, times: int, rounds: int | None) -> list[dict[str, Any]]:
    """One dict a repetition: rows, Evergreen's seconds by part, the script's seconds."""
    data = enough(rows)
    train = _project(folder, data, rows, rounds)
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
    for some in data.filter(pl.col("time_hour") <= landed).iter_slices(100_000):
        warehouse.load(some)
    print(f"{rows:,} rows: window.train {train.days}d; starting the stack and making the first release", flush=True)
    stack = supervisor.up(settings)
    try:
        return _repeat(settings, stack, warehouse, data, landed, times)
    finally:
        supervisor.down(settings)


def _project(folder: Path, data: pl.DataFrame, rows: int, rounds: int | None) -> timedelta:
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
    spec.pop("rollout", None)
    if rounds:
        spec["training"] = spec["training"] | {"rounds": {"max": rounds, "early_stopping": rounds}}
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
            parts["step of judge"] = _step_seconds(settings.home, request.run_id, "judge")
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


def _step_seconds(home: Path, run_id: str, step: str) -> float:
    """What a step took in its own process, as its task's log says."""
    logs = (home / "airflow" / "logs" / f"dag_id={MODEL}" / f"run_id={run_id}" / f"task_id={step}").glob("*.log")
    found = re.search(rf"{step} took ([0-9.]+) s", "".join(log.read_text() for log in logs))
    assert found, f"the log of {step} does not say what it took"
    return float(found[1])


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


def told(rows: int, rounds: int | None, found: list[dict[str, Any]]) -> str:
    """The ratio, then a line for each part."""

    def median(read: Any) -> float:
        return statistics.median(read(one) for one in found)

    ours, script = median(lambda one: one["evergreen"]), median(lambda one: one["script"]["whole"])
    lines = [
        ["**landed to answering**", _all(one["evergreen"] for one in found), "", _all(_whole(one) for one in found),
         f"**{ours:.1f} s / {script:.1f} s = {ours / script:.2f}**"],
        ["until admit starts", f"{median(lambda one: one['parts']['until admit starts']):.2f} s", "", "", ""],
    ]  # fmt: skip
    for name in TASKS:
        wall = median(lambda one: one["parts"][name])  # noqa: B023
        hop = median(lambda one: one["parts"][f"hop to {name}"])  # noqa: B023
        bare = sum(median(lambda one: one["script"]["seconds"][part]) for part in BARE.get(name, ()))  # noqa: B023
        if name == "judge":
            bare = median(lambda one: one["parts"]["step of judge"])
        added = wall + hop - bare
        told = f"{added:.2f} s" if added <= ADDS else f"**{added:.2f} s**"
        lines.append([name, f"{wall:.2f} s", f"{hop:.2f} s", f"{bare:.2f} s" if bare else "", told])
    lines += [
        ["after roll_out", f"{median(lambda one: one['parts']['after roll_out']):.2f} s", "", "", ""],
        ["start and imports", "", "", f"{median(lambda one: one['script']['start and imports']):.2f} s", ""],
    ]
    fitted = f", {rounds} rounds" if rounds else ""
    head = f"{found[-1]['script']['rows']:,} rows in the window{fitted}; a task may add {ADDS:g} s:"
    return f"{head}\n\n{table(['part', 'Evergreen', 'hop before it', 'bare script (judge: its step)', 'added'], lines)}"


def _whole(one: dict[str, Any]) -> float:
    return float(one["script"]["whole"])


def _all(values: Any) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000], help="in the window")
    parser.add_argument("--rounds", type=int, help="fit so many, and stop at no earlier one; default: as the example")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    parser.add_argument("--times", type=int, default=3, help="retrains measured at each size")
    return parser


if __name__ == "__main__":
    main()
