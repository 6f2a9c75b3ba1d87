"""What serving logs: rows with their predictions, and what turned out to be true. See the package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoggedFeature:
    """A column of logged rows: a number, or with `categories` a position in them. NaN: missing."""

    name: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LoggedBy:
    """Who answered: a release of a model, in an arm (champion, canary, shadow), and the columns that are logged."""

    model: str
    version: int
    release_id: str
    bundle: str
    arm: str
    features: tuple[LoggedFeature, ...]


@dataclass(frozen=True)
class LoggedRows:
    """The rows of one predict call, as they lie in memory.

    `ids` are 16 bytes a row, `matrix` float32 rows by features, `predictions` float32: one a row, or `outputs` a row
    where that is not 0. `keys` is empty, or the request's key a row. `unseen`: row, feature, the category as it came.
    """

    by: LoggedBy
    ids: bytes
    matrix: bytes
    predictions: bytes
    outputs: int = 0
    keys: tuple[str, ...] = ()
    unseen: tuple[tuple[int, str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids) // 16


@dataclass(frozen=True)
class Truth:
    """What turned out to be true of one answer: a number, or the name of a class. `at`: Unix ms when it was told."""

    inference_id: str
    label: float | str
    at: int
    caller: str = ""


@dataclass(frozen=True)
class UserMetric:
    """A value of a metric that a user posted; `name` as rules have it ('user.revenue_per_call'). `at`: Unix ms, the
    time that it is of."""

    name: str
    value: float
    at: int
    caller: str = ""
