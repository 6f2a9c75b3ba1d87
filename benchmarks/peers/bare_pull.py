"""The peers of benchmarks/pull.py: one SELECT into memory or files, without a platform around it. Prints JSON.

python bare_pull.py adbc|parts|copy|connectorx|pandas postgresql://user@127.0.0.1:5601/bench "SELECT …"
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path


def adbc(url: str, query: str) -> tuple[float, int]:
    """Arrow by ADBC, whole."""
    from adbc_driver_postgresql import dbapi

    began = time.perf_counter()
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        rows = cursor.fetch_arrow_table().num_rows
    return time.perf_counter() - began, rows


def parts(url: str, query: str) -> tuple[float, int]:
    """The same, written as a Parquet file a day, as one would by hand: no checks, no hash, no fsync."""
    import polars as pl
    from adbc_driver_postgresql import dbapi

    with tempfile.TemporaryDirectory(prefix="evergreen-bench-parts-") as folder:
        began = time.perf_counter()
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            frame = pl.DataFrame(pl.from_arrow(cursor.fetch_arrow_table()))
        by_day = frame.with_columns(day=pl.col("at").dt.date()).partition_by("day", as_dict=True, include_key=False)
        for (day,), rows in by_day.items():
            rows.write_parquet(f"{folder}/{day}.parquet")
        return time.perf_counter() - began, frame.height


def copy(url: str, query: str) -> tuple[float, int]:
    """COPY as CSV by psycopg2, into Polars."""
    import io

    import polars as pl
    import psycopg2

    began = time.perf_counter()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        written = io.BytesIO()
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", written)
        written.seek(0)
        rows = pl.read_csv(written, try_parse_dates=True).height
    return time.perf_counter() - began, rows


def connectorx(url: str, query: str) -> tuple[float, int]:
    """Arrow by connectorx, whole."""
    import connectorx as cx

    began = time.perf_counter()
    rows = cx.read_sql(url, query, return_type="arrow", protocol="binary").num_rows
    return time.perf_counter() - began, rows


def pandas(url: str, query: str) -> tuple[float, int]:
    """A pandas frame, as most scripts do it."""
    import pandas as pd
    import sqlalchemy as sa

    began = time.perf_counter()
    with sa.create_engine(url.replace("postgresql:", "postgresql+psycopg2:")).connect() as connection:
        rows = len(pd.read_sql(sa.text(query), connection))
    return time.perf_counter() - began, rows


def peak_mb() -> float:
    """The most that this program has held (10^6 bytes); getrusage would count what its parent held too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    way, *asked = sys.argv[1:]
    ways = {"adbc": adbc, "parts": parts, "copy": copy, "connectorx": connectorx, "pandas": pandas}
    seconds, rows = ways[way](*asked)
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mb": peak_mb()}))
