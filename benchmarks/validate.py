"""Validation of a window in parts, against the same checks in DuckDB by hand and stock Great Expectations on pandas.

    python benchmarks/validate.py --rows 1 5 10 --write

Ten ordinary expectations on a table of 12 columns in 30 daily parts, in which some values fail and are tolerated by
`mostly`. Each way is a process of its own, which imports, says so, waits for nothing and is timed from then on;
memory is the peak of what the process and its children take of the machine, sampled: PSS, which counts a page that
forked processes share once. `one new part` judges the window a day later: all parts but one were seen before.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import results

ROOT = Path(__file__).resolve().parents[1]
PARTS = 30
SUITE: dict[str, Any] = {
    "name": "bench",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "wind", "mostly": 0.9}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "wind", "min_value": -40, "max_value": 60}},
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "distance", "min_value": 1, "max_value": 2900, "mostly": 0.9},
        },
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "min_value": 0, "max_value": 23}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "carrier", "value_set": ["AA", "UA", "DL"]}},
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "origin", "regex": "^[A-Z]{3}$"}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "wind", "min_value": -1, "max_value": 1}},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}},
    ],
}
BY_HAND = """
SELECT count(*) - count(id), count(*) - count(DISTINCT id), count(*) - count(wind),
       count(*) FILTER (WHERE NOT wind BETWEEN -40 AND 60), count(*) FILTER (WHERE NOT distance BETWEEN 1 AND 2900),
       count(*) FILTER (WHERE NOT hour BETWEEN 0 AND 23), count(*) FILTER (WHERE carrier NOT IN ('AA', 'UA', 'DL')),
       count(*) FILTER (WHERE NOT regexp_matches(origin, '^[A-Z]{3}$')), avg(wind), count(*)
FROM read_parquet('%s')
"""


def _day(at: int, rows: int) -> Any:
    import numpy as np
    import polars as pl

    random = np.random.default_rng(at)
    number = random.normal(0, 10, (rows, 6))
    wind = np.where(random.random(rows) < 0.05, np.nan, np.clip(number[:, 0], -39, 59))
    return pl.DataFrame(
        {
            "id": pl.Series(np.arange(at * rows, (at + 1) * rows)).cast(pl.String).str.zfill(9),
            "at": pl.Series([datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=at)]).new_from_index(0, rows),
            "wind": pl.Series(wind).fill_nan(None),
            "distance": random.integers(80, 2950, rows),
            "hour": random.integers(0, 24, rows).astype(np.int32),
            "carrier": random.choice(["AA", "UA", "DL"], rows),
            "origin": random.choice(["JFK", "LGA", "EWR"], rows),
            **{f"x{n}": number[:, n] for n in range(1, 6)},
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def prepare(folder: Path, rows: int) -> None:
    """The parts, as pull writes them, and one more that is new."""
    from evergreen.adapters.file_store import FileStore
    from evergreen.adapters.parquet_snapshots import ParquetSnapshots

    snapshots = ParquetSnapshots(FileStore(str(folder)))
    parts = [part for at in range(PARTS + 1) for part in snapshots.write("m", _day(at, rows // PARTS), "at", "id")]
    listed = [[part.day.isoformat(), part.key, part.rows, part.sha256] for part in parts]
    (folder / "parts.json").write_text(json.dumps(listed))


def _parts(folder: Path) -> list[Any]:
    from evergreen.core.records import Part

    listed = json.loads((folder / "parts.json").read_text())
    return [Part(date.fromisoformat(day), *rest) for day, *rest in listed]


def evergreen(folder: Path, new: bool) -> Any:
    """The adapter as it is wired; with `new`, one part of thirty was not seen before."""
    os.environ["_RJEM_MALLOC_CONF"] = "narenas:1"  # as in all of Airflow's processes; read when Polars is loaded
    import duckdb  # noqa: F401  (the scheduler imports these before it forks)
    import great_expectations  # noqa: F401
    import pandas  # noqa: F401
    import polars  # noqa: F401

    from evergreen import wiring
    from evergreen.adapters.file_store import FileStore
    from evergreen.adapters.parquet_snapshots import ParquetSnapshots
    from evergreen.steps.window_rows import WindowRows

    store = FileStore(str(folder))
    validator, snapshots = wiring.validator(store, 4000), ParquetSnapshots(store)
    parts = _parts(folder)
    window = WindowRows(snapshots, parts[1:] if new else parts[:PARTS])
    return lambda: validator.validate(window.for_validator(list(_COLUMNS)), SUITE).full["success"]


_COLUMNS = ("id", "at", "wind", "distance", "hour", "carrier", "origin", *(f"x{n}" for n in range(1, 6)))


def by_hand(folder: Path) -> Any:
    """One statement in DuckDB on the files."""
    import duckdb

    (folder / "spill").mkdir(exist_ok=True)
    database = duckdb.connect(config={"threads": 2})
    files = [str(folder / part.key) for part in _parts(folder)[:PARTS]]
    return lambda: bool(database.execute(BY_HAND.replace("'%s'", str(files))).fetchall())


def stock(folder: Path) -> Any:
    """The whole frame in pandas, as the validator was before."""
    import pandas as pd
    import polars as pl

    from evergreen.adapters.gx_validator import frames
    from evergreen.adapters.gx_validator.library import Library

    files = [folder / part.key for part in _parts(folder)[:PARTS]]
    named = sorted({one["kwargs"]["column"] for one in SUITE["expectations"] if "column" in one["kwargs"]})

    def run() -> bool:
        frame: pd.DataFrame = frames.to_pandas(pl.read_parquet(files, columns=named))
        return all(one["success"] for one in Library(frame).run(SUITE["expectations"]))

    return run


WAYS = {
    "DuckDB by hand": by_hand,
    "Evergreen": partial(evergreen, new=False),
    "Evergreen, one new part of thirty": partial(evergreen, new=True),
    "stock GX on pandas": stock,
}


def _one(way: str, folder: Path) -> None:
    """In a process of its own: prints seconds and megabytes."""
    act = WAYS[way](folder)
    watcher = subprocess.Popen(
        [sys.executable, __file__, "--watch", str(os.getpid())], stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout
    watcher.stdout.readline()
    start = time.perf_counter()
    good = act()
    seconds = time.perf_counter() - start
    watcher.terminate()
    most = float(watcher.communicate()[0].splitlines()[-1])
    print(json.dumps({"seconds": seconds, "mb": most, "good": good}))


def _watch(pid: int) -> None:
    """The most memory that a process and its children came to hold (shared pages once), until it is told to stop."""
    process, me, most = psutil.Process(pid), os.getpid(), 0.0
    print("ready", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: (print(most, flush=True), os._exit(0)))
    while True:
        held = 0.0
        for one in [process, *process.children(recursive=True)]:
            try:
                held += one.memory_full_info().pss / 1e6 if one.pid != me else 0.0
            except psutil.Error:
                continue
        most = max(most, held)
        time.sleep(0.1)


def measure(millions: float, ways: list[str]) -> dict[str, dict[str, float]]:
    """Each way once on so many million rows."""
    with tempfile.TemporaryDirectory(prefix="evergreen-validate-") as made:
        subprocess.run([sys.executable, __file__, "--prepare", made, str(int(millions * 1e6))], check=True)
        found = {}
        for way in ways:
            told = subprocess.run(
                [sys.executable, __file__, "--one", way, made], check=True, stdout=subprocess.PIPE, text=True
            )
            found[way] = json.loads(told.stdout.splitlines()[-1])
            print(f"{millions:g} M  {way:<34} {found[way]['seconds']:6.2f} s {found[way]['mb']:7,.0f} MB", flush=True)
    return found


def table(found: dict[float, dict[str, dict[str, float]]]) -> str:
    """Markdown."""
    lines = [
        (f"{millions:g} M", way, f"{one['seconds']:.2f} s", f"{one['seconds'] / limit:.1f}", f"{one['mb']:,.0f} MB")
        for millions, ways in found.items()
        for limit in (ways["DuckDB by hand"]["seconds"],)
        for way, one in ways.items()
    ]
    return results.table(("rows", "way", "time", "times DuckDB", "peak memory"), lines)


def main() -> None:
    """Measure, print, and with --write put it into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 5, 10], help="millions of rows")
    parser.add_argument("--without", nargs="*", default=[], choices=list(WAYS), help="ways that are left out")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return _one(asked.one[0], Path(asked.one[1]))
    if asked.prepare:
        return prepare(Path(asked.prepare[0]), int(asked.prepare[1]))
    if asked.watch:
        return _watch(asked.watch)
    ways = [way for way in WAYS if way not in asked.without]
    found = {millions: measure(millions, ways) for millions in asked.rows}
    text = table(found)
    print(text)
    if asked.write:
        results.write("Validation of a window in parts", f"{results.measured()}\n\n{text}")
    return None


if __name__ == "__main__":
    main()
