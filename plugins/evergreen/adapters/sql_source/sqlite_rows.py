"""Rows of SQLite as frames: it stores what it is given, whatever type a column declares.

For a query, and for a column without a type, it declares none: there one look at all of the window's rows decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from evergreen.core.text_time import TextTime

_STORED_AS = {"integer": pl.Int64(), "real": pl.Float64(), "text": pl.String(), "null": pl.Float64()}


class NoTime(Exception):
    """Raised for an event time that is none, or in another form than those before it; says what was found."""


class UnlikeItsType(Exception):
    """Raised for a value that is not of its column's type."""

    def __init__(self, column: str, kind: pl.DataType, value: Any) -> None:
        super().__init__(column, kind, value)
        self.column, self.kind = column, kind
        self.found = f"{value!r:.60} ({type(value).__name__})"


def types_of(connection: sa.Connection, table: str | None, window: sa.Select[Any]) -> dict[str, pl.DataType]:
    """The type of each column that the window selects: what `table` declares, else what its rows hold."""
    declared = _declared_by(connection, table) if table else {}
    names = [column.name for column in window.selected_columns]
    looked = _looked_at(connection, window, [name for name in names if declared.get(name) is None])
    return {name: declared.get(name) or looked[name] for name in names}


def stream(
    connection: sa.Connection, window: sa.Select[Any], types: Mapping[str, pl.DataType], event_time: str, rows: int
) -> Iterator[pl.DataFrame]:
    """So many rows of the window at a time, event times as UTC. Raises NoTime and UnlikeItsType."""
    streamed = connection.execution_options(stream_results=True, yield_per=rows)
    for block in streamed.execute(window).partitions():
        columns = zip(types.items(), zip(*block, strict=True), strict=True)
        yield pl.DataFrame(
            [
                _times(name, values) if name == event_time else _series(name, kind, values)
                for (name, kind), values in columns
            ]
        )


def _declared_by(connection: sa.Connection, table: str) -> dict[str, pl.DataType | None]:
    schema, _, name = table.rpartition(".")
    reflected = sa.inspect(connection).get_columns(name, schema=schema or None)
    return {column["name"]: _declared(column["type"]) for column in reflected}


def _declared(kind: sa.types.TypeEngine[Any]) -> pl.DataType | None:
    """A column's type, none where it declares none. Its dates and times are text."""
    if isinstance(kind, sa.Boolean):
        return pl.Boolean()
    if isinstance(kind, sa.Integer):
        return pl.Int64()
    if isinstance(kind, sa.Numeric | sa.Float):
        return pl.Float64()
    return None if isinstance(kind, sa.types.NullType) else pl.String()


def _looked_at(connection: sa.Connection, window: sa.Select[Any], names: Sequence[str]) -> dict[str, pl.DataType]:
    """The widest storage class of each column: text, real, integer, as their names happen to sort."""
    if not names:
        return {}
    rows = window.order_by(None).subquery()
    widest = [sa.func.max(sa.func.typeof(rows.c[name])).filter(rows.c[name].is_not(None)) for name in names]
    found = connection.execute(sa.select(*widest)).one()
    return {name: _STORED_AS.get(kind or "null", pl.String()) for name, kind in zip(names, found, strict=True)}


def _series(name: str, kind: pl.DataType, values: Sequence[Any]) -> pl.Series:
    if kind == pl.Boolean():
        values = [bool(value) if value in (0, 1) else value for value in values]
    try:
        return pl.Series(name, values, dtype=kind, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        raise UnlikeItsType(name, kind, next((one for one in values if not _fits(kind, one)), values[0])) from None


def _fits(kind: pl.DataType, value: Any) -> bool:
    try:
        pl.Series([value], dtype=kind, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        return False
    return True


def _times(name: str, values: Sequence[Any]) -> pl.Series:
    try:
        form = TextTime.of([values[0]])
        text = pl.Series(name, values, dtype=pl.String, strict=True)
        if not (fits := text.str.contains(form.pattern)).all():
            raise NoTime(f"{values[0]!r} and {text.filter(~fits)[0]!r}")
        pattern = f"%Y-%m-%d{form.separator}%H:%M:%S%.f"
        parsed = text.str.strip_suffix(form.suffix).str.to_datetime(pattern, time_unit="us", strict=True)
    except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise NoTime(str(error)[:80]) from None
    return parsed.dt.replace_time_zone("UTC")
