"""Counts ground truth into a day of the monitor, however late, twice or out of order it is told.

Of several labels of an id the one told last counts, by its own `at`; of two of the same moment that of the later part.
What was counted of an earlier one is taken out first. Only those parts are read again whose ids may be the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core.metrics import Task
from evergreen.core.monitoring.encoding import predictions_of
from evergreen.core.monitoring.tally import Labels, add_labels
from evergreen.steps.counting import add_to, by_version, extent_of, in_cells

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.monitoring.day import Day
    from evergreen.core.monitoring.tally import Layout
    from evergreen.steps.counting import Counting

ROWS = 300_000  # answers that are joined at a time
_TOLD, _BEFORE = "told_at", "_before"
_ORDER = "order"


def count_labels(day: Day, new: Collection[str], told: Collection[str], counting: Counting) -> int:
    """Count the parts of ground truth `told`, and all that is about answers in the parts `new`; how many labels."""
    truths = _Truths(day, counting)
    day.told += truths.take(told)
    before = [key for key in day.truths if key not in told]
    counted = 0
    for keys in _batches(day, [key for key in day.predictions if key not in new], told):
        counted += _count(day, keys, truths.winners(day.truths, keys), truths.winners(before, keys), counting)
    for keys in _batches(day, list(new), day.truths):
        counted += _count(day, keys, truths.winners(day.truths, keys), None, counting)
    return counted


class _Truths:
    """Parts of ground truth about a day, in memory while it is counted."""

    def __init__(self, day: Day, counting: Counting) -> None:
        self._day, self._log = day, counting.log
        self._frames: dict[str, pl.DataFrame] = {}

    def take(self, keys: Collection[str]) -> int:
        """Take parts into the day; how many ids they name that no earlier one does."""
        import polars as pl

        known = list(self._day.truths)
        for key in keys:
            self._day.truths[key] = extent_of(self._frame(key))
        ids = pl.concat([pl.Series(parts.ID, [], pl.String), *(self._frame(key)[parts.ID] for key in keys)]).unique()
        earlier = [key for key in known if any(self._overlap(key, other) for other in keys)]
        for key in earlier:
            ids = ids.filter(~ids.is_in(self._frame(key)[parts.ID].implode()))
        return len(ids)

    def winners(self, truths: Iterable[str], answers: Sequence[str]) -> pl.DataFrame:
        """Of each id the label that counts, of those truths that may be about answers in these parts."""
        import polars as pl

        of = self._day.predictions
        keys = sorted(key for key in truths if any(self._day.truths[key].overlaps(of[one]) for one in answers))
        if not keys:
            return pl.DataFrame(schema=_schema())
        frames = [self._frame(key).with_columns(pl.lit(at).alias(_ORDER)) for at, key in enumerate(keys)]
        rows = pl.concat(frames).sort(parts.ID, _TOLD, _ORDER)
        return rows.unique(parts.ID, keep="last", maintain_order=True).drop(_ORDER)

    def _overlap(self, key: str, other: str) -> bool:
        return self._day.truths[key].overlaps(self._day.truths[other])

    def _frame(self, key: str) -> pl.DataFrame:
        import polars as pl

        if key not in self._frames:
            found = self._log.part(key, [parts.ID, parts.LABEL, parts.LABEL_TEXT, parts.AT])
            frame = pl.DataFrame(schema=_schema()) if found is None else found.rename({parts.AT: _TOLD})
            self._frames[key] = frame.select(pl.col(name).cast(kind) for name, kind in _schema().items())
        return self._frames[key]


def _batches(day: Day, answers: Sequence[str], truths: Iterable[str]) -> Iterator[list[str]]:
    """The parts of answers that some of the truths may be about, so many at a time as fit into memory."""
    told, batch, rows = [day.truths[key] for key in truths], list[str](), 0
    for key in answers:
        extent = day.predictions[key]
        if any(extent.overlaps(one) for one in told):
            batch.append(key)
            rows += extent.rows
        if rows >= ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _count(
    day: Day, answers: Sequence[str], after: pl.DataFrame, before: pl.DataFrame | None, counting: Counting
) -> int:
    """Count the labels `after` of answers in these parts, where `before` says another; how many are new."""
    counted = 0
    columns = [parts.ID, parts.AT, parts.VERSION, parts.ARM, parts.PREDICTION, *map(parts.column_of, day.slices)]
    for key in answers:
        frame = counting.log.part(key, columns)
        if frame is None or frame.is_empty():
            continue
        for version, rows in by_version(_joined(frame, after, before)):
            layout = counting.layout(day, version)
            if layout is not None:
                _count_version(day, version, layout, rows)
            day.matched += rows[_TOLD + _BEFORE].null_count()
            counted += rows.height
    return counted


def _joined(answers: pl.DataFrame, after: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """The answers whose label is new or another, with that label and, suffix _before, the one that was counted."""
    import polars as pl

    earlier = (after.clear() if before is None else before).rename(
        {name: name + _BEFORE for name in after.columns if name != parts.ID}
    )
    rows = answers.join(after, on=parts.ID, how="inner").join(earlier, on=parts.ID, how="left")
    names = (parts.LABEL, parts.LABEL_TEXT, _TOLD)
    return rows.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name + _BEFORE)) for name in names))


def _count_version(day: Day, version: int, layout: Layout, rows: pl.DataFrame) -> None:
    import polars as pl

    was_told = pl.col(_TOLD + _BEFORE).is_not_null()
    for suffix, sign, told in ((_BEFORE, -1, rows.filter(was_told)), ("", 1, rows)):
        if told.is_empty():
            continue
        right = told.filter(_is_label(layout.reference.task, told, suffix))
        day.wrong += sign * (told.height - right.height)
        _add(day, version, layout, right, suffix, sign)


def _add(day: Day, version: int, layout: Layout, frame: pl.DataFrame, suffix: str, sign: int) -> None:
    for rows, cells, groups in in_cells(frame, day, version, layout):
        delay = (rows[_TOLD + suffix] - rows[parts.AT]).dt.total_milliseconds() / 3_600_000
        labels = Labels(predictions_of(rows), rows[parts.LABEL + suffix].to_numpy(), delay.to_numpy(), groups)
        add_to(day, cells, layout, partial(add_labels, layout, labels, sign=sign))


def _is_label(task: Task, rows: pl.DataFrame, suffix: str) -> pl.Expr:
    """Whether a row's label is one that the task may have: a number; of classes, the number of one."""
    import polars as pl

    label = pl.col(parts.LABEL + suffix)
    given = label.is_not_null() & label.is_finite()
    if task is Task.REGRESSION:
        return given
    classes = 2 if task is Task.BINARY else pl.col(parts.PREDICTION).list.len()
    return given & (label == label.floor()) & (label >= 0) & (label < classes)


def _schema() -> dict[str, pl.DataType | type[pl.DataType]]:
    import polars as pl

    return {parts.ID: pl.String, parts.LABEL: pl.Float64, parts.LABEL_TEXT: pl.String, _TOLD: pl.Datetime("ms", "UTC")}
