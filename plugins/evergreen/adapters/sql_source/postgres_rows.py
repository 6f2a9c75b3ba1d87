"""Rows of Postgres as Arrow, by ADBC: COPY in binary form, five times as fast as rows through Python.

What the driver would give in another form than ours is cast in the SELECT: numeric to float8, what is no number, time
or text to text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import polars as pl
import sqlalchemy as sa
from adbc_driver_manager import AdbcStatusCode
from adbc_driver_manager._reader import AdbcRecordBatchReader
from adbc_driver_postgresql import StatementOptions, dbapi
from sqlalchemy.dialects import postgresql

TIME = pl.Datetime("us", "UTC")
# Types by their fixed object id. As they are: truth values, whole numbers, floats, dates, times, texts.
_TEXTS = {25: pl.String(), 1042: pl.String(), 1043: pl.String()}
_AS_THEY_ARE: dict[int, pl.DataType] = {
    16: pl.Boolean(), 20: pl.Int64(), 21: pl.Int64(), 23: pl.Int64(), 700: pl.Float64(), 701: pl.Float64(),
    1082: pl.Date(), 1114: TIME, 1184: TIME, **_TEXTS,
}  # fmt: skip
_CAST: dict[int, tuple[pl.DataType, sa.types.TypeEngine[float] | sa.types.TypeEngine[int]]] = {
    26: (pl.Int64(), sa.BigInteger()),
    1700: (pl.Float64(), sa.Double()),
}
_TYPES = {"adbc.postgresql.type_resolver_mode": "builtin"}  # else each connection reads the catalog first: 25 ms
_BATCH_BYTES = 4_000_000  # of Arrow in one batch
_PASSING = ("08", "40", "53", "54", "55", "57", "58")  # classes of SQLSTATE that psycopg2 calls operational
_DIALECT = postgresql.dialect(paramstyle="named")  # of the others, '%' would be doubled


class PostgresError(Exception):
    """Raised for what the driver raises. `passing`: the database did not answer, or may answer later."""

    def __init__(self, line: str, *, passing: bool) -> None:
        super().__init__(line)
        self.line, self.passing = line, passing


def type_of(type_id: int) -> pl.DataType:
    """The type in which a column is read."""
    return _CAST[type_id][0] if type_id in _CAST else _AS_THEY_ARE.get(type_id, pl.String())


def as_read(column: sa.ColumnElement[object], type_id: int) -> sa.ColumnElement[object]:
    """A column under its own name, cast where the driver would give it in another form."""
    if type_id in _AS_THEY_ARE:
        return column
    kind = _CAST[type_id][1] if type_id in _CAST else sa.Text()
    return sa.cast(column, kind).label(column.key)


def connect_args(url: sa.URL) -> dict[str, Any]:
    """What libpq is told besides the URL, or in its place: read-only, in UTC; options of its own stay."""
    ours = "-c timezone=UTC -c default_transaction_read_only=on"
    return {"connect_timeout": 10, "options": " ".join([*url.normalized_query.get("options", ()), ours])}


def stream(url: sa.URL, select: sa.Select[Any], types: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """The rows of a SELECT, batch by batch, in these types. Raises PostgresError."""
    text = str(select.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
    with (
        _translated(),
        closing(dbapi.connect(_libpq(url), db_kwargs=_TYPES)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(_BATCH_BYTES)})
        cursor.execute(text)
        with closing(_batches(cursor)) as batches:
            for batch in batches:
                yield _frame(pl.DataFrame(pl.from_arrow(batch)), types)


def _batches(cursor: dbapi.Cursor) -> AdbcRecordBatchReader:
    """Whose errors are the driver's: those of cursor.fetch_record_batch are Arrow's, and do not tell the SQLSTATE."""
    handle = cursor.fetch_arrow()  # to be there until it is taken over
    return AdbcRecordBatchReader._import_from_c(handle.address)


def _frame(rows: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame([_in_type(rows[name], kind) for name, kind in types.items()])


def _in_type(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """A time without a zone is UTC; a date where a time is wanted is its midnight."""
    if kind == TIME and column.dtype != TIME:
        return column.cast(pl.Datetime("us")).cast(TIME)
    return column if column.dtype == kind else column.cast(kind)


def _libpq(url: sa.URL) -> str:
    ours = {name: str(value) for name, value in connect_args(url).items()}
    whole = url.set(drivername="postgresql").update_query_dict(ours)
    return whole.render_as_string(hide_password=False).replace("+", "%20")  # libpq takes '+' for itself


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except dbapi.Error as error:
        passing = error.sqlstate[:2] in _PASSING if error.sqlstate else error.status_code == AdbcStatusCode.IO
        raise PostgresError(_first_line(error), passing=passing) from error


def _first_line(error: dbapi.Error) -> str:
    """The server's or libpq's own words."""
    said = re.split(r"\b(?:ERROR|FATAL|PANIC):", str(error), maxsplit=1)[-1]
    return (said.strip().splitlines() or ["no message"])[0].strip()[:200]
