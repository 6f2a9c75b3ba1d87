"""The monitor on the past: answers and labels are logged as they would have come, and it makes its passes over them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core.addresses import Addresses
from evergreen.steps.monitor import Outside, Turns, monitor

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.replay.world import World

EVERY = timedelta(days=1)  # between two passes, or monitoring.every where that is longer
ARM = "champion"


class PastLog:
    """What serving would have logged up to a moment, in the store of the replay, and the monitor's passes over it.

    A row is answered at its event time, its label is told `label.arrives_after` later. Serving's own counters are not
    there, and categories that training never saw count as missing.
    """

    def __init__(self, world: World, begin: datetime) -> None:
        import polars as pl

        from evergreen.adapters.logged_predictions import LoggedPredictions

        self._world, self._until, self._passed = world, begin, begin
        self._untold = pl.DataFrame()
        self._number = 0
        self._turns = Turns()
        self._outside = Outside(
            {world.spec.name: world.spec},
            world.tools.store,
            LoggedPredictions(world.tools.store),
            Addresses.under(""),
            expected=world.tools.trainer.expected_losses,
            watermark=lambda _: world.source.watermark(),
        )

    def due(self, now: datetime) -> bool:
        """Whether a pass is due."""
        return now - self._passed >= max(EVERY, self._world.spec.monitoring.every)

    def watch(self, rows: pl.DataFrame, answers: np.ndarray, versions: np.ndarray, now: datetime) -> None:
        """Log these rows, which came since the last pass, and the labels that have arrived; then make the pass.

        `versions` answered, row by row. Raises what the monitor could not do.
        """
        self._passed = self._until = now
        if rows.height:
            self._answered(rows, answers, versions)
        self._told(now)
        report = monitor(self._world.ledger, self._outside, self._turns, lambda: now)
        for trouble in report.failures.values():
            raise RuntimeError(f"the monitor: {trouble.error}")

    @property
    def until(self) -> datetime:
        """Up to when rows were logged."""
        return self._until

    def _answered(self, rows: pl.DataFrame, answers: np.ndarray, versions: np.ndarray) -> None:
        import polars as pl

        spec = self._world.spec
        at = rows[spec.source.event_time].dt.cast_time_unit("ms")
        text = pl.lit(None, pl.String)
        said = pl.Series(parts.PREDICTION, answers.astype("float32").tolist() if answers.ndim > 1 else answers)
        logged = rows.select(
            pl.Series(parts.ID, self._ids(at)),
            at.alias(parts.AT),
            pl.Series(parts.VERSION, versions, pl.Int64),
            pl.lit("").alias(parts.RELEASE),
            pl.lit(ARM).alias(parts.ARM),
            text.alias(parts.KEY),
            said,
            text.alias(parts.UNSEEN),
            *self._features(),
        )
        self._put(parts.PREDICTIONS, logged)
        label = rows[spec.label.column].cast(pl.Float64).alias(parts.LABEL)
        told = logged.select(parts.ID, parts.AT).with_columns(label)
        self._untold = pl.concat([self._untold, told]) if self._untold.height else told

    def _features(self) -> Iterator[pl.Expr]:
        import polars as pl

        features = self._world.spec.features
        for name in features.columns:
            if name not in features.not_logged:
                kind = pl.String if name in features.categorical else pl.Float32
                yield pl.col(name).cast(kind).alias(parts.column_of(name))

    def _ids(self, at: pl.Series) -> list[str]:
        """UUIDs of version 7, one a row."""
        first = self._number
        self._number += len(at)
        times = at.dt.epoch("ms").to_list()
        return [f"{t >> 16:08x}-{t & 0xFFFF:04x}-7000-8000-{first + n:012x}" for n, t in enumerate(times)]

    def _told(self, now: datetime) -> None:
        """Log the labels that have arrived by now, each at the moment at which it did."""
        import polars as pl

        if not self._untold.height:
            return
        later = self._world.spec.label.arrives_after
        arrived = pl.col(parts.AT) <= now - later
        known = self._untold.filter(arrived & pl.col(parts.LABEL).is_not_null() & pl.col(parts.LABEL).is_not_nan())
        self._untold = self._untold.filter(~arrived)
        if known.height:
            text = pl.lit(None, pl.String)
            told = known.with_columns(text.alias(parts.LABEL_TEXT), text.alias(parts.CALLER))
            self._put(parts.TRUTH, told, told_after=later)

    def _put(self, folder: str, frame: pl.DataFrame, told_after: timedelta = timedelta(0)) -> None:
        """A part for each day of answers."""
        import polars as pl

        for (day,), rows in frame.group_by(pl.col(parts.AT).dt.date(), maintain_order=True):
            buffer = io.BytesIO()
            rows.with_columns(pl.col(parts.AT) + told_after).write_parquet(buffer)
            self._number += 1
            key = parts.part_key(folder, self._world.spec.name, day, f"{self._number:032x}")  # type: ignore[arg-type]
            self._world.tools.store.put(key, buffer.getvalue())
