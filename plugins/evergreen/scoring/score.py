"""Score tables: read, encode, predict and write one batch after another, so that memory does not grow with the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from evergreen.scoring.columns import ColumnEncoder, Unseen
from evergreen.scoring.output import Output
from evergreen.scoring.refused import ScoringRefused, refused
from evergreen.scoring.tables import File, Tables
from evergreen.scoring.version import Version, version_of
from evergreen.serving.refusals import RequestRefused

if TYPE_CHECKING:
    import numpy as np

    from evergreen.core.ports import Ledger, Store

PREDICTION, VERSION = "prediction", "version"
EVENT = "scored"


@dataclass(frozen=True)
class Order:
    """What is to be scored. `version` none: the champion; `keep` none: all columns of the input."""

    model: str
    input: str
    output: str
    version: int | None = None
    keep: tuple[str, ...] | None = None
    force: bool = False


@dataclass(frozen=True)
class Scored:
    """What became of it. `unseen` by feature."""

    model: str
    version: int
    bundle: str
    files: int
    rows: int
    output: str
    unseen: Mapping[str, Unseen]


def score(
    order: Order,
    ledger: Ledger,
    store: Store,
    *,
    by: str,
    act: str,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> Scored:
    """Score the input's rows in their order, and keep in the ledger which version did.

    `act` names the act: the same in the ledger is one event. `progress` is told the rows done and all rows. Raises
    ScoringRefused, NoVersion, BundleRefused; the output is then as it was before.
    """
    tables, output = Tables(order.input), Output(order.output)
    output.refuse_existing(order.force, [file.path for file in tables.files])
    version = version_of(ledger, store, order.model, order.version)
    tables.check(version.schema)
    kept = tables.kept(order.keep)
    unseen = _write(tables, output, version, kept, progress)
    done = Scored(version.model, version.number, version.bundle, len(tables.files), tables.rows, order.output, unseen)
    told = f"version {done.version}: {done.rows:,} rows of {order.input} to {order.output}"
    ledger.events.add(order.model, EVENT, told, by=by, key=f"{EVENT}:{act}", now=datetime.now(UTC))
    return done


def _write(
    tables: Tables, output: Output, version: Version, kept: pa.Schema, progress: Callable[[int, int], None]
) -> Mapping[str, Unseen]:
    encoder, done = ColumnEncoder(version.schema, tables.batch_rows), 0
    columns = _columns(version, kept)
    with output.writing(columns) as writer:
        for file, start, batch in _batches(tables, _names(version, kept)):
            answers = version.predict(_encoded(encoder, batch, file, start))
            same = [_same(batch, field, file) for field in kept]
            writer.write_batch(_scored(same, answers, version, columns))
            done += batch.num_rows
            progress(done, tables.rows)
    return encoder.unseen


def _names(version: Version, kept: pa.Schema) -> list[str]:
    """What is read of each file: the features, and what is kept."""
    return list(dict.fromkeys([*kept.names, *(feature.name for feature in version.schema.features)]))


def _batches(tables: Tables, names: list[str]) -> Iterator[tuple[File, int, pa.RecordBatch]]:
    """Each batch with its file and its first row's number there, from 0."""
    for file in tables.files:
        start = 0
        for batch in tables.batches(file, names):
            yield file, start, batch
            start += batch.num_rows


def _encoded(encoder: ColumnEncoder, batch: pa.RecordBatch, file: File, start: int) -> np.ndarray:
    try:
        return encoder.encode(batch, file.path, start)
    except RequestRefused as wrong:
        last = start + batch.num_rows - 1
        text = f"{wrong}\nNothing was written. Rows after {last:,} of {file.path} were not looked at."
        raise ScoringRefused(text) from None


def _columns(version: Version, kept: pa.Schema) -> pa.Schema:
    """The output's columns, with what it is in the file's own metadata: it goes where the file goes."""
    for name in (PREDICTION, VERSION):
        if name in kept.names:
            do = "Name the columns to keep without it: --keep a,b"
            raise refused(f"column '{name}'", found="one in the input", allowed="a name that is free", do=do)
    classes, number = version.schema.classes, pa.float32()
    answer = pa.list_(number, classes) if classes else number
    about = {
        "evergreen.model": version.model,
        "evergreen.version": str(version.number),
        "evergreen.bundle": version.bundle,
        "evergreen.scored_at": datetime.now(UTC).isoformat(),
    }
    added = [pa.field(PREDICTION, answer), pa.field(VERSION, pa.int32())]
    return pa.schema([*kept, *added], about)


def _same(batch: pa.RecordBatch, field: pa.Field, file: File) -> pa.Array:
    """A column that is kept, in the type that holds those of all files."""
    try:
        return batch.column(field.name).cast(field.type)
    except pa.ArrowException as error:
        raise refused(
            f"{file.path}, column '{field.name}'",
            found=f"values that are no {field.type}, as other files have it ({error})",
            allowed="one type in all files",
            do="Leave it out (--keep a,b names the columns to keep), or write the files again.",
        ) from error


def _scored(same: list[pa.Array], answers: np.ndarray, version: Version, columns: pa.Schema) -> pa.RecordBatch:
    predictions = pa.array(answers.reshape(-1))
    if version.schema.classes:
        predictions = pa.FixedSizeListArray.from_arrays(predictions, version.schema.classes)
    versions = pa.repeat(pa.scalar(version.number, pa.int32()), len(answers))
    return pa.RecordBatch.from_arrays([*same, predictions, versions], schema=columns)
