"""What serving logged: how parts are written, and how they are read again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.records import LoggedRows, Truth, UserMetric


class PartWriter(Protocol):
    """Makes Parquet of what was logged; columns as core.logged_parts says."""

    def predictions(self, batches: Sequence[LoggedRows]) -> bytes:
        """A part of rows of one shape (logged_parts.shape_of)."""

    def truth(self, records: Sequence[Truth]) -> bytes:
        """A part of ground truth."""

    def metrics(self, records: Sequence[UserMetric]) -> bytes:
        """A part of users' metrics."""


@dataclass(frozen=True)
class LoggedRow:
    """One answer: its model, its own columns by name, and its features as they were sent (a missing one is none)."""

    model: str
    facts: dict[str, Any]
    features: dict[str, Any]


@dataclass(frozen=True)
class Removed:
    """Rows that were removed, and the parts that were rewritten or, left empty, removed."""

    predictions: int = 0
    truths: int = 0
    parts: list[str] = field(default_factory=list)


class Predictions(Protocol):
    """The log of answers and of ground truth, by model and day (UTC, of the answer)."""

    def models(self) -> list[str]:
        """The models that have rows."""

    def days(self, model: str) -> list[date]:
        """The days that have answers, oldest first."""

    def read(self, model: str, first: date, last: date, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The answers of these days, in order of their ids; columns that not all versions have are null elsewhere."""

    def truth(self, model: str, first: date, last: date) -> pl.DataFrame:
        """What was told of the answers of these days, in order of their ids; of one told twice the later."""

    def find(self, inference_id: str) -> LoggedRow | None:
        """One answer."""

    def ids_of(self, model: str, wanted: Callable[[str, int], bool]) -> list[str]:
        """The inference ids of answers whose key and time (Unix ms) are wanted; those without a key are not asked."""

    def remove(self, model: str, ids: Collection[str]) -> Removed:
        """Rewrite every part that has rows of these ids without them, ground truth first. Each in one step."""


class LoggedParts(Protocol):
    """The same log part by part: what is read once is not read again. Parts may come, be rewritten and go meanwhile."""

    def parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of a day's answers, in order: that of their first rows."""

    def truth_parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of ground truth about a day's answers, in order."""

    def metric_parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of users' metrics of a day, in order."""

    def part(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """The rows of a part, of these columns those that it has; none where it is gone."""
