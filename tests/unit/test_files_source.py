"""What only a source of files must do: many files, types that differ, times of all forms, and files that are broken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from evergreen.adapters.files_source import FilesSource
from evergreen.core import spec
from evergreen.core.errors import SourceError, SourceUnavailable

NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EVER = (NOON - 1000 * DAY, NOON + 1000 * DAY)


class Counting(LocalFileSystem):
    """Local files that count how often a file is opened, and may not answer."""

    protocol = ("counting",)
    cachable = False
    opened = 0
    answers = True

    def open(self, path: str, *arguments: Any, **more: Any) -> Any:
        type(self).opened += 1
        return super().open(path, *arguments, **more)

    def glob(self, path: str, *arguments: Any, **more: Any) -> Any:
        if not self.answers:
            raise ConnectionError("no route to host")
        return super().glob(path, *arguments, **more)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("counting://"))


fsspec.register_implementation("counting", Counting, clobber=True)


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    Counting.opened, Counting.answers = 0, True
    yield
    Counting.answers = True


def source(files: str, root: Path, **more: Any) -> FilesSource:
    described = spec.Source(**({"files": files, "event_time": "at", "key": "id"} | more))
    return FilesSource(described, root, chunk_rows=1000)


def rows(day: int, count: int = 3, **columns: Any) -> pl.DataFrame:
    times = [NOON + DAY * day + timedelta(minutes=n) for n in range(count)]
    frame = pl.DataFrame({"id": [f"{day}-{n}" for n in range(count)], "at": times, "x": [float(day)] * count})
    return frame.with_columns(**columns) if columns else frame


def all_of(made: FilesSource, *columns: str) -> pl.DataFrame:
    return pl.concat(list(made.read(columns or ("id", "at", "x"), *EVER)))


# ---------------------------------------------------------------- many files


def test_a_path_begins_at_the_projects_folder_and_files_are_read_in_order_of_time(tmp_path: Path) -> None:
    root = tmp_path / "odd [name]"
    (root / "data" / "2013").mkdir(parents=True)
    for day in (2, 0, 1):
        rows(day).write_parquet(root / "data" / "2013" / f"{9 - day}.parquet")
    made = source("data/*/*.parquet", root)
    assert all_of(made)["id"].to_list() == [f"{day}-{n}" for day in range(3) for n in range(3)]
    assert source(f"{tmp_path}/odd*/data/2013/7.parquet", Path("/nowhere")).watermark() == NOON + 2 * DAY + DAY / 720


def test_unchanged_files_are_looked_at_once_and_parquet_rows_not_at_all(tmp_path: Path) -> None:
    for day in range(5):
        rows(day).write_parquet(tmp_path / f"{day}.parquet")
    made = source(f"counting://{tmp_path}/*.parquet", tmp_path)
    assert made.watermark() == made.watermark() == NOON + 4 * DAY + timedelta(minutes=2)
    assert Counting.opened == 5
    rows(5).write_parquet(tmp_path / "5.parquet")
    assert made.watermark() == NOON + 5 * DAY + timedelta(minutes=2)
    assert Counting.opened == 6
    rows(7, 1).write_parquet(tmp_path / "0.parquet")
    assert made.watermark() == NOON + 7 * DAY
    (tmp_path / "0.parquet").unlink()
    assert made.watermark() == NOON + 5 * DAY + timedelta(minutes=2)
    assert Counting.opened == 7


def test_only_files_of_the_window_are_read_for_it(tmp_path: Path) -> None:
    for day in range(5):
        rows(day).write_parquet(tmp_path / f"{day}.parquet")
    made = source(f"counting://{tmp_path}/*.parquet", tmp_path)
    assert made.count(NOON, NOON + 3 * DAY) == 9
    assert Counting.opened == 5 + 2, "of the days between, the footer tells"
    Counting.opened = 0
    (chunk,) = made.read(["id"], NOON + DAY, NOON + DAY)
    assert chunk["id"].to_list() == ["1-0"]
    assert Counting.opened == 1


def test_rows_without_a_time_are_in_no_window(tmp_path: Path) -> None:
    frame = rows(0).with_columns(at=pl.when(pl.col("id") != "0-1").then("at"))
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    for ending in ("parquet", "csv"):
        made = source(f"*.{ending}", tmp_path)
        assert made.count(None, EVER[1]) == 2
        assert all_of(made)["id"].to_list() == ["0-0", "0-2"]


# ---------------------------------------------------------------- types and times


def test_whole_numbers_and_fractions_and_columns_without_values_have_one_type(tmp_path: Path) -> None:
    whole = pl.Series("x", [1, 2, 3], dtype=pl.Int32)
    rows(0, x=whole).write_parquet(tmp_path / "0.parquet")
    rows(1, x=pl.lit(None)).write_parquet(tmp_path / "1.parquet")
    assert all_of(source("*.parquet", tmp_path)).schema["x"] == pl.Int64
    rows(2, x=pl.lit(Decimal("0.5"))).write_parquet(tmp_path / "2.parquet")
    got = all_of(source("*.parquet", tmp_path))
    assert got["x"].to_list() == [1, 2, 3, None, None, None, 0.5, 0.5, 0.5]


def test_text_that_looks_like_numbers_in_one_csv_file_stays_text(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("id,at,x\na,2013-01-31 12:00:00,007\n")
    (tmp_path / "1.csv").write_text("id,at,x\nb,2013-02-01 12:00:00,9E\n")
    assert all_of(source("*.csv", tmp_path))["x"].to_list() == ["007", "9E"]


def test_parquet_files_that_disagree_are_named(tmp_path: Path) -> None:
    rows(0).write_parquet(tmp_path / "0.parquet")
    rows(1, x=pl.lit("strong")).write_parquet(tmp_path / "1.parquet")
    with pytest.raises(SourceError, match=r"column 'x': found .*String in '.*1.parquet'"):
        all_of(source("*.parquet", tmp_path))
    assert all_of(source("*.parquet", tmp_path), "id").height == 6, "a column that nobody reads does not matter"


def test_dictionaries_of_text_are_text(tmp_path: Path) -> None:
    rows(0, x=pl.lit("AA").cast(pl.Categorical)).write_parquet(tmp_path / "0.parquet")
    assert all_of(source("*.parquet", tmp_path))["x"].to_list() == ["AA"] * 3


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("s"), NOON.replace(tzinfo=None)),
        (pa.timestamp("ms", "UTC"), NOON),
        (pa.timestamp("us", "Europe/Berlin"), NOON.astimezone(timezone(timedelta(hours=1)))),
        (pa.timestamp("ns"), NOON.replace(tzinfo=None)),
        (pa.date32(), date(2013, 1, 31)),
        (pa.string(), "2013-01-31T13:00:00+01:00"),
    ],
)
def test_event_times_of_all_types_are_utc(tmp_path: Path, kind: pa.DataType, value: Any) -> None:
    table = pa.table({"id": ["a"], "at": pa.array([value], kind), "x": [1.5]})
    pq.write_table(table, tmp_path / "a.parquet")
    made = source("*.parquet", tmp_path)
    moment = NOON.replace(hour=0) if kind == pa.date32() else NOON
    assert made.watermark() == moment
    assert all_of(made)["at"].to_list() == [moment]
    assert all_of(made).schema["at"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("text", ["2013-01-31T12:00:00Z", "2013-01-31 12:00:00.000", "2013-01-31 07:00:00-05:00"])
def test_times_in_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(f"id,at,x\na,{text},1\nb,2013-01-31,2\n")
    made = source("*.csv", tmp_path)
    assert made.watermark() == NOON
    assert all_of(made)["id"].to_list() == ["b", "a"]


@pytest.mark.parametrize("text", ["31/01/2013 12:00", "2013-02-31 12:00:00", "1359633600", "noon"])
def test_a_time_in_another_form_is_named_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(f"id,at,x\na,2013-01-31 12:00:00,1\nb,{text},2\n")
    with pytest.raises(SourceError, match=rf"a.csv', column 'at': found '{text}'; allowed: .*2013-01-31 05:00:00"):
        source("*.csv", tmp_path).watermark()


def test_numbers_as_event_time_are_refused(tmp_path: Path) -> None:
    rows(0, at=pl.lit(1359633600)).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"column 'at': found .*1359633600.*Int"):
        source("*.parquet", tmp_path).watermark()


# ---------------------------------------------------------------- what can be wrong


def test_no_file_at_all_is_named(tmp_path: Path) -> None:
    for files in ("none/*.parquet", "none.csv"):
        with pytest.raises(
            SourceError, match=rf"source files '{files.replace('*', '.')}': found no such file"
        ) as raised:
            source(files, tmp_path).watermark()
        assert not raised.value.retryable


def test_a_column_that_one_file_lacks_is_named_with_the_file(tmp_path: Path) -> None:
    rows(0).write_parquet(tmp_path / "0.parquet")
    rows(1).rename({"x": "X"}).write_parquet(tmp_path / "1.parquet")
    made = source("*.parquet", tmp_path)
    with pytest.raises(SourceError, match=r"1.parquet', column 'x': found no such column \(did you mean 'X'\?\)"):
        all_of(made)
    assert made.columns() == {"id", "at"}
    with pytest.raises(SourceError, match=r"column 'key'"):
        source("*.parquet", tmp_path, key="key").watermark()


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_file_that_is_not_whole_is_named_and_read_when_it_is(tmp_path: Path, ending: str) -> None:
    rows(0).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("id,at,x\na,2013-01-31 12:00:00,1\n")
    file = tmp_path / f"b.{ending}"
    whole = (tmp_path / f"a.{ending}").read_bytes()
    made = source(f"*.{ending}", tmp_path)
    for broken in (b"", whole[:-9] if ending == "parquet" else whole + b"b,2013-01-31 12:00:00,1,2,3\n"):
        file.write_bytes(broken)
        with pytest.raises(SourceError, match=rf"b.{ending}': found a file that cannot be read.*rename them when"):
            made.watermark()
    file.write_bytes(whole)
    assert made.watermark() == source(f"a.{ending}", tmp_path).watermark()


def test_a_corrupt_page_is_named(tmp_path: Path) -> None:
    rows(0, 5000).write_parquet(tmp_path / "a.parquet", compression="zstd")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[100:2000] = os.urandom(1900)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(SourceError, match=r"a.parquet': found a file that cannot be read"):
        all_of(source("*.parquet", tmp_path))


def test_a_storage_that_does_not_answer_may_be_asked_again(tmp_path: Path) -> None:
    rows(0).write_parquet(tmp_path / "a.parquet")
    made = source(f"counting://{tmp_path}/*.parquet", tmp_path)
    Counting.answers = False
    with pytest.raises(SourceUnavailable, match="no route to host"):
        made.watermark()


@pytest.mark.parametrize(
    ("url", "told"), [("nosuch://b/*.csv", "nosuch"), ("abfs://b/*.csv", "adlfs.*requirements.in")]
)
def test_a_storage_that_cannot_be_opened_is_told(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        source(url, tmp_path).watermark()
