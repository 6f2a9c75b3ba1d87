"""The labelled rows of one fit, brought into the form that XGBoost takes: once, though it goes through them four times.

Few rows are one frame in memory. Of more, each part is read (and its hash verified) once and written as pieces of bare
Arrow beside the fit: reading those again costs a fraction of Parquet, and memory holds one piece at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from evergreen.adapters.xgboost_trainer.inputs import TAIL, Categories, has_label
from evergreen.core.memory_estimate import FRAME_CELLS
from evergreen.core.sampling import picked
from evergreen.core.trainable import Labels, Trainable

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen.core.spec import ModelSpec

LABEL, WEIGHT = "\1label", "\1weight"  # beside the features, which have no such names (and Arrow ends a name at \0)
PIECE_CELLS = 4_000_000  # values in a piece


@dataclass(frozen=True)
class Piece:
    """Rows in order of event time: the features (Float32; text or Enum), LABEL, and WEIGHT where the spec has one."""

    rows: int
    load: Callable[[], pl.DataFrame]
    file: Path | None = None  # Arrow IPC; none for one in memory


@dataclass(frozen=True)
class Prepared:
    """All rows, as pieces. `ends`: each number feature's smallest and largest value, of those that have one."""

    pieces: tuple[Piece, ...]
    categories: Categories
    ends: Mapping[str, tuple[float, float]]
    classes: Mapping[float, int]  # rows by class, of all; empty for a regression
    data_end: datetime

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def cut(self) -> int:
        """Where the tail begins: trees are grown on the rows before it."""
        return self.rows - max(1, round(self.rows * TAIL))

    @property
    def are_many(self) -> bool:
        """Whether what is told of them comes from some of them only."""
        return self.rows * len(self.categories) > FRAME_CELLS

    def between(self, start: int, stop: int) -> Iterator[pl.DataFrame]:
        """The rows from `start` up to, not with, `stop`, piece by piece."""
        first = 0
        for piece in self.pieces:
            begin, end = max(start - first, 0), min(stop - first, piece.rows)
            if begin < end:
                yield piece.load()[begin:end]
            first += piece.rows

    def at(self, positions: np.ndarray) -> pl.DataFrame:
        """The rows at these positions, which rise."""
        found, first = [], 0
        for piece in self.pieces:
            own = positions[(positions >= first) & (positions < first + piece.rows)] - first
            if len(own):
                found.append(piece.load()[own])
            first += piece.rows
        return pl.concat(found)

    def some(self, start: int, stop: int) -> pl.DataFrame:
        """The rows from `start` to `stop`; where all are many at most 200,000 of them, the same each time."""
        own = picked(stop - start) if self.are_many else None
        return pl.concat(self.between(start, stop)) if own is None else self.at(own + start)

    def refuse_head(self, spec: ModelSpec) -> Mapping[float, int]:
        """Rows by class of those before the cut. Raises TrainingRefused if they cannot be learned from."""
        labels = Labels(spec)
        for frame in self.between(0, self.cut):
            labels.look(frame[LABEL].rename(spec.label.column))
        labels.refuse()
        return labels.classes


def prepare(spec: ModelSpec, parts: Iterable[pl.DataFrame], folder: Path | None) -> Prepared:
    """Go through the parts once; the pieces are files in `folder`, or without one a frame in memory.

    Raises TrainingRefused for rows that nothing can be learned from.
    """
    seen, facts = Trainable(spec), _Facts(spec)
    pieces = _Files(folder, PIECE_CELLS // (len(spec.features.columns) + 2)) if folder else _Memory()
    for part in parts:
        seen.look(part)
        part = part.filter(has_label(spec))
        if part.height:
            rows = part.select(columns_of(spec))
            facts.look(part[spec.source.event_time], rows)
            pieces.add(rows)
    seen.refuse()
    categories = facts.categories()
    classes = dict(seen.labels.classes)
    assert facts.data_end is not None  # there is a label, so there is a row
    return Prepared(tuple(pieces.pieces(categories)), categories, facts.ends, classes, facts.data_end)


def columns_of(spec: ModelSpec) -> list[pl.Expr]:
    """What a piece has of a part's columns; categories as text."""
    weights = spec.training.weights
    return [
        *(
            pl.col(name).cast(pl.String if name in spec.features.categorical else pl.Float32)
            for name in spec.features.columns
        ),
        pl.col(spec.label.column).cast(pl.Float64).alias(LABEL),
        *([pl.col(weights).cast(pl.Float32).alias(WEIGHT)] if weights else []),
    ]


class _Facts:
    """What is known of all rows once all were looked at."""

    def __init__(self, spec: ModelSpec) -> None:
        self._known: dict[str, set[str] | None] = {
            name: set() if name in spec.features.categorical else None for name in spec.features.columns
        }
        self.ends: dict[str, tuple[float, float]] = {}
        self.data_end: datetime | None = None

    def look(self, times: pl.Series, rows: pl.DataFrame) -> None:
        newest: datetime = times.max()  # type: ignore[assignment]
        self.data_end = max(newest, self.data_end or newest)
        for name, known in self._known.items():
            if known is None:
                self._widen(name, rows[name])
            else:
                known.update(rows[name].drop_nulls().unique())

    def _widen(self, name: str, values: pl.Series) -> None:
        low, high = values.min(), values.max()  # NaN only where there is no other value
        if low is not None and low == low:
            before = self.ends.get(name, (low, high))
            self.ends[name] = min(before[0], low), max(before[1], high)  # type: ignore[type-var,assignment]

    def categories(self) -> Categories:
        return {name: None if known is None else sorted(known) for name, known in self._known.items()}


class _Memory:
    """All rows as one piece."""

    def __init__(self) -> None:
        self._frames: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        self._frames.append(rows)

    def pieces(self, categories: Categories) -> list[Piece]:
        whole = pl.concat(self._frames, rechunk=True)
        self._frames.clear()
        enums = {name: pl.Enum(known) for name, known in categories.items() if known is not None}
        whole = whole.with_columns(pl.col(name).cast(kind) for name, kind in enums.items())
        return [Piece(whole.height, lambda: whole)]


class _Files:
    """Pieces of so many rows, as files of a folder."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder, self._most = folder, max(rows, 1)
        self._waiting: list[pl.DataFrame] = []
        self._written: list[Piece] = []

    def add(self, rows: pl.DataFrame) -> None:
        self._waiting.append(rows)
        if sum(frame.height for frame in self._waiting) >= self._most:
            self._write()

    def pieces(self, _: Categories) -> list[Piece]:
        if self._waiting:
            self._write()
        return self._written

    def _write(self) -> None:
        rows = pl.concat(self._waiting, rechunk=True)  # what lies in one stretch is not put together at each reading
        self._waiting.clear()
        for piece in rows.iter_slices(self._most):
            file = self._folder / f"{len(self._written):06}.arrow"
            piece.write_ipc(file, compression="uncompressed")
            self._written.append(Piece(piece.height, lambda file=file: _read(file), file))


def _read(file: Path) -> pl.DataFrame:
    """Mapped, not copied: only what is looked at is read, and pages of files are not held (memory_estimate)."""
    rows = pl.from_arrow(pa.ipc.open_file(pa.memory_map(str(file))).read_all(), rechunk=False)
    assert isinstance(rows, pl.DataFrame)
    return rows
