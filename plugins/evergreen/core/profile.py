"""What a sample of a source tells of its columns, and what a first spec would make of them. Guesses, to be read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen.core.metrics import Task

if TYPE_CHECKING:
    import polars as pl

FEW = 20  # different values that can be listed in a suite
MOST_CATEGORIES = 200
NEARLY_ALL = 0.9  # of the rows different: an identifier
NEARLY_THE_LABEL = 0.95  # correlation
MOST_CLASSES = 30


@dataclass(frozen=True)
class Column:
    """One column of the sample. `left_out` says why it would be no feature; empty where it would be one."""

    name: str
    kind: str  # number, text, truth, other
    whole: bool
    missing: float
    distinct: int
    low: float | None = None
    high: float | None = None
    values: tuple[Any, ...] = ()  # sorted, where they are few
    left_out: str = ""

    @property
    def categorical(self) -> bool:
        """Whether it would be a category."""
        return self.kind == "text"


def profile(frame: pl.DataFrame, label: str, roles: set[str]) -> tuple[Column, ...]:
    """All columns, in the frame's order. `roles` (key, event time, label) are no features."""
    return tuple(_column(frame, name, label, roles) for name in frame.columns)


def guess_task(label: pl.Series) -> Task | None:
    """The task that such labels ask for; none for text and times, which no task learns."""
    values = label.drop_nulls()
    if str(values.dtype) == "Boolean":
        return Task.BINARY
    if not values.dtype.is_numeric():
        return None
    seen = values.unique().sort().to_list()[: MOST_CLASSES + 1]
    if all(value in (0, 1) for value in seen):
        return Task.BINARY
    classes = len(seen) <= MOST_CLASSES and values.dtype.is_integer() and seen == list(range(len(seen)))
    return Task.MULTICLASS if classes else Task.REGRESSION


def without_learning(label: pl.Series, task: Task) -> float:
    """What a model reaches that knows no feature: the mean absolute error of the median, the largest class's share."""
    values = label.drop_nulls()
    if task is Task.REGRESSION:
        return float((values - values.median()).abs().mean())  # type: ignore[arg-type]
    counts = values.value_counts(name="rows")["rows"]
    return float(counts.max()) / len(values)  # type: ignore[arg-type]


def _column(frame: pl.DataFrame, name: str, label: str, roles: set[str]) -> Column:
    column = frame[name]
    there = column.drop_nulls()
    kind = _kind(column)
    distinct = there.n_unique() if kind != "other" else 0
    low, high = _ends(there) if kind == "number" else (None, None)
    few = kind in ("text", "truth") and 0 < distinct <= FEW
    return Column(
        name=name,
        kind=kind,
        whole=column.dtype.is_integer(),
        missing=column.null_count() / max(1, len(column)),
        distinct=distinct,
        low=low,
        high=high,
        values=tuple(there.unique().sort().to_list()) if few else (),
        left_out="" if name in roles else _why_not(frame, name, label, kind, distinct),
    )


def _kind(column: pl.Series) -> str:
    if str(column.dtype) in ("String", "Boolean"):
        return "text" if str(column.dtype) == "String" else "truth"
    return "number" if column.dtype.is_numeric() else "other"


def _ends(values: pl.Series) -> tuple[float | None, float | None]:
    ends = [float(end) for end in (values.min(), values.max()) if end is not None]  # type: ignore[arg-type]
    return (ends[0], ends[1]) if len(ends) == 2 and all(map(math.isfinite, ends)) else (None, None)


def _why_not(frame: pl.DataFrame, name: str, label: str, kind: str, distinct: int) -> str:
    rows = frame.height - frame[name].null_count()
    if kind == "other":
        return f"type {frame[name].dtype}: make a number of it in the source"
    if distinct <= 1:
        return "no value at all" if distinct == 0 else "the same value in every row"
    if frame[label].null_count() and (frame[name].is_null() == frame[label].is_null()).all():
        return "missing exactly where the label is: known only afterwards?"
    if kind == "text" and distinct > MOST_CATEGORIES:
        return f"{distinct:,} different texts in {rows:,} rows"
    if frame[name].dtype.is_integer() and distinct > NEARLY_ALL * rows and rows > MOST_CATEGORIES:
        return "different in nearly every row: an identifier?"
    if kind == "number" and (likeness := _likeness(frame[name], frame[label])) > NEARLY_THE_LABEL:
        return f"correlation {likeness:.2f} with the label: known only afterwards?"
    return ""


def _likeness(one: pl.Series, other: pl.Series) -> float:
    """The absolute correlation of two number columns over the rows that have both; 0 where there is none."""
    if not other.dtype.is_numeric():
        return 0.0
    both = one.to_frame("a").with_columns(other.alias("b")).drop_nulls()
    a, b = (both[name].cast(float) for name in ("a", "b"))
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    found = abs(float((a * b).sum())) / spread if spread else 0.0
    return found if math.isfinite(found) else 0.0
