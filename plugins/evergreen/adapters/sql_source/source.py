"""A source behind SQLAlchemy: a table, a view or a query, in SQLite or Postgres.

Column types are the database's declared ones, never guessed from a chunk, so that a chunk of nulls does not
change a type. `event_time` is UTC: a timestamp (with or without zone) or date in Postgres, text in SQLite
(core.text_time). Both are asked about themselves through SQLAlchemy; their rows come as postgres_rows and sqlite_rows
read them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from evergreen.adapters.sql_source import postgres_rows, sqlite_rows
from evergreen.adapters.sql_source.postgres_rows import PostgresError
from evergreen.adapters.sql_source.sqlite_rows import NoTime, UnlikeItsType
from evergreen.core import spec
from evergreen.core.errors import SourceError, SourceUnavailable
from evergreen.core.text_time import ALLOWED, TextTime

TIME = pl.Datetime("us", "UTC")
_Kinds: TypeAlias = Mapping[str, Any]  # all columns, each with the id of its type in Postgres; None in SQLite
_TRANSIENT = ("locked", "busy", "unable to open", "disk i/o")  # SQLite's own words for 'try again'


class SqlSource:
    """Rows of `source.table` ('name' or 'schema.name') or `source.query`, read only, `chunk_rows` at a time."""

    def __init__(self, url: str, source: spec.Source, *, chunk_rows: int = 50_000) -> None:
        self._source, self._chunk_rows = source, chunk_rows
        what = f"table '{source.table}'" if source.table else "query"
        self._where = f"source '{source.connection}', {what}"
        self._url = self._known(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        arguments = {"timeout": 30} if self._sqlite else postgres_rows.connect_args(self._url)
        self._engine = sa.create_engine(self._url, poolclass=NullPool, connect_args=arguments)

    def watermark(self) -> datetime | None:
        """The newest event time, none for an empty source."""
        with self._connected() as connection:
            rows, _ = self._rows(connection, [])
            newest = connection.scalar(sa.select(sa.func.max(self._time(rows))))
            if newest is None:
                return None
            return self._text_form(connection, rows).parse(newest) if self._sqlite else _utc(newest)

    def columns(self) -> frozenset[str]:
        """The names of all columns that it has."""
        with self._connected() as connection:
            return frozenset(self._found(connection))

    def count(self, after: datetime | None, until: datetime) -> int:
        """How many rows have `after < event_time <= until` (no lower bound for none)."""
        with self._connected() as connection:
            rows, kinds = self._rows(connection, [])
            _, upper = self._bounds(connection, rows, kinds)
            column = self._time(rows)
            statement = sa.select(sa.func.count()).select_from(rows).where(column <= upper(until))
            if after is not None:
                statement = statement.where(column > upper(after))
            return int(connection.scalar(statement) or 0)

    def estimate(self, start: datetime, end: datetime) -> int:
        """About how many rows have `start <= event_time <= end`: Postgres is asked what it expects."""
        with self._connected() as connection:
            rows, kinds = self._rows(connection, [])
            clock = self._time(rows)
            lower, upper = self._bounds(connection, rows, kinds)
            inside = sa.select(clock).where(clock >= lower(start), clock <= upper(end))
            if self._sqlite:
                return int(connection.scalar(sa.select(sa.func.count()).select_from(inside.subquery())) or 0)
            text = inside.compile(connection.engine, compile_kwargs={"literal_binds": True})
            (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}").scalar_one()
            return int(plan["Plan"]["Plan Rows"])

    def types(self, columns: Sequence[str], start: datetime, end: datetime) -> dict[str, pl.DataType]:
        """The types of these columns in rows with `start <= event_time <= end`, as read gives them."""
        with self._connected() as connection:
            types = self._types(connection, *self._window(connection, columns, start, end))
        return {name: TIME if name == self._source.event_time else types[name] for name in columns}

    def read(
        self,
        columns: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        types: Mapping[str, pl.DataType] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Rows with `start <= event_time <= end`, in order of event time, in bounded chunks.

        `types` are those of a longer stretch (see types), of which this one is a part.
        """
        with self._connected() as connection:
            window, kinds = self._window(connection, columns, start, end)
            if self._sqlite:
                known = types if types and self._source.event_time in types else self._types(connection, window, kinds)
                inside = pl.col(self._source.event_time).is_between(start, end)
                for rows in self._sqlite_rows(connection, window, known):
                    yield rows.filter(inside).select(columns)
                return
        yield from self._postgres_rows(window, kinds, columns)

    def _window(
        self, connection: sa.Connection, columns: Sequence[str], start: datetime, end: datetime
    ) -> tuple[sa.Select[Any], _Kinds]:
        names = list(dict.fromkeys([*columns, self._source.event_time]))
        rows, kinds = self._rows(connection, names)
        lower, upper = self._bounds(connection, rows, kinds)
        clock = self._time(rows)
        inside = (clock >= lower(start), clock <= upper(end))
        return sa.select(*(rows.c[name] for name in names)).where(*inside).order_by(clock), kinds

    # ------------------------------------------------------------ connecting

    def _known(self, url: str) -> sa.URL:
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise self._refused("a URL that cannot be read", "postgresql://… or sqlite:///…", "Correct it.") from None
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg2")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise self._refused(f"database '{parsed.drivername}'", "postgresql, sqlite", "Correct the URL.")
        return parsed

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        """A connection whose errors are ours."""
        path = self._url.database
        if self._sqlite and path not in (None, "", ":memory:") and not Path(str(path)).is_file():
            raise self._unavailable("no such file")  # SQLite would make an empty one
        try:
            connection = self._engine.connect()
        except sa.exc.DBAPIError as error:
            raise self._unavailable(_first_line(error)) from error
        with connection:
            try:
                if self._sqlite:
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                yield connection
            except sa.exc.DBAPIError as error:
                raise self._translated(error) from error

    def _translated(self, error: sa.exc.DBAPIError) -> SourceError:
        line = _first_line(error)
        passing = any(word in line.lower() for word in _TRANSIENT) if self._sqlite else True
        if isinstance(error, sa.exc.OperationalError) and passing:
            return self._unavailable(line)
        return self._wrong_answer(line)

    def _wrong_answer(self, line: str) -> SourceError:
        return self._refused(
            f"an answer that is an error: {line}", "a SELECT that runs", "Correct 'source' in model.yaml."
        )

    def _unavailable(self, found: str) -> SourceUnavailable:
        shown = self._url.set(query={}).render_as_string(hide_password=True)
        return SourceUnavailable(
            self._where,
            found=f"no answer from {shown} ({found})",
            allowed="a database that answers",
            do=f"Start it, or correct the connection '{self._source.connection}'; then start the run again.",
        )

    def _refused(self, found: str, allowed: str, do: str, column: str = "") -> SourceError:
        where = f"{self._where}, column '{column}'" if column else self._where
        return SourceError(where, found=found, allowed=allowed, do=do)

    # ------------------------------------------------------------ what there is

    def _rows(self, connection: sa.Connection, columns: Sequence[str]) -> tuple[sa.FromClause, _Kinds]:
        """The table or query, its columns known by name. Raises SourceError for one that it does not have."""
        found = self._found(connection)
        for name in dict.fromkeys([*columns, self._source.event_time, self._source.key]):
            if name not in found:
                raise self._refused(
                    "no such column" + _did_you_mean(name, found),
                    ", ".join(found),
                    "Correct the name in model.yaml, or bring the column back in the source.",
                    column=name,
                )
        return self._from(list(found)), found

    def _found(self, connection: sa.Connection) -> _Kinds:
        """All columns. Raises SourceError where there is no such table."""
        everything = sa.select(sa.literal_column("*")).select_from(self._from([])).limit(0)
        try:
            result = connection.execute(everything)
        except sa.exc.DBAPIError:
            if self._source.table:
                connection.rollback()  # Postgres answers nothing more in a transaction that failed
                self._check_table(connection, self._source.table)
            raise
        assert result.cursor is not None
        return {name: kind for name, kind, *_ in result.cursor.description}

    def _from(self, columns: Sequence[str]) -> sa.FromClause:
        parts: list[Any] = [sa.column(name) for name in columns]
        if self._source.table:
            schema, _, name = self._source.table.rpartition(".")
            return sa.table(name, *parts, schema=schema or None)
        query = str(self._source.query).rstrip("; \n").replace(":", "\\:")  # else ':x' is a parameter
        return sa.text(f"{query}\n").columns(*parts).subquery("source_rows")

    def _check_table(self, connection: sa.Connection, table: str) -> None:
        schema, _, name = table.rpartition(".")
        inspector = sa.inspect(connection)
        if not inspector.has_table(name, schema=schema or None):
            found = inspector.get_table_names(schema or None) + inspector.get_view_names(schema or None)
            raise self._refused(
                "no such table" + _did_you_mean(name, found),
                ", ".join(sorted(found)[:20]) or "none: the database has no tables",
                "Correct source.table in model.yaml, or create the table.",
            )

    def _time(self, rows: sa.FromClause) -> sa.ColumnElement[Any]:
        return rows.c[self._source.event_time]

    def _bounds(self, connection: sa.Connection, rows: sa.FromClause, kinds: _Kinds) -> tuple[Any, Any]:
        """How a time is written at the lower and the upper end of a comparison with event_time."""
        if self._sqlite:
            form = self._text_form(connection, rows)
            return form.lower, form.upper
        kind = kinds[self._source.event_time]
        if kind not in (1082, 1114, 1184):
            found = "values that are no times"
            raise self._refused(found, "timestamp, timestamptz or date", "Cast it in a query.", self._source.event_time)
        naive = kind != 1184  # compared as it is stored, so that an index on it is used
        return (lambda t: _stored(t, naive),) * 2

    def _text_form(self, connection: sa.Connection, rows: sa.FromClause) -> TextTime:
        """From the lowest and the highest text, where most other forms would end up; the rest is seen in read."""
        column = self._time(rows)
        ends = [sa.select(end(column)).scalar_subquery() for end in (sa.func.min, sa.func.max)]
        samples = [value for value in connection.execute(sa.select(*ends)).one() if value is not None]
        try:
            return TextTime.of(samples or ["2000-01-01 00:00:00"])
        except ValueError as error:
            raise self._no_time(str(error)) from None

    def _no_time(self, found: str) -> SourceError:
        return self._refused(found, ALLOWED, "Correct these rows, or bring them to one form.", self._source.event_time)

    def _types(self, connection: sa.Connection, window: sa.Select[Any], kinds: _Kinds) -> dict[str, pl.DataType]:
        if self._sqlite:
            return sqlite_rows.types_of(connection, self._source.table, window)
        return {name: postgres_rows.type_of(kind) for name, kind in kinds.items()}

    # ------------------------------------------------------------ rows to frames

    def _sqlite_rows(
        self, connection: sa.Connection, window: sa.Select[Any], types: Mapping[str, pl.DataType]
    ) -> Iterator[pl.DataFrame]:
        try:
            yield from sqlite_rows.stream(connection, window, types, self._source.event_time, self._chunk_rows)
        except NoTime as error:
            raise self._no_time(str(error)) from None
        except UnlikeItsType as error:
            raise self._refused(
                error.found,
                f"{error.kind} in every row, as the column's type says",
                "Correct these rows, or the column's type.",
                column=error.column,
            ) from None

    def _postgres_rows(self, window: sa.Select[Any], kinds: _Kinds, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        clock = self._source.event_time
        types = {name: TIME if name == clock else postgres_rows.type_of(kinds[name]) for name in columns}
        asked = [column for column in window.selected_columns if column.key in types]
        wanted = window.with_only_columns(*(postgres_rows.as_read(column, kinds[column.key]) for column in asked))
        try:
            for rows in postgres_rows.stream(self._url, wanted, types):
                yield from rows.iter_slices(self._chunk_rows)
        except PostgresError as error:
            raise (self._unavailable(error.line) if error.passing else self._wrong_answer(error.line)) from error


def _utc(value: date | datetime) -> datetime:
    """An aware time from what Postgres gives: naive is UTC, a date its midnight."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _stored(moment: datetime, naive: bool) -> sa.BindParameter[datetime]:
    value = moment.astimezone(UTC)
    return sa.literal(value.replace(tzinfo=None) if naive else value, sa.DateTime(timezone=not naive))


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    by_case = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.7)
    return f" (did you mean '{by_case[near[0]]}'?)" if near else ""


def _first_line(error: sa.exc.DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or ["no message"])[0][:200]
