"""What answers and labels are counted with: how rows come into the tallies of a day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core.monitoring.day import Counted
from evergreen.core.monitoring.encoding import grouped, sliced_values

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from evergreen.core.monitoring.day import Cell, Day
    from evergreen.core.monitoring.encoding import Ints, Sliced
    from evergreen.core.monitoring.tally import Layout
    from evergreen.core.ports import LoggedParts
    from evergreen.core.spec import ModelSpec
    from evergreen.steps.layouts import Layouts

    Floats = npt.NDArray[np.float64]

SHADOW = "shadow"  # an arm that nobody was answered by
LARGEST = 2_000_000  # numbers in the tallies that are counted at a time


@dataclass(frozen=True)
class Counting:
    """What the days of a model are counted with."""

    spec: ModelSpec
    log: LoggedParts
    layouts: Layouts

    def layout(self, day: Day, version: int) -> Layout | None:
        """The one of a version; none where the day has been counted by a bundle that is gone now."""
        bundle = day.bundles.get(version) or self.layouts.bundle_of(day.model, version)
        layout = self.layouts.of(bundle, self.spec.task).layout
        if day.sizes.setdefault(version, layout.size) != layout.size:
            return None
        day.bundles[version] = bundle
        return layout


def extent_of(frame: pl.DataFrame | None) -> Counted:
    """How many rows a part has, and which ids."""
    if frame is None or frame.is_empty():
        return Counted(0, "", "")
    return Counted(frame.height, str(frame[parts.ID].min()), str(frame[parts.ID].max()))


def by_version(frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The answers of each version, without those of shadows."""
    import polars as pl

    answers = frame.filter(pl.col(parts.ARM) != SHADOW)
    for (version,), rows in answers.partition_by(parts.VERSION, as_dict=True).items():
        yield int(version), rows


def in_cells(
    frame: pl.DataFrame, day: Day, version: int, layout: Layout
) -> Iterator[tuple[pl.DataFrame, list[Cell], Ints]]:
    """The rows, as many buckets at a time as memory has room for; their cells, and which row is in which (grouped)."""
    import polars as pl

    sliced: Sliced = sliced_values(layout.reference, day.slices)
    most = max(1, LARGEST // (layout.size * (1 + sum(map(len, sliced.values())))))
    starts = (pl.col(parts.AT).dt.epoch("s") // day.seconds).alias("bucket")
    different = frame.select(starts.unique().sort())["bucket"]
    for begin in range(0, len(different), most):
        chosen = different[begin : begin + most]
        rows = frame if len(chosen) == len(different) else frame.filter(starts.is_in(chosen.implode()))
        yield rows, *grouped(rows, version, day.seconds, sliced)


def add_to(day: Day, cells: list[Cell], layout: Layout, count: Callable[[Floats], None]) -> None:
    """Add what `count` counts into vectors, one for each cell."""
    import numpy as np

    vectors = np.zeros((len(cells), layout.size))
    count(vectors)
    for cell, vector in zip(cells, vectors, strict=True):
        day.add(cell, vector)
