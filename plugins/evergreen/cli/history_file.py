"""The history as a file for other programs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.history import HistoryEntry

CSV, PARQUET = ".csv", ".parquet"
CSV_TIME = "%Y-%m-%dT%H:%M:%S%.6fZ"


def check_name(file: Path) -> None:
    """Raise FoundProblem for a file of another kind, or in a folder that is not there."""
    if file.suffix not in (CSV, PARQUET):
        found = f"a name that ends with '{file.suffix}'" if file.suffix else "a name without an ending"
        raise FoundProblem(
            f"--export {file}", found=found, allowed=f"{CSV}, {PARQUET}", do=f"Name it, for example, history{CSV}."
        )
    if not file.parent.is_dir():
        raise FoundProblem(
            f"--export {file}",
            found=f"no folder {file.parent}",
            allowed="a folder that is there",
            do=f"Make it: mkdir -p {file.parent}",
        )


def write(file: Path, rows: Iterable[tuple[str, HistoryEntry]]) -> None:
    """Write (model, event) rows, whole or not at all: an older file stays until then."""
    frame = _frame(rows)
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        if file.suffix == CSV:
            frame.write_csv(temporary, datetime_format=CSV_TIME)
        else:
            frame.write_parquet(temporary)
        Path(temporary).chmod(0o666 & ~_umask())  # as any other new file; mkstemp's own is for its owner alone
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _frame(rows: Iterable[tuple[str, HistoryEntry]]) -> pl.DataFrame:
    import polars as pl

    columns: dict[str, pl.DataType] = {
        "time": pl.Datetime("us", "UTC"), "model": pl.String(), "what": pl.String(), "version": pl.Int64(),
        "who": pl.String(), "why": pl.String(),
    }  # fmt: skip
    told = [(one.time, model, one.what, one.version, one.who, one.why) for model, one in rows]
    return pl.DataFrame(told, schema=columns, orient="row")


def _umask() -> int:
    """The process's own; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
