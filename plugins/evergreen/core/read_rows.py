"""The rows of a snapshot that a step asks for, as many in memory at a time as it takes to read them well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core.ahead import side_by_side
from evergreen.core.memory_estimate import FRAME_CELLS
from evergreen.core.rows import Rows

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Snapshots
    from evergreen.core.records import Part
    from evergreen.core.spec import ModelSpec
    from evergreen.core.window_choice import Span

READ_CELLS = 2_000_000  # values read at once, of rows that are too many for one frame
AT_A_TIME = 2  # reads: to decode and hash rows takes longer than what a fit does with them before it grows trees
LARGE_CELLS = 3 * READ_CELLS  # of a day: larger ones are read one at a time, as memory_estimate reckons with them
_DAY = timedelta(days=1)

Read: TypeAlias = "Callable[[tuple[Span, ...]], Rows]"


def rows_once(spec: ModelSpec, snapshots: Snapshots, parts: Sequence[Part]) -> Read:
    """rows_within, for several who ask for the same stretches one after another: few rows are read once for all."""
    return lru_cache(maxsize=1)(partial(rows_within, spec, snapshots, parts))


def rows_within(spec: ModelSpec, snapshots: Snapshots, parts: Sequence[Part], spans: Sequence[Span]) -> Rows:
    """The rows of these stretches, which do not overlap, in order of event time; the columns that the spec names.

    Hashes are verified whenever rows are read; the next ones are while some are worked on. To count them, only the
    times of those days are looked at that a stretch holds in part.
    """
    days = sorted((part for part in parts if _holds_some(part, spans)), key=lambda part: part.day)
    few = sum(part.rows for part in days) * len(spec.columns) <= FRAME_CELLS
    most = FRAME_CELLS if few else READ_CELLS
    groups = list(_groups(days, most // len(spec.columns)))
    many = 1 if any(part.rows * len(spec.columns) > LARGE_CELLS for part in days) else AT_A_TIME

    def inside() -> Iterator[pl.DataFrame]:
        for rows in side_by_side(groups, partial(_read, spec, snapshots, spans=spans), many):
            if rows.height:
                yield rows

    elsewhere = [partial(_read, spec, snapshots, [part], spans=spans) for part in days]
    if few:  # read once, for all who ask
        frames = list(inside())
        return Rows(sum(frame.height for frame in frames), lambda: frames, elsewhere)
    return Rows(sum(_height(spec, snapshots, part, spans) for part in days), inside, elsewhere)


def _read(spec: ModelSpec, snapshots: Snapshots, parts: Sequence[Part], *, spans: Sequence[Span]) -> pl.DataFrame:
    return _within(spec, snapshots.read(parts, spec.columns), spans)


def _holds_some(part: Part, spans: Sequence[Span]) -> bool:
    return any(start.date() <= part.day <= end.date() for start, end in spans)


def _height(spec: ModelSpec, snapshots: Snapshots, part: Part, spans: Sequence[Span]) -> int:
    begin = datetime.combine(part.day, time(), UTC)
    if any(start <= begin and begin + _DAY <= end for start, end in spans):
        return part.rows
    return _within(spec, snapshots.skim(part, [spec.source.event_time]), spans).height


def _within(spec: ModelSpec, rows: pl.DataFrame, spans: Sequence[Span]) -> pl.DataFrame:
    import polars as pl

    at = pl.col(spec.source.event_time)
    return rows.filter(pl.any_horizontal(at.is_between(start, end) for start, end in spans))


def _groups(days: Sequence[Part], most: int) -> Iterator[list[Part]]:
    """Days that follow each other, with up to so many rows together; a larger day is a group of its own."""
    rows = group = 0
    numbers = {}
    for part in days:
        if rows and rows + part.rows > most:
            rows, group = 0, group + 1
        rows += part.rows
        numbers[part.day] = group
    for _, alike in groupby(days, key=lambda part: numbers[part.day]):
        yield list(alike)
