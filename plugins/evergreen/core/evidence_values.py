"""The primary metric of both models by period and by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen.core import measure, resample

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.metrics import Metric
    from evergreen.core.sampling import Looked
    from evergreen.core.scored import Scored
    from evergreen.core.spec import ModelSpec

MOST_PERIODS, FEWEST_ROWS = 10, 100
MOST_VALUES, MOST_COLUMNS, MOST_TEXT = 12, 12, 40
BOTH_SIDES = 0.975  # bounds that each hold with 97.5 % span an interval of 95 %
OTHER, MISSING = "other", "missing"


# ---------------------------------------------------------------- periods


def by_period(metric: Metric, scored: Scored) -> list[dict[str, Any]]:
    """Whole days (UTC), at most 10 periods: {from, until, rows, candidate, champion: {value, low, high} or none}.

    `from` and `until` are the first and the last day. The bounds span 95 %.
    """
    return [
        {
            "from": str(scored.at[start].astype("datetime64[D]")),
            "until": str(scored.at[end - 1].astype("datetime64[D]")),
            "rows": end - start,
            "candidate": _estimate(metric, scored, scored.candidate, start, end),
            "champion": None if scored.champion is None else _estimate(metric, scored, scored.champion, start, end),
        }
        for start, end in periods(scored.at)
    ]


def periods(at: np.ndarray) -> list[tuple[int, int]]:
    """Row ranges [start, end) of whole days. One with fewer than 100 rows joins its neighbour."""
    import numpy as np

    if not len(at):
        return []
    day = at.astype("datetime64[D]").astype(np.int64)
    length = -(-int(day[-1] - day[0] + 1) // MOST_PERIODS)
    starts = [0, *(np.flatnonzero(np.diff((day - day[0]) // length)) + 1).tolist()]
    kept: list[tuple[int, int]] = []
    for start, end in zip(starts, [*starts[1:], len(at)], strict=True):
        if kept and min(end - start, kept[-1][1] - kept[-1][0]) < FEWEST_ROWS:
            kept[-1] = (kept[-1][0], end)
        else:
            kept.append((start, end))
    return kept


def _estimate(metric: Metric, scored: Scored, prediction: np.ndarray, start: int, end: int) -> dict[str, float]:
    rows = slice(start, end)
    label, said, at = scored.label[rows], prediction[rows], scored.at[rows]
    low, high = resample.interval(metric, label, said, at, confidence=BOTH_SIDES)
    return {"value": measure.value(metric, label, said), "low": low, "high": high}


# ---------------------------------------------------------------- slices


def slices(spec: ModelSpec, metric: Metric, looked: Looked) -> list[dict[str, Any]]:
    """By categorical feature and by column of a sliced gate: {column, values: [{value, rows, candidate, champion}]}.

    The 12 values with the most rows, then all others together.
    """
    gated = [gate.slice for gate in spec.gates if gate.slice]
    columns = list(dict.fromkeys([*gated, *spec.features.categorical]))
    known = [column for column in columns if column in looked.frame.columns]
    return [
        {"column": column, "values": _by_value(metric, looked.scored, grouped(looked.frame[column]))}
        for column in known[:MOST_COLUMNS]
    ]


def grouped(values: pl.Series) -> list[tuple[str, np.ndarray]]:
    """The values as text with their row positions, most rows first, and the rest as 'other'."""
    import numpy as np
    import polars as pl

    texts = values.cast(pl.String).fill_null(MISSING)
    counts = texts.value_counts(sort=True, name="n").sort(["n", texts.name], descending=[True, False])
    names = counts[texts.name].to_list()
    if len(names) > MOST_VALUES + 1:  # 'other' stands for at least two
        names = names[:MOST_VALUES]
    column = texts.to_numpy()
    groups = [(name[:MOST_TEXT], np.flatnonzero(column == name)) for name in names]
    rest = np.flatnonzero(~texts.is_in(names).to_numpy())
    return [*groups, (OTHER, rest)] if len(rest) else groups


def _by_value(metric: Metric, scored: Scored, groups: list[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
    def of(prediction: np.ndarray | None, rows: np.ndarray) -> float | None:
        return None if prediction is None else measure.value(metric, scored.label[rows], prediction[rows])

    return [
        {
            "value": value,
            "rows": len(rows),
            "candidate": of(scored.candidate, rows),
            "champion": of(scored.champion, rows),
        }
        for value, rows in groups
    ]
