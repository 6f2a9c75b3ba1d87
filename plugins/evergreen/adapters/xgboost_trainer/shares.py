"""Which rows of a fit a worker of a cluster holds: about as many older ones, and of the tail, as any other worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from xgboost import collective

from evergreen.adapters.xgboost_trainer.inputs import TAIL, Categories, has_label
from evergreen.adapters.xgboost_trainer.prepared import columns_of
from evergreen.core.errors import TrainingRefused

if TYPE_CHECKING:
    from evergreen.core.ports.cluster import Place
    from evergreen.core.spec import ModelSpec

ENOUGH = 3  # parts of the tail for each worker, so that dealing them out one by one is even enough


@dataclass(frozen=True)
class Share:
    """All labelled rows of a fit, as calls that read them part by part. `cut`: see Prepared."""

    spec: ModelSpec
    parts: tuple[Callable[[], pl.DataFrame], ...]
    categories: Categories
    cut: int


Frames = tuple[list[pl.DataFrame], list[pl.DataFrame]]


def share_of(share: Share, place: Place) -> Frames:
    """This worker's older rows and its rows of the tail, in memory, as a fit's pieces are (prepared.Piece).

    Parts are dealt out in turn, which spreads the tail too. Where that is not even, since they are few or of different
    sizes, each worker reads all of them and keeps every n-th row. To be called by all workers at once, as they
    tell each other how many rows a part has. Raises TrainingRefused for fewer rows than all of them need.
    """
    few = len(share.parts) * TAIL < ENOUGH * place.count
    dealt = None if few else _dealt_out(share, place)
    head, tail = dealt or _some_of_each(share, place)
    return [frame for frame in head if frame.height], [frame for frame in tail if frame.height]


def _some_of_each(share: Share, place: Place) -> Frames:
    kept: Frames = ([], [])
    start = 0
    for number in range(len(share.parts)):
        frame = _labelled(share, number, place)
        cut = min(max(share.cut - start, 0), frame.height)
        for own, rows, first in zip(kept, (frame[:cut], frame[cut:]), (start, start + cut), strict=True):
            own.append(rows.gather_every(place.count, (place.number - first) % place.count))  # a slice would hold all
        start += frame.height
    if min(share.cut, start - share.cut) < place.count:
        raise _too_few(share, start, place)
    return kept


def _dealt_out(share: Share, place: Place) -> Frames | None:
    """None where a worker had less than half of what is fair, of older rows or of the tail."""
    numbers = range(place.number, len(share.parts), place.count)
    frames = {number: _labelled(share, number, place) for number in numbers}
    own = [frames[number].height if number in frames else 0 for number in range(len(share.parts))]
    heights = collective.allreduce(np.array(own, dtype=np.int64), collective.Op.SUM)
    heads = np.clip(share.cut - (np.cumsum(heights) - heights), 0, heights)
    if not all(_is_even(rows, place.count) for rows in (heads, heights - heads)):
        return None
    cut = {number: (frame[: heads[number]], frame[heads[number] :]) for number, frame in frames.items()}
    return [head for head, _ in cut.values()], [tail for _, tail in cut.values()]


def _is_even(rows: np.ndarray, count: int) -> bool:
    least = min(int(rows[number::count].sum()) for number in range(count))
    return least > rows.sum() / count / 2


def _too_few(share: Share, rows: int, place: Place) -> TrainingRefused:
    return TrainingRefused(
        f"{share.spec.name}: training.engine dask",
        found=f"{rows:,} rows with a label, of which {rows - share.cut:,} choose the rounds, for {place.count} workers",
        allowed="at least one of each for each worker",
        do="Write training.engine: auto: so few rows need no cluster.",
    )


def _labelled(share: Share, number: int, place: Place) -> pl.DataFrame:
    rows = share.parts[number]().filter(has_label(share.spec)).select(columns_of(share.spec))
    enums = {name: pl.Enum(known) for name, known in share.categories.items() if known is not None}
    place.tell(f"part {number + 1} of {len(share.parts)}")
    return rows.with_columns(pl.col(name).cast(kind) for name, kind in enums.items())
