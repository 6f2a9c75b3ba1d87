"""Answers with their labels, part after part: memory has one part of answers, and the labels that may be of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core.metrics import Task
from evergreen.core.records import CHAMPION
from evergreen.core.reported_examples import JOINED

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.monitoring.day import Day
    from evergreen.core.ports import LoggedParts
    from evergreen.core.reported import Span

KEPT = 8  # parts of ground truth in memory
_TOLD, _ORDER = "told, joined", "order, joined"


@dataclass
class LabelledAnswers:
    """The answers of one version to which a label came that its task may have; shadows answer nobody.

    `seen` is called before each part is read.
    """

    log: LoggedParts
    task: Task
    version: int
    span: Span
    seen: Callable[[], None]

    def of(self, day: Day) -> Iterator[pl.DataFrame]:
        """Of a day that was counted: its parts' columns, and JOINED."""
        import polars as pl

        cache: OrderedDict[str, pl.DataFrame] = OrderedDict()
        for key, extent in day.predictions.items():
            self.seen()
            about = [(at, one) for at, one in enumerate(sorted(day.truths)) if day.truths[one].overlaps(extent)]
            if not about:
                continue
            frame = self.log.part(key)
            if frame is None:
                continue
            frame = frame.filter(self._is_ours())
            if frame.height:
                told = [self._truth(cache, one).with_columns(pl.lit(at).alias(_ORDER)) for at, one in about]
                yield self._joined(frame, pl.concat(told))

    def _is_ours(self) -> pl.Expr:
        import polars as pl

        at = pl.col(parts.AT)
        inside = (at >= self.span.start) & (at < self.span.end)
        return inside & (pl.col(parts.VERSION) == self.version) & (pl.col(parts.ARM) == CHAMPION)

    def _truth(self, cache: OrderedDict[str, pl.DataFrame], key: str) -> pl.DataFrame:
        import polars as pl

        if key not in cache:
            found = self.log.part(key, [parts.ID, parts.LABEL, parts.AT])
            told = pl.Datetime("ms", "UTC")
            schema: dict[str, pl.DataType | type[pl.DataType]] = {parts.ID: pl.String, JOINED: pl.Float64, _TOLD: told}
            frame = (
                pl.DataFrame(schema=schema) if found is None else found.rename({parts.LABEL: JOINED, parts.AT: _TOLD})
            )
            cache[key] = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
            if len(cache) > KEPT:
                cache.popitem(last=False)
        return cache[key]

    def _joined(self, frame: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
        """Of several labels of an answer that which was told last, as the monitor counts."""
        import polars as pl

        last = told.sort(parts.ID, _TOLD, _ORDER).unique(parts.ID, keep="last").select(parts.ID, JOINED)
        label = pl.col(JOINED)
        given = label.is_not_null() & label.is_finite()
        if self.task is not Task.REGRESSION:
            classes = 2 if self.task is Task.BINARY else pl.col(parts.PREDICTION).list.len()
            given &= (label == label.floor()) & (label >= 0) & (label < classes)
        return frame.join(last, on=parts.ID, how="inner").filter(given)
