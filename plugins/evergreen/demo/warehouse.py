"""The demo's warehouse: a table of flights in SQLite or Postgres that fills batch by batch, as if time passed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evergreen.demo.flights import COLUMNS, flights

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Engine, Table

TEXT = {"flight_id", "carrier", "origin", "dest"}
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
    """The table `flights` behind a SQLAlchemy URL. `time_hour` is text in SQLite, which has no type for it."""

    def __init__(self, url: str) -> None:
        from sqlalchemy import create_engine

        lite = url.startswith("sqlite")
        self._engine: Engine = create_engine(url, connect_args={"timeout": 30} if lite else {})
        self._dialect = self._engine.dialect.name
        self._table = _table()

    def load(self, batch: pl.DataFrame) -> int:
        """Write a batch in one transaction; rows with a known flight_id are replaced. Returns its rows."""
        import polars as pl

        if self._dialect == "sqlite":
            batch = batch.with_columns(pl.col("time_hour").dt.strftime("%Y-%m-%d %H:%M:%S"))
        rows = batch.select(COLUMNS).to_dicts()
        self._create()
        with self._engine.begin() as connection:
            connection.execute(self._replace(), rows)
        return len(rows)

    def newest(self) -> datetime | None:
        """The newest scheduled hour in the table."""
        from sqlalchemy import func, select

        self._create()
        with self._engine.connect() as connection:
            found = connection.scalar(select(func.max(self._table.c.time_hour)))
        return datetime.fromisoformat(found).replace(tzinfo=UTC) if isinstance(found, str) else found

    def _create(self) -> None:
        with self._engine.begin() as connection:
            if self._dialect == "sqlite":
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            self._table.metadata.create_all(connection)

    def _replace(self) -> Any:
        from sqlalchemy.dialects import postgresql, sqlite

        insert = (sqlite if self._dialect == "sqlite" else postgresql).insert(self._table)
        new = {name: insert.excluded[name] for name in COLUMNS if name != "flight_id"}
        return insert.on_conflict_do_update(index_elements=["flight_id"], set_=new)


def _table() -> Table:
    from sqlalchemy import Column, DateTime, Double, Integer, MetaData, Table, Text

    kinds: dict[str, Any] = {name: Text if name in TEXT else Double if name in REAL else Integer for name in COLUMNS}
    kinds["time_hour"] = Text().with_variant(DateTime(timezone=True), "postgresql")
    keys = {"flight_id": {"primary_key": True}, "time_hour": {"index": True}}
    columns = [Column(name, kind, **keys.get(name, {})) for name, kind in kinds.items()]
    return Table("flights", MetaData(), *columns, sqlite_with_rowid=False)
