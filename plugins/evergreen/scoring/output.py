"""The file that scoring writes: seen whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pyarrow import types

from evergreen.scoring.refused import refused
from evergreen.scoring.tables import storage_of


class Output:
    """A Parquet file at a path or fsspec URL.

    On a disk it is written beside its place, under a name that begins with a dot, and renamed at the end: a run that is
    killed leaves at most that, which the next run of the same output writes over. On object storage the upload is
    completed at the end.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._storage, self.path = storage_of(place, "--output")

    def refuse_existing(self, force: bool, inputs: list[str]) -> None:
        """Raise ScoringRefused where it is there already, unless it may be replaced; always where it is an input."""
        where = f"--output '{self.place}'"
        if self.path in inputs:
            raise refused(where, found="one of the input's files", allowed="another file", do="Write elsewhere.")
        if self._storage.isdir(self.path):
            raise refused(where, found="a folder", allowed="a file", do="Add a file name: scores.parquet")
        if not force and self._storage.exists(self.path):
            raise refused(where, found="a file", allowed="a new one", do="Replace it by --force, or write elsewhere.")

    @contextmanager
    def writing(self, columns: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """A writer, whose file appears at the end of the block; none does where the block raises."""
        whole = self._on_disk() if isinstance(self._storage, LocalFileSystem) else self._elsewhere()
        repeats = [field.name for field in columns if _repeats(field.type)]
        with whole as file, pq.ParquetWriter(file, columns, use_dictionary=repeats) as writer:
            yield writer

    @contextmanager
    def _on_disk(self) -> Iterator[IO[bytes]]:
        target = Path(self.path)
        temporary = target.with_name(f".{target.name}.writing")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._alone(temporary) as file:
                try:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())  # else a power cut may leave a name without its bytes
                    temporary.replace(target)
                except BaseException:
                    temporary.unlink(missing_ok=True)
                    raise
        except OSError as error:
            where, found = f"--output '{self.place}'", error.strerror or str(error)
            do = "Nothing was written. Make room there, or write elsewhere."
            raise refused(where, found=found, allowed="a place that can be written", do=do) from error

    def _alone(self, temporary: Path) -> IO[bytes]:
        """The empty file, for this run alone. It is one's own only if it still has that name once it is locked."""
        file = temporary.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.sameopenfile(file.fileno(), (same := temporary.open("rb")).fileno()):
                raise BlockingIOError
            same.close()
        except (BlockingIOError, FileNotFoundError):
            file.close()
            found = "another run that is writing it"
            do = "Wait for its end, or write elsewhere."
            raise refused(f"--output '{self.place}'", found=found, allowed="one at a time", do=do) from None
        file.truncate(0)
        return file

    @contextmanager
    def _elsewhere(self) -> Iterator[IO[bytes]]:
        file = self._storage.open(self.path, "wb", autocommit=False)
        try:
            yield file
            file.close()
        except BaseException:
            file.discard()
            raise
        file.commit()


def _repeats(kind: pa.DataType) -> bool:
    """Whether values are likely to come again, which a dictionary in the file is for. To try one costs time."""
    return not (types.is_floating(kind) or types.is_nested(kind))
