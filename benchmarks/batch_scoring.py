"""Batch scoring against what one would write by hand, and what it holds in memory as rows grow.

    python benchmarks/batch_scoring.py                  1 M rows against by hand and pyfunc, then 5 M rows
    python benchmarks/batch_scoring.py --rows 200000 --more 1000000 --times 1

By hand: pyarrow reads the whole file, `inplace_predict` answers, pyarrow writes columns and predictions. pyfunc: pandas
reads, `mlflow.pyfunc` answers, pandas writes. Evergreen: `evergreen score`, with its ledger, bundle, checks and bar.
Each is a process of its own and all take turns; the median of --times is told. "work" leaves start and imports out;
"whole" is from the start of the process to its end. Memory is the highest resident set, as the kernel counts it.
The model has 200 trees of depth 6 and 20 features; files have one row group, the worst case for memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HAND = """
import sys, time, json
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, xgboost as xgb
began = time.perf_counter()
table = pq.read_table("{rows}")
booster = xgb.Booster(model_file="model.ubj")
matrix = np.column_stack([table[name].to_numpy() for name in booster.feature_names])
answers = booster.inplace_predict(matrix)
pq.write_table(table.append_column("prediction", pa.array(answers)), "hand.parquet")
print(json.dumps(time.perf_counter() - began))
"""
PYFUNC = """
import sys, time, json
import mlflow, pandas as pd
began = time.perf_counter()
frame = pd.read_parquet("{rows}")
model = mlflow.pyfunc.load_model("pyfunc")
frame["prediction"] = model.predict(frame.drop(columns="id"))
frame.to_parquet("pyfunc.parquet")
print(json.dumps(time.perf_counter() - began))
"""
EVERGREEN = """
import sys, time, json
sys.modules["sklearn"] = None  # as the command does
from evergreen import scoring, wiring
settings = wiring.Settings.load()
began = time.perf_counter()
order = scoring.Order("bench", "{rows}", "evergreen.parquet", force=True)
scoring.score(order, wiring.ledger(settings), wiring.store(settings), by="bench", act=str(time.time_ns()))
print(json.dumps(time.perf_counter() - began))
"""
COMMAND = ["-m", "evergreen.cli", "score", "bench", "--output", "command.parquet", "--force", "--json", "--input"]


PROGRAMS = {"by hand": HAND, "pyfunc": PYFUNC, "Evergreen": EVERGREEN}


def main() -> None:
    """Print what goes into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the comparison")
    parser.add_argument("--more", type=int, default=5_000_000, help="of the look at memory")
    parser.add_argument("--times", type=int, default=3, help="how often each is run; the median is told")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.prepare:
        prepare(asked.prepare, asked.rows, asked.more)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; medians of {asked.times}")
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        # In a process of its own: the kernel counts what its parent held as a child's.
        size = ["--rows", str(asked.rows), "--more", str(asked.more)]
        subprocess.run([sys.executable, __file__, "--prepare", folder, *size], check=True)
        compare(Path(folder), asked.rows, asked.times)
        print(f"\nThe command `evergreen score`, {asked.rows:,} and {asked.more:,} rows:")
        for name in ("rows", "more"):
            _show("Evergreen", [run(Path(folder), [*COMMAND, f"{name}.parquet"]) for _ in range(asked.times)])


def prepare(folder: Path, rows: int, more: int) -> None:
    """Files of rows, and the same model for everyone: a file, an MLflow model, and a released version."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from bench_models import SMALL, fit, release, rows_of

    for name, many in (("rows", rows), ("more", more)):
        values = rows_of(SMALL, many)
        columns = {feature: values[:, at] for at, feature in enumerate(SMALL.names)}
        table = pa.table({"id": range(many), **columns})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=many, use_dictionary=False)
        del values, columns, table
    booster = fit(SMALL)
    booster.save_model(folder / "model.ubj")
    release(folder, SMALL, booster)
    import mlflow.xgboost

    mlflow.xgboost.save_model(booster, folder / "pyfunc", pip_requirements=["xgboost"])


def compare(folder: Path, rows: int, times: int) -> None:
    """Each in turn; then that all answered alike."""
    found: dict[str, list[Run]] = {name: [] for name in PROGRAMS}
    for _ in range(times):
        for name, program in PROGRAMS.items():
            found[name].append(run(folder, ["-c", program.replace("{rows}", "rows.parquet")]))
    print(f"\n{rows:,} rows:")
    for name, runs in found.items():
        _show(name, runs)
    work = {name: statistics.median(one.work for one in runs) for name, runs in found.items()}
    print(f"Evergreen's work is {work['Evergreen'] / work['by hand']:.2f} of by hand, "
          f"{work['Evergreen'] / work['pyfunc']:.2f} of pyfunc (limit: 1.30 of by hand)")  # fmt: skip
    subprocess.run([sys.executable, "-c", SAME], cwd=folder, check=True)


SAME = """
import pyarrow.parquet as pq
hand, ours = (pq.read_table(name, columns=["id", "prediction"]) for name in ("hand.parquet", "evergreen.parquet"))
assert hand.equals(ours.cast(hand.schema)), "Evergreen and by hand do not agree"
print(f"All {len(hand):,} predictions are those of by hand, bit by bit.")
"""


@dataclass(frozen=True)
class Run:
    """Seconds, and the highest resident set in MB (10^6 bytes). `work` is what the program itself told."""

    work: float
    whole: float
    memory: float


def run(folder: Path, arguments: list[str]) -> Run:
    """Run Python with these arguments, with the folder as Evergreen's home."""
    environment = {**os.environ, "EVERGREEN_HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    whole = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{arguments[:2]} failed with {child.returncode}")
    found = json.loads(told)
    return Run(found["seconds"] if isinstance(found, dict) else found, whole, used.ru_maxrss * 1024 / 1e6)


def _show(name: str, runs: list[Run]) -> None:
    work, whole, memory = (
        statistics.median(getattr(one, what) for one in runs) for what in ("work", "whole", "memory")
    )
    print(f"  {name:<10} work {work:6.2f} s   whole {whole:6.2f} s   memory {memory:7,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
