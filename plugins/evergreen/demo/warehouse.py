"""The demo's warehouse: a SQLite table of flights that fills batch by batch, as if time passed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen.demo.flights import COLUMNS, flights

if TYPE_CHECKING:
    import polars as pl

TEXT = {"flight_id", "time_hour", "carrier", "origin", "dest"}
REAL = {"temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"}
BAD_SHARE = 0.05
BAD_HOUR = 99  # what a broken export might write


def months(first: int, last: int) -> pl.DataFrame:
    """The flights of these months of 2013 (by UTC time), both included."""
    import polars as pl

    month = pl.col("time_hour").dt.month()
    return flights().filter(month.is_between(first, last) & (pl.col("time_hour").dt.year() == 2013))


def corrupted(batch: pl.DataFrame) -> pl.DataFrame:
    """The same batch with an impossible hour in every twentieth row."""
    import polars as pl

    every = round(1 / BAD_SHARE)
    bad = pl.int_range(pl.len()) % every == 0
    return batch.with_columns(pl.when(bad).then(BAD_HOUR).otherwise("hour").alias("hour"))


class Warehouse:
    """The table `flights`, in a SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, batch: pl.DataFrame) -> int:
        """Write a batch in one transaction; rows with a known flight_id are replaced. Returns its rows."""
        import polars as pl

        rows = batch.with_columns(pl.col("time_hour").dt.strftime("%Y-%m-%d %H:%M:%S")).select(COLUMNS).rows()
        marks = ", ".join("?" * len(COLUMNS))
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            self._create(connection)
            connection.executemany(f"INSERT OR REPLACE INTO flights VALUES ({marks})", rows)  # noqa: S608
        return len(rows)

    def newest(self) -> datetime | None:
        """The newest scheduled hour in the table."""
        with closing(sqlite3.connect(self.path)) as connection:
            self._create(connection)
            (text,) = connection.execute("SELECT max(time_hour) FROM flights").fetchone()
        return datetime.fromisoformat(f"{text}+00:00") if text else None

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        kinds = {c: "TEXT" if c in TEXT else "REAL" if c in REAL else "INTEGER" for c in COLUMNS}
        columns = ", ".join(f"{c} {k}{' PRIMARY KEY' if c == 'flight_id' else ''}" for c, k in kinds.items())
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE IF NOT EXISTS flights ({columns}) WITHOUT ROWID")
        connection.execute("CREATE INDEX IF NOT EXISTS flights_time ON flights (time_hour)")
