"""Evergreen's serving against what one would pick instead: throughput, latency, start, memory, overload.

    python benchmarks/serving.py                        all, both models, three rounds of 10 s: 40 minutes
    python benchmarks/serving.py --write --soak 10      … and the soak; the tables go into RESULTS.md
    python benchmarks/serving.py --seconds 2 --rounds 1 --models small --only Evergreen FastAPI

Needs wrk (`apt-get install wrk`) and, the first time, a network: the others are installed into benchmarks/.venvs, in
the versions of benchmarks/peers/*.txt. Nothing else should run on the machine.

The servers take turns, each with one worker, on the same model file; each must first give the prediction that
`inplace_predict` gives. The request is one row as JSON in the server's own protocol. Evergreen is a normal replica on
a SQLite ledger: schema check, inference ids, metrics, the prediction log and its shipper are on. "constant" is the
limit: Evergreen's HTTP class on the same server, answering the same bytes to everything; and uvicorn's own, by ASGI.

  closed loop  wrk -t1 with 64 connections, then with 1: requests/s, p50, p99
  open loop    requests at equal distances (benchmarks/open_loop.py), at half of Evergreen's own rate at 64 connections
               and at half of the highest rate at which callers who come apart are answered in time; beside it the
               constant, whose p99 is what the machine itself does
  ready        from the start of the process to the first right answer
  memory       the worker's (else the largest process') resident set after the load, and that of all its processes
  --soak       so many minutes at three times capacity, with requests of 50 rows, so that open_loop.py can send that
               many: memory at the begin and the end, p99 of what was answered against that at half of capacity, and
               what became of the rest. The number sent says whether the load was reached.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import ALL, CONSTANT, EVERGREEN, FASTAPI, Contender, Place, install, running
from loads import MANY, Load, constant_rate, highest_rate, rates, wrk

HERE = Path(__file__).resolve().parent
TITLE = "## Serving, against its peers"
SOAK_ROWS = 50  # of a request
WARM = 2  # seconds of load before anything is measured
# What the rate at 64 connections must be, as a multiple of the other's (issue 6)
LIMITS = {"mlflow models serve": 150, "BentoML, async": 20, "MLServer": 12, "FastAPI": 7, "constant": 0.5}
SLOWEST_P50 = 0.7  # of FastAPI's, at one connection


@dataclass(frozen=True)
class Round:
    """One round of one server. Seconds, MB."""

    many: Load
    one: Load
    ready: float
    worker: float
    all: float


def main() -> None:
    """Measure and tell."""
    options = _options()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk (https://github.com/wg/wrk)")
    for contender in options.chosen:
        install(contender)
    told = [_machine(options)]
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        for name in options.models:
            place = prepare(Path(folder), name)
            rounds = measure(place, options.chosen, options.rounds, options.seconds)
            told.append(table(place, rounds))
            if EVERGREEN in options.chosen:
                rate = statistics.median(one.many.rate for one in rounds[EVERGREEN.name])
                told.append(open_loop(place, rate, options.rounds, options.seconds))
                if options.soak and name == options.models[0]:
                    told.append(soak(place, options.soak))
            print(f"\n{told[-1]}", flush=True)
    text = "\n\n".join(told)
    print(f"\n{text}")
    if options.write:
        write(text)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of all servers in turn; medians are told")
    parser.add_argument("--models", nargs="+", choices=("small", "large"), default=["small", "large"])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="servers whose name begins so, e.g. Evergreen MLServer"
    )
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES", help="of overload, with the first model")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    wanted = tuple(options.only or ("",))
    options.chosen = [one for one in ALL if one.name.startswith(wanted)]
    return options


def prepare(folder: Path, name: str) -> Place:
    """Fit a model and lay it out for everybody. In a process of its own: this one stays small, and has no XGBoost."""
    home = folder / name
    home.mkdir()
    done = subprocess.run([sys.executable, "-c", PREPARE, name, str(home)], check=True, cwd=HERE, capture_output=True)
    found = json.loads(done.stdout.splitlines()[-1])
    from bench_models import LARGE, SMALL

    return Place(home, {"small": SMALL, "large": LARGE}[name], found["row"], found["expected"])


PREPARE = """
import json, sys
from pathlib import Path
import numpy as np
import bench_models
home, shape = Path(sys.argv[2]), {"small": bench_models.SMALL, "large": bench_models.LARGE}[sys.argv[1]]
booster = bench_models.fit(shape)
booster.save_model(home / "model.ubj")
bench_models.release(home, shape, booster)
import mlflow.xgboost
import pandas
row = np.nan_to_num(bench_models.rows_of(shape, 1, seed=3))
example = pandas.DataFrame(row, columns=shape.names)
signature = mlflow.models.infer_signature(example, booster.inplace_predict(row))
mlflow.xgboost.save_model(booster, home / "pyfunc", signature=signature, pip_requirements=["xgboost"])
print(json.dumps({"row": row[0].tolist(), "expected": float(booster.inplace_predict(row)[0])}))
"""


def measure(place: Place, contenders: Sequence[Contender], rounds: int, seconds: int) -> dict[str, list[Round]]:
    """All rounds by server."""
    found: dict[str, list[Round]] = {one.name: [] for one in contenders}
    for number in range(rounds):
        for contender in contenders:
            with running(contender, place) as server:
                wrk(server, MANY, WARM)
                many, one = wrk(server, MANY, seconds), wrk(server, 1, seconds)
                measured = Round(many, one, server.ready, *server.memory())
            found[contender.name].append(measured)
            print(
                f"{place.shape}, round {number + 1}: {contender.name}: {many.rate:,.0f}/s, p99 {many.p99:,.1f} ms; "
                f"alone p50 {one.p50:.2f} ms; ready {measured.ready:.2f} s",
                flush=True,
            )
    return found


def open_loop(place: Place, capacity: float, rounds: int, seconds: int) -> str:
    """Evergreen at half of its rate at 64 connections, and at half of the highest rate of callers who come apart."""
    with running(EVERGREEN, place) as server:
        wrk(server, MANY, WARM)
        apart = highest_rate(server, capacity)
    lines = [
        f"Open loop, {place.shape}; callers who know nothing of each other are answered in time up to {apart:,.0f}/s.",
        "",
        "| rate | server | p50 | p99 (limit 5) | the generator's own lateness, p99 | answered 200 | unsent |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate in (capacity / 2, apart / 2):
        for contender in (EVERGREEN, CONSTANT):
            lines.append(f"| {rate:,.0f}/s | {contender.name} | {_open(place, contender, rate, rounds, seconds)} |")
    return "\n".join(lines)


def _open(place: Place, contender: Contender, rate: float, rounds: int, seconds: int) -> str:
    found = []
    for _ in range(rounds):
        with running(contender, place) as server:
            wrk(server, MANY, WARM)
            found.append(constant_rate(server, rate, seconds))
    p50, p99, lag = (statistics.median(one[name] for one in found) for name in ("p50_ms", "p99_ms", "lag_p99_ms"))
    unsent = sum(one["unsent"] for one in found)
    return f"{p50:.2f} ms | {p99:.2f} ms | {lag:.2f} ms | {_shares(_summed(found))} | {unsent}"


def soak(place: Place, minutes: float) -> str:
    """Evergreen at three times its rate, with requests of SOAK_ROWS rows: so many more of one row nobody could send."""
    with running(EVERGREEN, place) as server:
        server.body = json.dumps({"records": json.loads(server.body)["records"] * SOAK_ROWS}).encode()
        wrk(server, MANY, WARM)
        capacity = wrk(server, MANY, 10).rate
        calm = constant_rate(server, capacity / 2, 10)
        seen = [(one, server.memory()) for one in rates(server, 3 * capacity, 60 * minutes, every=10)]
    (_, before), (_, after) = seen[0], seen[-1]
    windows = [one for one, _ in seen]
    p99 = statistics.median(one["p99_ms"] for one in windows if one["p99_ms"] is not None)
    answered = _summed(windows)
    return (
        f"Soak, {minutes:g} minutes at 3 x {capacity:,.0f} requests/s of {SOAK_ROWS} rows ({place.shape}; sent: "
        f"{sum(answered.values()) / 60 / minutes:,.0f}/s): answers {_shares(answered)}; p99 of those with 200 "
        f"{p99:.1f} ms, {p99 / calm['p99_ms']:.1f} x that at half of capacity ({calm['p99_ms']:.2f} ms; limit 4); "
        f"memory of the worker {before[0]:,.0f} MB after 10 s, {after[0]:,.0f} MB at the end, of all its processes "
        f"{before[1]:,.0f} and {after[1]:,.0f} MB."
    )


def _summed(windows: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many answers of each status."""
    return sum((Counter(one["answered"]) for one in windows), Counter[str]())


def _shares(answered: Counter[str]) -> str:
    return ", ".join(f"{status} {number / answered.total():.1%}" for status, number in sorted(answered.items()))


# ---------------------------------------------------------------- what is told


def _machine(options: Any) -> str:
    flags = f" --soak {options.soak:g}" if options.soak else ""
    command = f"python benchmarks/serving.py --rounds {options.rounds} --seconds {options.seconds}{flags}"
    return (
        f"`{command}` on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; medians. "
        "One worker, one row as JSON; Evergreen with schema check, inference ids, metrics, prediction log and shipper "
        "on. `ratio`: Evergreen's rate at 64 connections to the other's."
    )


def table(place: Place, rounds: dict[str, list[Round]]) -> str:
    """Markdown."""
    ours, by_hand = rounds.get(EVERGREEN.name), rounds.get(FASTAPI.name)
    lines = [f"### {place.shape}", "", _HEADER, re.sub("[^|]+", "---", _HEADER)]
    lines += [_line(name, found, ours) for name, found in rounds.items()]
    if ours and by_hand:
        part = _median(ours, lambda one: one.one.p50) / _median(by_hand, lambda one: one.one.p50)
        lines += ["", f"At one connection Evergreen's p50 is {part:.2f} of FastAPI's (limit {SLOWEST_P50})."]
    return "\n".join(lines)


_HEADER = (
    "| server | 64 connections: requests/s | p99 | ratio (limit) | 1 connection: p50 | p99 | ready "
    "| memory: worker, all |"
)


def _line(name: str, found: list[Round], ours: list[Round] | None) -> str:
    def read(what: Callable[[Round], float], form: str) -> str:
        return format(_median(found, what), form)

    ratio = ""
    if ours and name != EVERGREEN.name:
        limit = next((f" ({value})" for part, value in LIMITS.items() if part in name), "")
        ratio = f"{_median(ours, lambda one: one.many.rate) / _median(found, lambda one: one.many.rate):,.2f}{limit}"
    cells = [
        name, read(lambda one: one.many.rate, ",.0f"), read(lambda one: one.many.p99, ",.1f") + " ms", ratio,
        read(lambda one: one.one.p50, ".2f") + " ms", read(lambda one: one.one.p99, ",.2f") + " ms",
        read(lambda one: one.ready, ".2f") + " s",
        f"{read(lambda one: one.worker, ',.0f')}, {read(lambda one: one.all, ',.0f')} MB",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _median(rounds: list[Round], read: Callable[[Round], float]) -> float:
    return statistics.median(read(one) for one in rounds)


def write(text: str) -> None:
    """Replace the section of RESULTS.md, or add it."""
    file = HERE / "RESULTS.md"
    before, _, rest = file.read_text().partition(f"{TITLE}\n")
    after = rest[at:] if (at := rest.find("\n## ")) >= 0 else ""
    file.write_text(f"{before.rstrip()}\n\n{TITLE}\n\n{text}\n{after}")


if __name__ == "__main__":
    main()
