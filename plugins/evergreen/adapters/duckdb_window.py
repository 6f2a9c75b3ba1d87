"""Sets and repetitions in a window of any size, by DuckDB: what does not fit its memory goes to a temporary folder.

The parts are streamed to it as Arrow, a part in memory at a time, so the store may be anywhere. Names of columns are
quoted; S608 does not see that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from evergreen.core.ports import PartRows

_POSITION = "row position in the window"


class DuckdbWindow:
    """Facts of a window, with `memory_mb` of memory for DuckDB."""

    def __init__(self, memory_mb: int = 256) -> None:
        self._memory_mb = memory_mb

    def distinct(self, parts: Sequence[PartRows], column: str, limit: int) -> pl.Series | None:
        """The column's distinct values, ordered; none if they are more than `limit`."""
        one = _quoted(column)
        sql = f"SELECT DISTINCT {one} FROM rows WHERE {one} IS NOT NULL LIMIT {limit + 1}"  # noqa: S608
        values = self._column(parts, column, sql)
        return None if len(values) > limit else values

    def count_distinct(self, parts: Sequence[PartRows], column: str) -> int:
        """How many they are."""
        with self._database(parts, [column]) as database:
            sql = f"SELECT count(*) FROM (SELECT DISTINCT {_quoted(column)} v FROM rows) WHERE v IS NOT NULL"  # noqa: S608
            ((found,),) = database.execute(sql).fetchall()
        return int(found)

    def modes(self, parts: Sequence[PartRows], column: str) -> pl.Series:
        """The most frequent values, ordered."""
        one = _quoted(column)
        counts = f"SELECT {one}, count(*) AS many FROM rows WHERE {one} IS NOT NULL GROUP BY {one}"  # noqa: S608
        most = f"SELECT {one} FROM counts WHERE many = (SELECT max(many) FROM counts)"  # noqa: S608
        sql = f"WITH counts AS MATERIALIZED ({counts}) {most}"
        return self._column(parts, column, sql)

    def repeated(self, parts: Sequence[PartRows], columns: Sequence[str], ignore_row_if: str) -> Sequence[int]:
        """Positions of the rows whose values of these columns are those of another row, ascending."""
        names = [_quoted(one) for one in columns]
        listed = ", ".join(names)
        how = {"all_values_are_missing": " OR ", "any_value_is_missing": " AND "}.get(ignore_row_if)
        looked_at = f"WHERE {how.join(f'{one} IS NOT NULL' for one in names)}" if how else ""
        with self._database(parts, columns) as database:
            likes = f"SELECT {listed} FROM rows {looked_at} GROUP BY {listed} HAVING count(*) > 1"  # noqa: S608
            database.execute(f"CREATE TEMP TABLE likes AS {likes}")
            if not database.execute("SELECT 1 FROM likes LIMIT 1").fetchall():
                return []
            _show(database, parts, columns)  # a stream is read once
            same = " AND ".join(f"rows.{one} IS NOT DISTINCT FROM likes.{one}" for one in names)
            found = database.sql(f'SELECT rows."{_POSITION}" FROM rows JOIN likes ON {same} ORDER BY 1')  # noqa: S608
            rows: Sequence[int] = found.to_arrow_table().column(0).to_numpy()
        return rows

    def _column(self, parts: Sequence[PartRows], column: str, sql: str) -> pl.Series:
        with self._database(parts, [column]) as database:
            found = pl.from_arrow(database.sql(sql).to_arrow_table())
        assert isinstance(found, pl.DataFrame)
        return found.to_series().sort()

    @contextmanager
    def _database(self, parts: Sequence[PartRows], columns: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
        with tempfile.TemporaryDirectory(prefix="evergreen-window-") as folder:
            settings = {"memory_limit": f"{self._memory_mb}MB", "temp_directory": folder, "threads": 2}
            database = duckdb.connect(config={**settings, "preserve_insertion_order": False})
            try:
                _show(database, parts, columns)
                yield database
            finally:
                database.close()


def _show(database: duckdb.DuckDBPyConnection, parts: Sequence[PartRows], columns: Sequence[str]) -> None:
    """Let the columns be the table 'rows', which can be read once."""
    first = _arrow(parts[0], columns, 0)

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for at, part in enumerate(parts):
            table = first if at == 0 else _arrow(part, columns, start)
            yield from table.cast(first.schema).to_batches()
            start += part.height

    database.register("rows", pa.RecordBatchReader.from_batches(first.schema, batches()))


def _arrow(part: PartRows, columns: Sequence[str], start: int) -> pa.Table:
    frame = part.skim(columns)
    positions = pl.int_range(start, start + frame.height, eager=True).alias(_POSITION)
    shown = pl.DataFrame([*(_form(frame[one]) for one in columns), positions])
    return shown.to_arrow(compat_level=pl.CompatLevel.oldest())


def _form(column: pl.Series) -> pl.Series:
    """Missing values as nulls, times as UTC without a zone, as the library has them on pandas."""
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if isinstance(column.dtype, pl.Decimal):
        return column.cast(pl.Float64)
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return column.fill_nan(None) if column.dtype.is_float() else column


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
