"""A source of files: Parquet or CSV, on a disk or in an object store, named by a fsspec URL with `*` in it.

Each file's columns, rows and oldest and newest event time are looked up once and kept until the listing shows another
size or time of change: of Parquet its footer tells them, a CSV file is read for them. So a watcher that keeps the
source asks for a listing and for new files only.
Types are one over all files: whole numbers become fractions where any file has those, and a CSV column becomes text
where any file has text in it. `event_time` is a timestamp or date, or text such as '2013-01-31 05:00:00' with or
without a zone; without one it is UTC.
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from evergreen.adapters.files_source import footers
from evergreen.adapters.files_source.event_times import TIME, TIME_WORDS, NoTime, event_times
from evergreen.core.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    from evergreen.core import spec

_LOOKERS = 8  # threads: most of the time is spent waiting for the storage
_BROKEN = (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError)


@dataclass(frozen=True)
class _File:
    """What is known of one file. `mark` changes with the file; `timed` rows have an event time."""

    path: str
    mark: str
    types: Mapping[str, pl.DataType]
    timed: int
    oldest: datetime | None
    newest: datetime | None

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether it can hold rows with `start <= event_time <= end`."""
        return self.oldest is not None and self.newest is not None and self.oldest <= end and self.newest >= start


class FilesSource:
    """Rows of all files that `source.files` names, `chunk_rows` at a time; a relative path begins at `root`."""

    def __init__(self, source: spec.Source, root: Path, *, chunk_rows: int = 50_000) -> None:
        assert source.files is not None
        self._source, self._chunk_rows = source, chunk_rows
        self._where = f"source files '{source.files}'"
        self._csv = source.files.lower().endswith(".csv")
        here = "://" not in source.files and not Path(source.files).is_absolute()
        self._storage, self._pattern = self._opened(
            f"{glob.escape(str(root))}/{source.files}" if here else source.files
        )
        self._known: dict[str, _File] = {}

    def watermark(self) -> datetime | None:
        """The newest event time, none for files without rows."""
        return max((file.newest for file in self._files() if file.newest), default=None)

    def columns(self) -> frozenset[str]:
        """The names of the columns that every file has."""
        return frozenset(reduce(lambda one, other: one & other, (file.types.keys() for file in self._files())))

    def count(self, after: datetime | None, until: datetime) -> int:
        """How many rows have `after < event_time <= until` (no lower bound for none)."""
        return sum(self._count(file, after, until) for file in self._files())

    def estimate(self, start: datetime, end: datetime) -> int:
        """How many rows the files have that reach into this stretch: of Parquet their footers tell."""
        return sum(file.timed for file in self._files() if file.overlaps(start, end))

    def types(self, columns: Sequence[str], start: datetime, end: datetime) -> dict[str, pl.DataType]:
        """The types of these columns over all files, in their order."""
        return self._types(self._files(columns), dict.fromkeys(columns))

    def read(
        self,
        columns: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        types: Mapping[str, pl.DataType] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Rows with `start <= event_time <= end`, in order of event time, in bounded chunks.

        Files whose times overlap are merged; of others one at a time is in memory.
        """
        clock = self._source.event_time
        files = self._files(columns)
        kinds = self._types(files, dict.fromkeys([*columns, clock]))
        wanted = sorted((f for f in files if f.overlaps(start, end)), key=lambda f: (f.oldest, f.path))
        waiting = pl.DataFrame(schema=kinds)
        for file, following in zip(wanted, [*wanted[1:], None], strict=False):
            rows = self._rows(file, kinds, start, end)
            waiting = pl.concat([waiting, rows]).sort(clock, maintain_order=True)
            ready = waiting if following is None else waiting.filter(pl.col(clock) < following.oldest)
            yield from ready.select(columns).iter_slices(self._chunk_rows)
            waiting = waiting.tail(waiting.height - ready.height)

    # ------------------------------------------------------------ the storage

    def _opened(self, url: str) -> tuple[Any, str]:
        try:
            storage, pattern = fsspec.url_to_fs(url)
        except ImportError as error:
            do = "Add the package to requirements.in and install it."
            raise self._refused(f"a storage without its package ({error})", "a storage that can be read", do) from None
        except (ValueError, TypeError) as error:
            allowed = "a path, or a URL of a storage that fsspec knows: s3://, gs://, abfs://, file://, …"
            raise self._refused(_first_line(error), allowed, "Correct source.files in model.yaml.") from None
        return storage, pattern

    @contextmanager
    def _asked(self, path: str) -> Iterator[None]:
        """Errors of the storage, or of one file, as ours."""
        try:
            yield
        except SourceError:
            raise
        except PermissionError as error:
            do = "Give it, or correct the storage's credentials in the environment."
            raise self._refused(f"no permission ({_first_line(error)})", "permission to read", do, path) from error
        except FileNotFoundError as error:
            raise self._unavailable(f"{path} gone while it was read") from error
        except Exception as error:
            if isinstance(error, _BROKEN) or (type(error) is OSError and error.errno is None):  # as Arrow raises it
                raise self._broken(path, error) from error
            raise self._unavailable(f"no answer ({type(error).__name__}: {_first_line(error)})") from error

    def _unavailable(self, found: str) -> SourceUnavailable:
        return SourceUnavailable(
            self._where,
            found=found,
            allowed="a storage that answers",
            do="See that it is up and that its credentials stand in the environment; then start the run again.",
        )

    def _broken(self, path: str, error: Exception) -> SourceError:
        kind = "CSV with a header" if self._csv else "Parquet"
        do = "Write files under another name and rename them when they are whole; repair or remove this one."
        return self._refused(f"a file that cannot be read ({_first_line(error)})", f"whole {kind} files", do, path)

    def _refused(self, found: str, allowed: str, do: str, path: str = "", column: str = "") -> SourceError:
        places = (f"file '{path}'" if path else "", f"column '{column}'" if column else "")
        return SourceError(", ".join([self._where, *filter(None, places)]), found=found, allowed=allowed, do=do)

    # ------------------------------------------------------------ what there is

    def _files(self, columns: Sequence[str] = ()) -> list[_File]:
        """All files, each with event time, key and these columns. Raises SourceError for one that lacks any."""
        listed = self._listed()
        new = [(path, mark) for path, mark in listed.items() if getattr(self._known.get(path), "mark", None) != mark]
        with ThreadPoolExecutor(_LOOKERS) as pool:
            looked = {file.path: file for file in pool.map(lambda one: self._look(*one), new)}
        self._known = {path: looked.get(path) or self._known[path] for path in listed}
        files = list(self._known.values())
        for file in files:
            self._check_columns(file, [*columns, self._source.key])
        return files

    def _listed(self) -> dict[str, str]:
        """The path of each file, sorted, with what changes when it is written again."""
        with self._asked(""):
            self._storage.invalidate_cache()
            found = self._storage.glob(self._pattern, detail=True)
        files = {path: str(sorted(info.items())) for path, info in found.items() if info.get("type") != "directory"}
        if not files:
            do = "Correct source.files in model.yaml, or put files there."
            raise self._refused("no such file", "at least one file", do)
        return dict(sorted(files.items()))

    def _look(self, path: str, mark: str) -> _File:
        with self._asked(path):
            return self._look_at_csv(path, mark) if self._csv else self._look_at_parquet(path, mark)

    def _look_at_csv(self, path: str, mark: str) -> _File:
        frame = self._csv_frame(path, {self._source.event_time: pl.String()})
        self._check_names(path, frame.columns)
        times = self._times(path, frame[self._source.event_time])
        types = {column.name: _kind(column.dtype, empty=column.null_count() == len(column)) for column in frame}
        return _seen(path, mark, types, times)

    def _look_at_parquet(self, path: str, mark: str) -> _File:
        with self._storage.open(path, "rb") as opened:
            file = pq.ParquetFile(opened)
            arrow = file.schema_arrow
            self._check_names(path, arrow.names)
            frame = pl.DataFrame(pl.from_arrow(arrow.empty_table()))
            types = {name: _kind(kind, empty=kind == pl.Null) for name, kind in frame.schema.items()}
            if known := footers.of_file(file, self._source.event_time):
                return _File(path, mark, types, *known)
            times = pl.Series(pl.from_arrow(file.read([self._source.event_time]).column(0)))
            return _seen(path, mark, types, self._times(path, times.rename(self._source.event_time)))

    def _check_names(self, path: str, names: Sequence[str]) -> None:
        if self._source.event_time not in names:
            raise self._missing(path, self._source.event_time, names)

    def _check_columns(self, file: _File, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in file.types:
                raise self._missing(file.path, name, list(file.types))

    def _missing(self, path: str, name: str, names: Sequence[str]) -> SourceError:
        by_case = {other.lower(): other for other in names}
        near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.7)
        found = "no such column" + (f" (did you mean '{by_case[near[0]]}'?)" if near else "")
        do = "Correct the name in model.yaml, or bring the column back in the file."
        return self._refused(found, ", ".join(names), do, path, name)

    def _types(self, files: Sequence[_File], names: Mapping[str, None]) -> dict[str, pl.DataType]:
        """The one type of each column over all files. Raises SourceError where Parquet files disagree."""
        return {name: self._type(files, name) for name in names}

    def _type(self, files: Sequence[_File], name: str) -> pl.DataType:
        if name == self._source.event_time:
            return TIME
        kinds = {file.types[name]: file.path for file in reversed(files) if file.types[name] != pl.Null}
        if len(kinds) > 1 and all(kind.is_numeric() for kind in kinds):
            return pl.Float64()
        if len(kinds) > 1 and self._csv:
            return pl.String()  # what looks like numbers in one file
        if len(kinds) > 1:
            (one, first), (other, second) = list(kinds.items())[:2]
            found = f"{one} in '{first}' and {other} in '{second}'"
            raise self._refused(found, "one type in all files", "Write the files again with one type.", column=name)
        return next(iter(kinds), pl.Float64())

    # ------------------------------------------------------------ rows

    def _count(self, file: _File, after: datetime | None, until: datetime) -> int:
        if file.oldest is None or file.newest is None or file.oldest > until or (after and file.newest <= after):
            return 0
        if file.newest <= until and (after is None or file.oldest > after):
            return file.timed
        clock = self._source.event_time
        times = self._rows(file, {clock: TIME}, file.oldest, until)[clock]
        return int((times > after).sum() if after else len(times))

    def _rows(self, file: _File, types: dict[str, pl.DataType], start: datetime, end: datetime) -> pl.DataFrame:
        clock = self._source.event_time
        with self._asked(file.path):
            frame = self._csv_rows(file, types) if self._csv else self._parquet_rows(file, types, start, end)
            frame = frame.with_columns(self._times(file.path, frame[clock]))
            inside = frame.filter(pl.col(clock).is_between(start, end))
            return inside.select(pl.col(name).cast(kind) for name, kind in types.items())

    def _csv_rows(self, file: _File, types: dict[str, pl.DataType]) -> pl.DataFrame:
        return self._csv_frame(file.path, {**types, self._source.event_time: pl.String()}, list(types))

    def _csv_frame(self, path: str, types: dict[str, Any], columns: list[str] | None = None) -> pl.DataFrame:
        with self._storage.open(path, "rb") as opened:
            data = opened.read()
        if not data:
            raise pl.exceptions.NoDataError("no header")
        return pl.read_csv(data, columns=columns, schema_overrides=types, infer_schema_length=None)

    def _parquet_rows(self, file: _File, types: dict[str, pl.DataType], start: datetime, end: datetime) -> pl.DataFrame:
        with self._storage.open(file.path, "rb") as opened:
            parquet = pq.ParquetFile(opened)
            groups = [
                group
                for group in range(parquet.num_row_groups)
                if (ends := footers.of_group(parquet, group, self._source.event_time)) is None
                or (ends[1] is not None and ends[1] <= end and ends[2] is not None and ends[2] >= start)
            ]
            return pl.DataFrame(pl.from_arrow(parquet.read_row_groups(groups, columns=list(types))))

    def _times(self, path: str, values: pl.Series) -> pl.Series:
        try:
            return event_times(values)
        except NoTime as wrong:
            do = "Correct these rows, or name another column as source.event_time."
            raise self._refused(str(wrong), TIME_WORDS, do, path, values.name) from None


def _kind(kind: pl.DataType, *, empty: bool) -> pl.DataType:
    """The type in which values of this type are handed on: one of each sort, as a database gives them."""
    if empty:
        return pl.Null()
    if kind.is_integer():
        return pl.Int64()
    if kind.is_float() or kind.is_decimal():
        return pl.Float64()
    if kind in (pl.Categorical, pl.Enum):
        return pl.String()
    return TIME if isinstance(kind, pl.Datetime) else kind


def _seen(path: str, mark: str, types: Mapping[str, pl.DataType], times: pl.Series) -> _File:
    oldest, newest = times.min(), times.max()
    return _File(path, mark, types, len(times) - times.null_count(), oldest, newest)  # type: ignore[arg-type]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
