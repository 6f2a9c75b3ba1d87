"""Which of the fresh rows are looked at in detail: all of them, or the same 200,000 each time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.scored import Scored

MOST_ROWS, SEED = 200_000, 2013


@dataclass(frozen=True)
class Looked:
    """Scored rows and their columns, row by row the same."""

    scored: Scored
    frame: pl.DataFrame


def looked_at(scored: Scored, frame: pl.DataFrame) -> Looked:
    """All rows, or 200,000 of them drawn with a fixed seed, in the order they had."""
    at = picked(scored.rows)
    if at is None:
        return Looked(scored, frame)
    fewer = replace(
        scored,
        label=scored.label[at],
        candidate=scored.candidate[at],
        champion=None if scored.champion is None else scored.champion[at],
        at=scored.at[at],
        slices={name: values[at] for name, values in scored.slices.items()},
    )
    return Looked(fewer, frame[at])


def sample(frame: pl.DataFrame, most: int = MOST_ROWS) -> pl.DataFrame:
    """The same for a frame alone."""
    at = picked(frame.height, most)
    return frame if at is None else frame[at]


def picked(rows: int, most: int = MOST_ROWS) -> np.ndarray | None:
    """Positions of the rows to look at, in order; none for all."""
    import numpy as np

    if rows <= most:
        return None
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))
