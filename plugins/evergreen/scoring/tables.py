"""The files that are scored: which they are, whether they fit the model, and their rows in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from evergreen.scoring.columns import wrong_columns
from evergreen.scoring.refused import all_refused, refused
from evergreen.serving.models.encoder import Schema

BATCH_ROWS = 65_536
_BATCH_BYTES = 64_000_000  # of values in memory, about: fewer rows where they are wide
_BUFFER = 1 << 20  # bytes of each column that are read at a time: a row group need not fit into memory


@dataclass(frozen=True)
class File:
    """One Parquet file; `row_bytes` is about what a row of it takes in memory."""

    path: str
    rows: int
    columns: pa.Schema
    row_bytes: float


class Tables:
    """All Parquet files that `place` names: a file, a folder with all below it, or a pattern; a path or an fsspec URL.

    Raises ScoringRefused where there is none, or one that cannot be read.
    """

    def __init__(self, place: str) -> None:
        self._storage, path = storage_of(place, "--input")
        with _asked(place):
            paths = self._paths(path)
        if not paths:
            do = "Correct the path: a file, a folder with .parquet files in it, or a pattern such as 'rows/*.parquet'."
            raise refused(f"--input '{place}'", found="no file", allowed="at least one Parquet file", do=do)
        self.files = [self._file(found) for found in paths]

    @property
    def rows(self) -> int:
        """Of all files, as their footers say."""
        return sum(file.rows for file in self.files)

    @property
    def batch_rows(self) -> int:
        """How many rows are in memory at a time."""
        widest = max(file.row_bytes for file in self.files)
        return int(min(BATCH_ROWS, max(1_024, _BATCH_BYTES / max(widest, 1))))

    def check(self, schema: Schema) -> None:
        """Raise ScoringRefused, naming the columns that do not fit the model, of all files."""
        found = [problem for file in self.files for problem in wrong_columns(schema, file.columns, file.path)]
        if found:
            raise all_refused(found)

    def kept(self, keep: tuple[str, ...] | None) -> pa.Schema:
        """The columns to be kept (none: all), each in a type that holds the values of all files."""
        kept = [_kept(file, keep) for file in self.files]
        for file, columns in zip(self.files, kept, strict=True):
            if set(columns.names) != set(kept[0].names):
                odd = ", ".join(sorted(set(columns.names) ^ set(kept[0].names)))
                raise refused(
                    file.path, found=f"other columns than in {self.files[0].path}: {odd}",
                    allowed="the same columns in all files", do="Name those to keep: --keep a,b",
                )  # fmt: skip
        try:
            return pa.unify_schemas(kept, promote_options="permissive").remove_metadata()
        except pa.ArrowException as error:
            do = "Name those to keep (--keep a,b), or write the files again with one type."
            raise refused("--input", found=f"a column of several types ({error})", allowed="one type", do=do) from error

    def batches(self, file: File, names: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows of one file, of these columns."""
        with _asked(file.path), self._parquet(file.path) as parquet:
            yield from parquet.iter_batches(self.batch_rows, columns=names)

    def _paths(self, path: str) -> list[str]:
        if self._storage.isdir(path):
            found = self._storage.glob(f"{path.rstrip('/')}/**/*.parquet")
            return sorted(one for one in found if not _set_aside(one[len(path) :]))
        if self._storage.isfile(path):
            return [path]
        return sorted(one for one in self._storage.glob(path) if self._storage.isfile(one))

    def _file(self, path: str) -> File:
        with _asked(path), self._parquet(path) as parquet:
            groups = (parquet.metadata.row_group(at) for at in range(parquet.metadata.num_row_groups))
            rows, size = parquet.metadata.num_rows, sum(group.total_byte_size for group in groups)
            return File(path, rows, parquet.schema_arrow, size / max(rows, 1))

    @contextmanager
    def _parquet(self, path: str) -> Iterator[pq.ParquetFile]:
        """A file of the disk is read by Arrow itself, any other through its storage."""
        if isinstance(self._storage, LocalFileSystem):
            with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as parquet:
                yield parquet
        else:
            with self._storage.open(path, "rb") as source, pq.ParquetFile(source, pre_buffer=False) as parquet:
                yield parquet


def storage_of(place: str, option: str) -> tuple[Any, str]:
    """The storage that a path or URL names, and the path in it. Raises ScoringRefused for one that is not known."""
    try:
        storage, path = fsspec.url_to_fs(place)
    except (ImportError, ValueError) as error:
        allowed = "a path, or a URL of a storage that fsspec knows: s3://, gs://, abfs://, …"
        do = "Correct it, or add the storage's package to requirements.in."
        raise refused(f"{option} '{place}'", found=str(error), allowed=allowed, do=do) from error
    return storage, str(path)


def _set_aside(below: str) -> bool:
    """What writers of folders leave beside their files: '_temporary/…', '.part'."""
    return any(part.startswith(("_", ".")) for part in PurePosixPath(below.lstrip("/")).parts)


def _kept(file: File, keep: tuple[str, ...] | None) -> pa.Schema:
    columns = file.columns
    if keep is None:
        return columns
    for name in keep:
        if columns.names.count(name) != 1:
            allowed = ", ".join(columns.names)
            raise refused(f"--keep, {file.path}", found=f"no column '{name}'", allowed=allowed, do="Correct the name.")
    return pa.schema([columns.field(name) for name in keep])


@contextmanager
def _asked(path: str) -> Iterator[None]:
    """What cannot be read, as a refusal; a storage that does not answer stays what it is: worth another try."""
    try:
        yield
    except PermissionError as error:
        raise refused(path, found="no permission to read it", allowed="permission", do="Give it.") from error
    except FileNotFoundError as error:
        raise refused(path, found="no such file", allowed="a Parquet file", do="Correct the path.") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        found = f"no readable Parquet ({str(error).splitlines()[0][:200]})"
        raise refused(path, found=found, allowed="a Parquet file", do="Write it again.") from error
