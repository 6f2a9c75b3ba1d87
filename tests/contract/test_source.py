"""What every source does. Set EVERGREEN_TEST_POSTGRES to a database's URL to hold Postgres to it too."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from evergreen.adapters.files_source import FilesSource
from evergreen.adapters.sql_source import SqlSource
from evergreen.core import ports, spec
from evergreen.core.errors import SourceError, SourceUnavailable
from evergreen.fakes.source import FakeSource

POSTGRES = os.environ.get("EVERGREEN_TEST_POSTGRES")
NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)
COLUMNS = ["id", "at", "carrier", "Distance", "gusts", "late"]
ROWS = pl.DataFrame(
    {
        "id": [f"f{n}" for n in range(10)],
        "at": [NOON + timedelta(hours=n) for n in range(10)],
        "carrier": [None, None, None, "AA", "UA", "AA", "UA", "AA", "UA", "AA"],
        "Distance": [100, None, 102, 103, 104, 105, 106, 107, 108, 109],
        "gusts": [None] * 6 + [1.5, 2.0, 3.0, 4.0],
        "late": [True, False, None, True, False, True, False, True, False, True],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC"), "gusts": pl.Float64},
)
TABLE = 'CREATE TABLE flights (id TEXT, at {time}, carrier TEXT, "Distance" INTEGER, gusts FLOAT, late BOOLEAN)'
QUERY = "SELECT *, ':x' AS colon, '100%' AS percent FROM flights -- all"
Make = Callable[..., ports.Source]


def a_source(**more: str) -> spec.Source:
    what = {} if "query" in more else {"table": "flights"}
    return spec.Source(**({"connection": "warehouse", "event_time": "at", "key": "id"} | what | more))


def fill_sqlite(path: Path, rows: pl.DataFrame, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE IF EXISTS flights")
        db.execute(TABLE.format(time="TIMESTAMP"))
        texts = rows.with_columns(pl.col("at").dt.strftime(form))
        db.executemany("INSERT INTO flights VALUES (?, ?, ?, ?, ?, ?)", texts.rows())
    db.close()
    return f"sqlite:///{path}"


def fill_postgres(url: str, rows: pl.DataFrame, kind: str) -> str:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.exec_driver_sql("SET timezone = 'UTC'")
        db.exec_driver_sql("DROP TABLE IF EXISTS flights")
        db.exec_driver_sql(TABLE.format(time=kind))
        if rows.height:
            db.exec_driver_sql("INSERT INTO flights VALUES (%s, %s, %s, %s, %s, %s)", rows.rows())
    engine.dispose()
    return url


def write_files(folder: str, rows: pl.DataFrame, ending: str) -> str:
    """Rows by turns in two files, and a third one later than both where there are enough; the pattern of them all."""
    storage, path = fsspec.url_to_fs(folder)
    storage.makedirs(path, exist_ok=True)
    early = rows.filter(pl.col("at") < NOON + timedelta(hours=7))
    parts = [early[::2], early[1::2], rows.filter(pl.col("at") >= NOON + timedelta(hours=7))]
    for name, part in zip("bac", parts, strict=True):
        with storage.open(f"{path}/{name}.{ending}", "wb") as file:
            if ending == "parquet":
                pq.write_table(part.to_arrow(), file, row_group_size=2)
            else:
                file.write(part.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.fZ").encode())
    return f"{folder}/*.{ending}"


def files_source(files: str, **more: str) -> FilesSource:
    return FilesSource(spec.Source(**{"files": files, "event_time": "at", "key": "id"} | more), Path("/"), chunk_rows=3)


KINDS = ["sqlite table", "sqlite query", "fake", "parquet files", "csv files", "memory:// files"]
if POSTGRES:
    KINDS += ["postgres timestamp", "postgres timestamptz", "postgres query"]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def _make(rows: pl.DataFrame = ROWS, **more: str) -> ports.Source:
        declared = a_source(**({"query": QUERY} if "query" in request.param else {}) | more)
        if request.param == "fake":
            return FakeSource(rows, declared, chunk_rows=3)
        if request.param.endswith("files"):
            ending = "csv" if "csv" in request.param else "parquet"
            folder = f"memory://{tmp_path}" if "memory" in request.param else str(tmp_path)
            return files_source(write_files(folder, rows, ending), **more)
        if request.param.startswith("sqlite"):
            return SqlSource(fill_sqlite(tmp_path / "w.db", rows), declared, chunk_rows=3)
        kind = "timestamptz" if "tz" in request.param else "timestamp"
        return SqlSource(fill_postgres(POSTGRES or "", rows, kind), declared, chunk_rows=3)

    return _make


def read(source: ports.Source, start: datetime, end: datetime, columns: list[str] = COLUMNS) -> list[pl.DataFrame]:
    return list(source.read(columns, start, end))


def test_reads_the_window_ends_included_in_chunks_of_one_type(make: Make, request: pytest.FixtureRequest) -> None:
    chunks = read(make(ROWS.reverse()), NOON + timedelta(hours=1), NOON + timedelta(hours=8))
    assert len(chunks) > 1
    assert len({str(chunk.schema) for chunk in chunks}) == 1
    wanted = ROWS.slice(1, 8)
    if "sqlite query" in request.node.name:  # declares no truth values
        wanted = wanted.with_columns(pl.col("late").cast(pl.Int64))
    assert pl.concat(chunks).equals(wanted)
    assert chunks[0].schema["at"] == pl.Datetime("us", "UTC")


def test_only_the_columns_asked_for_in_their_order(make: Make) -> None:
    (first, *_) = read(make(), NOON, NOON, ["Distance", "carrier"])
    assert first.rows() == [(100, None)]
    assert first.columns == ["Distance", "carrier"]


def test_watermark_and_count(make: Make) -> None:
    source = make()
    assert source.watermark() == NOON + timedelta(hours=9)
    assert source.count(None, NOON + timedelta(hours=2)) == 3
    assert source.count(NOON, NOON + timedelta(hours=2)) == 2
    assert source.count(NOON + timedelta(hours=9), NOON + timedelta(hours=99)) == 0


def test_types_are_those_that_read_gives(make: Make) -> None:
    source = make()
    types = source.types(COLUMNS, NOON, NOON + timedelta(hours=9))
    assert list(types) == COLUMNS
    assert dict(types) == dict(read(source, NOON, NOON + timedelta(hours=9))[0].schema)


def test_of_a_part_the_types_of_the_whole_are_kept(make: Make) -> None:
    """The first three rows alone have no carrier and no gusts."""
    source = make()
    types = source.types(COLUMNS, NOON, NOON + timedelta(hours=9))
    (first, *_) = source.read(COLUMNS, NOON, NOON + timedelta(hours=2), types=types)
    assert dict(first.schema) == dict(types)


def test_an_estimate_is_no_count(make: Make, request: pytest.FixtureRequest) -> None:
    about = make().estimate(NOON, NOON + timedelta(hours=2))
    if "postgres" in request.node.name:  # guesses, of a table that it has never looked at
        assert about > 0
    else:
        assert 3 <= about <= 7


def test_reading_may_end_early(make: Make) -> None:
    chunks = make().read(COLUMNS, NOON, NOON + timedelta(hours=9))
    assert next(iter(chunks)).height
    chunks.close()  # type: ignore[attr-defined]


def test_all_columns_by_name_whatever_the_rows(make: Make, request: pytest.FixtureRequest) -> None:
    more = {"colon", "percent"} if "query" in request.node.name else set()
    assert make().columns() == frozenset(COLUMNS) | more
    assert make(ROWS.clear()).columns() == frozenset(COLUMNS) | more


def test_an_empty_source(make: Make) -> None:
    source = make(ROWS.clear())
    assert source.watermark() is None
    assert source.count(None, NOON) == 0
    assert sum(chunk.height for chunk in read(source, NOON, NOON)) == 0


def test_a_missing_column_is_named_with_those_that_there_are(make: Make) -> None:
    with pytest.raises(SourceError, match=r"column 'distance'.*allowed: id, at, carrier, Distance"):
        read(make(), NOON, NOON, ["distance"])
    with pytest.raises(SourceError, match="column 'att'"):
        make(event_time="att").watermark()


# ---------------------------------------------------------------- SQL only


def sqlite(tmp_path: Path, rows: pl.DataFrame = ROWS, form: str = "%Y-%m-%d %H:%M:%S", **more: str) -> SqlSource:
    return SqlSource(fill_sqlite(tmp_path / "w.db", rows, form), a_source(**more), chunk_rows=4)


@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.000000", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%3f+00:00"]
)
def test_text_times_of_other_forms(tmp_path: Path, form: str) -> None:
    source = sqlite(tmp_path, form=form)
    got = pl.concat(read(source, NOON + timedelta(hours=1), NOON + timedelta(hours=8)))
    assert got["at"].equals(ROWS["at"].slice(1, 8))
    assert source.watermark() == NOON + timedelta(hours=9)
    assert source.count(NOON, NOON + timedelta(hours=8)) == 8


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S+02:00", "%s"])
def test_text_times_of_forms_that_do_not_sort_are_refused(tmp_path: Path, form: str) -> None:
    source = sqlite(tmp_path, form=form)
    for ask in (source.watermark, lambda: source.count(None, NOON), lambda: read(source, NOON, NOON)):
        with pytest.raises(SourceError, match=r"column 'at': found .*2013-01-31 05:00:00"):
            ask()


def test_one_odd_time_among_many_is_refused_when_it_is_read(tmp_path: Path) -> None:
    source = sqlite(tmp_path)
    with sqlite3.connect(tmp_path / "w.db") as db:
        db.execute("UPDATE flights SET at = '2013-01-31 14:00:00Z' WHERE id = 'f2'")
    db.close()
    with pytest.raises(SourceError, match="14:00:00Z"):
        read(source, NOON, NOON + timedelta(hours=9))


def test_text_in_a_number_column_is_named(tmp_path: Path) -> None:
    source = sqlite(tmp_path)
    with sqlite3.connect(tmp_path / "w.db") as db:
        db.execute("UPDATE flights SET gusts = 'strong' WHERE id = 'f7'")
    db.close()
    with pytest.raises(SourceError, match=r"column 'gusts': found 'strong' \(str\); allowed: Float64"):
        read(source, NOON, NOON + timedelta(hours=9))


@pytest.mark.parametrize("on_postgres", [False, *([True] if POSTGRES else [])])
def test_a_missing_table_is_named_with_the_nearest(tmp_path: Path, on_postgres: bool) -> None:
    url = fill_postgres(POSTGRES or "", ROWS, "date") if on_postgres else fill_sqlite(tmp_path / "w.db", ROWS)
    with pytest.raises(SourceError, match=r"'flight': found no such table \(did you mean 'flights'\?\)"):
        SqlSource(url, a_source(table="flight")).watermark()


if POSTGRES:

    @pytest.fixture
    def elsewhere() -> Iterator[str]:
        """A URL whose tables are those of another schema."""
        url = fill_postgres(POSTGRES or "", ROWS, "timestamptz")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as db:
            db.exec_driver_sql("DROP SCHEMA IF EXISTS elsewhere CASCADE; CREATE SCHEMA elsewhere")
            db.exec_driver_sql("CREATE TABLE elsewhere.later AS SELECT * FROM flights WHERE id > 'f6'")
            db.exec_driver_sql("CREATE SEQUENCE elsewhere.looks")
            yield f"{url}{'&' if '?' in url else '?'}options=-c%20search_path%3Delsewhere"
            db.exec_driver_sql("DROP SCHEMA elsewhere CASCADE")
        engine.dispose()

    def test_options_of_the_url_stay(elsewhere: str) -> None:
        source = SqlSource(elsewhere, a_source(table="later"))
        assert source.count(None, NOON + timedelta(days=1)) == 3
        assert pl.concat(read(source, NOON, NOON + timedelta(days=1))).equals(ROWS[7:])

    def test_nothing_is_written_while_rows_are_read(elsewhere: str) -> None:
        source = SqlSource(elsewhere, a_source(query="SELECT *, nextval('looks') AS look FROM later"))
        with pytest.raises(SourceError, match=r"answer that is an error: .*nextval\(\) in a read-only"):
            read(source, NOON, NOON + timedelta(days=1), ["look"])

    def test_an_error_among_the_rows_is_told_from_a_database_that_gives_up(elsewhere: str) -> None:
        divided = a_source(query="SELECT *, 1 / (CASE id WHEN 'f9' THEN 0 ELSE 1 END) AS one FROM later")
        with pytest.raises(SourceError, match="answer that is an error: division by zero") as refused:
            read(SqlSource(elsewhere, divided), NOON, NOON + timedelta(days=1), ["id", "one"])
        assert not refused.value.retryable
        slow = a_source(query="SELECT *, pg_sleep(60)::text AS nap FROM later")
        with pytest.raises(SourceUnavailable, match="statement timeout"):
            read(
                SqlSource(f"{elsewhere}%20-c%20statement_timeout%3D300", slow), NOON, NOON + timedelta(days=1), ["nap"]
            )


def test_a_query_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such table: nowhere"):
        sqlite(tmp_path, query="SELECT * FROM nowhere").watermark()


def test_a_source_cannot_be_written_through_its_query(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        sqlite(tmp_path, query="SELECT 1) AS x; DROP TABLE flights; --").watermark()
    assert sqlite3.connect(tmp_path / "w.db").execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)


def test_a_quoted_name_cannot_break_out(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "q.db") as db:
        db.execute('CREATE TABLE "odd "" table" (id TEXT, at TEXT, "select" INTEGER)')
        db.execute("""INSERT INTO "odd "" table" VALUES ('a', '2013-01-31 12:00:00', 7)""")
    db.close()
    source = SqlSource(f"sqlite:///{tmp_path / 'q.db'}", a_source(table='odd " table'))
    assert read(source, NOON, NOON, ["select"])[0].rows() == [(7,)]


def test_unreachable_says_where_without_the_password(tmp_path: Path) -> None:
    source = SqlSource("postgresql://me:s3cret@127.0.0.1:9/w?sslkey=s3cret2", a_source())
    with pytest.raises(SourceUnavailable, match=r"me:\*\*\*@127.0.0.1:9/w") as raised:
        source.watermark()
    assert "s3cret" not in str(raised.value)
    with pytest.raises(SourceUnavailable, match="no such file"):
        SqlSource(f"sqlite:///{tmp_path / 'none.db'}", a_source()).watermark()
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("url", ["nonsense", "oracle://me:s3cret@host/db"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="sqlite") as raised:
        SqlSource(url, a_source())
    assert "s3cret" not in str(raised.value)
