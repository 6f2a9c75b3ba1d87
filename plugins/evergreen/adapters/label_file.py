"""A file of labels, Parquet or CSV, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from evergreen.core.errors import FoundProblem
from evergreen.core.logged_parts import AT, ID, KEY, LABEL

BATCH_ROWS = 50_000
_BLOCK = 4_000_000  # bytes of a CSV file that are read at a time
NAMES = (ID, KEY, LABEL, AT)


class LabelFile:
    """Rows of the columns inference_id or key, label, and at where there is one; others are not read.

    In CSV a label that reads as a number is one; in Parquet it is what its type says. Raises FoundProblem for a file
    that cannot be read, or has other columns.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        kind = Path(path).suffix.lower()
        if kind not in (".csv", ".parquet"):
            raise self._wrong(f"'{kind or 'no ending'}'", "a file that ends in .csv or .parquet", "Name it so.")
        self._csv = kind == ".csv"
        with self._readable():
            found = self._names()
        self.columns = tuple(name for name in NAMES if name in found)
        if LABEL not in found or (ID in found) is (KEY in found):
            do = f"Rename the columns: '{ID}' as answers have it, or '{KEY}' as sent in x-request-key."
            raise self._wrong(", ".join(found) or "no column", f"'{LABEL}', and '{ID}' or '{KEY}'", do)

    def rows(self) -> int | None:
        """How many there are; none where nobody knows before the end."""
        return None if self._csv else int(pq.read_metadata(self.path).num_rows)

    def batches(self) -> Iterator[pl.DataFrame]:
        """The rows, in the order of the file."""
        with self._readable():
            for batch in self._csv_batches() if self._csv else self._parquet_batches():
                frame = pl.DataFrame(batch)
                yield frame.with_columns(_numbers(frame)) if self._csv else frame

    def _names(self) -> list[str]:
        if not self._csv:
            return list(pq.read_schema(self.path).names)
        with csv.open_csv(self.path, read_options=csv.ReadOptions(block_size=_BLOCK)) as reader:
            return list(reader.schema.names)

    def _parquet_batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=list(self.columns))

    def _csv_batches(self) -> Iterator[pa.RecordBatch]:
        """All as text: what a type would be guessed from is the first block alone."""
        options = csv.ConvertOptions(
            column_types=dict.fromkeys(self.columns, pa.string()),
            include_columns=list(self.columns),
            strings_can_be_null=True,
        )
        with csv.open_csv(
            self.path, read_options=csv.ReadOptions(block_size=_BLOCK), convert_options=options
        ) as reader:
            yield from reader

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise self._wrong("no such file", "a file of labels", "Correct the path.") from None
        except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
            said = (str(error).splitlines() or ["?"])[0][:200]
            raise self._wrong(f"what cannot be read ({said})", "Parquet or CSV", "Write it again.") from error

    def _wrong(self, found: str, allowed: str, do: str) -> FoundProblem:
        return FoundProblem(f"--input {self.path}", found=found, allowed=allowed, do=do)


def _numbers(frame: pl.DataFrame) -> pl.Expr:
    """Labels as numbers where all that are there read as such."""
    label = pl.col(LABEL).str.strip_chars()
    number = label.cast(pl.Float64, strict=False)
    all_numbers = frame.select((number.is_not_null() | label.is_null()).all()).item()
    return (number if all_numbers else label).alias(LABEL)
