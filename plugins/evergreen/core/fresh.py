"""The rows of a snapshot that a candidate was fitted on, and those that it may be judged on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.memory_estimate import FRAME_CELLS
from evergreen.core.read_rows import rows_within
from evergreen.core.sampling import MOST_ROWS, sample
from evergreen.core.scored import Scored
from evergreen.core.window import Window, parts_between
from evergreen.core.window_choice import of_candidate

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.ports import Snapshots
    from evergreen.core.records import Candidate, Snapshot
    from evergreen.core.spec import ModelSpec

MISSING = "missing"


def fresh_after(bounds: Window, candidate: Candidate, champion: Candidate | None) -> datetime:
    """From when on rows are fresh: neither model was fitted on any that is later, and the holdout has begun."""
    ends = [bounds.holdout_start, candidate.data_end]
    return max(ends if champion is None else [*ends, champion.data_end])


def fresh_rows(
    spec: ModelSpec, snapshots: Snapshots, snapshot: Snapshot, *, after: datetime, until: datetime
) -> pl.DataFrame:
    """Labelled rows with `after < event_time <= until`, all columns of the snapshot, ordered by event time and key."""
    import polars as pl

    event_time = pl.col(spec.source.event_time)
    frame = snapshots.read(parts_between(snapshot.parts, after, until) or snapshot.parts[:1])
    inside = (event_time > after) & (event_time <= until)
    return frame.filter(inside & _has_label(spec)).sort(spec.source.event_time, spec.source.key)


def fitted_rows(
    spec: ModelSpec, snapshots: Snapshots, snapshot: Snapshot, candidate: Candidate, *, most: int = MOST_ROWS
) -> pl.DataFrame:
    """The spec's columns of the rows that the candidate was fitted on, ordered as fresh_rows.

    Of more than `most`, so many are drawn; the same ones each time.
    """
    choice, end = of_candidate(candidate), candidate.data_end
    spans = choice.spans if choice else [(snapshot.start, end)]  # it holds the rows of all windows that were tried
    rows = rows_within(spec, snapshots, snapshot.parts, [(start, min(until, end)) for start, until in spans])
    if not rows.height:
        return snapshots.read(snapshot.parts[:1], spec.columns).clear()
    if rows.height * len(spec.columns) <= FRAME_CELLS:
        frame = sample(rows.frame().filter(_has_label(spec)), most)
    else:  # pull leaves out rows without a label, so that next to none is drawn
        frame = rows.some(most).filter(_has_label(spec))
    return frame.sort(spec.source.event_time, spec.source.key)


def scored_rows(spec: ModelSpec, fresh: pl.DataFrame, candidate: np.ndarray, champion: np.ndarray | None) -> Scored:
    """The fresh rows, and what each model said of them, as arrays in the rows' order."""
    import polars as pl

    slices = dict.fromkeys(gate.slice for gate in spec.gates if gate.slice)
    return Scored(
        task=spec.task,
        label=fresh[spec.label.column].cast(pl.Float64).to_numpy(),
        candidate=candidate,
        champion=champion,
        at=fresh[spec.source.event_time].to_numpy(),
        slices={name: _texts(fresh[name]).to_numpy() for name in slices},
    )


def _texts(values: pl.Series) -> pl.Series:
    import polars as pl

    known = values.fill_nan(None) if values.dtype.is_float() else values
    return known.cast(pl.String).fill_null(MISSING)


def _has_label(spec: ModelSpec) -> pl.Expr:
    import polars as pl

    label = pl.col(spec.label.column)
    return label.is_not_null() & label.cast(pl.Float64).is_not_nan()
