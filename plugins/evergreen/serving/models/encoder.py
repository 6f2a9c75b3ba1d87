"""From the values of a request to the numbers that the booster was fitted on, strictly.

XGBoost answers for a wrong category code without an error, so every value is checked here: a category is its
position in the bundle's list, a missing value is NaN, and nothing else gets through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from evergreen.serving.refusals import Problem, Problems, did_you_mean, shown, some

_NUMBERS = frozenset({int, float, type(None)})
Column = Sequence[Any] | np.ndarray  # values as JSON has them, or an array of numbers where NaN is a missing value


class FeatureSchema(msgspec.Struct, frozen=True):
    """One feature in a bundle's schema.json."""

    name: str
    kind: Literal["number", "category"]
    categories: list[str] | None = None


class Schema(msgspec.Struct, frozen=True):
    """A bundle's schema.json."""

    task: str
    features: list[FeatureSchema]
    unknown_category: Literal["missing", "refuse"] = "missing"
    classes: int | None = None


@dataclass(frozen=True)
class Unseen:
    """A category that training did not see, answered as missing."""

    row: int
    feature: str
    value: str


@dataclass(frozen=True)
class Encoded:
    """A float32 matrix, one row a record, and the categories that became missing on the way."""

    matrix: np.ndarray
    unseen: list[Unseen]


class Encoder:
    """Encodes columns of values by a bundle's schema."""

    def __init__(self, schema: Schema) -> None:
        self.features = schema.features
        self.names = tuple(feature.name for feature in schema.features)
        self._refuse = schema.unknown_category == "refuse"
        self._codes: dict[str, dict[str | None, float]] = {
            feature.name: {None: np.nan, **{c: float(i) for i, c in enumerate(feature.categories or [])}}
            for feature in schema.features
            if feature.kind == "category"
        }

    def knows(self, name: str, category: str) -> bool:
        """Whether training saw this category of this feature."""
        return category in self._codes.get(name, ())

    def encode(self, columns: Mapping[str, Column], rows: int, problems: Problems) -> Encoded:
        """All columns, each `rows` long. Raises RequestRefused with these and the earlier problems."""
        matrix = np.empty((rows, len(self.features)), dtype=np.float32)
        unseen: list[Unseen] = []
        for position, feature in enumerate(self.features):
            fill = self._categories if feature.kind == "category" else self._numbers
            fill(matrix[:, position], feature.name, columns[feature.name], problems, unseen)
        problems.raise_if_any()
        return Encoded(matrix, unseen)

    def _numbers(self, out: np.ndarray, name: str, values: Column, problems: Problems, unseen: list[Unseen]) -> None:
        if isinstance(values, np.ndarray):
            with np.errstate(over="ignore"):
                out[:] = values
            if not np.isinf(out).any():
                return
            values = values.tolist()
        if set(map(type, values)) <= _NUMBERS:
            try:
                with np.errstate(over="ignore"):
                    out[:] = np.array(values, dtype=np.float32)  # None becomes NaN
            except OverflowError:  # an integer beyond float64
                out[:] = np.inf
            if not np.isinf(out).any():
                return
        for row, value in enumerate(values):
            if type(value) not in _NUMBERS or not _fits(value):
                problems.add(_no_number, row, name, value)

    def _categories(self, out: np.ndarray, name: str, values: Column, problems: Problems, unseen: list[Unseen]) -> None:
        codes = self._codes[name]
        if isinstance(values, np.ndarray):  # numbers are no categories: told value by value
            values = values.tolist()
        try:
            out[:] = [codes[value] for value in values]
        except (KeyError, TypeError):
            for row, value in enumerate(values):
                out[row] = self._category(row, name, value, problems, unseen)

    def _category(self, row: int, name: str, value: Any, problems: Problems, unseen: list[Unseen]) -> float:
        codes = self._codes[name]
        if (value is None or isinstance(value, str)) and value in codes:
            return codes[value]
        if not isinstance(value, str):
            problems.add(_no_category, row, name, value)
        elif self._refuse:
            problems.add(lambda: _unseen_category(row, name, value, tuple(c for c in codes if c is not None)))
        else:
            unseen.append(Unseen(row, name, value))
        return np.nan


def _fits(value: float | None) -> bool:
    return value is None or abs(value) < 3.4028235677973366e38  # what rounds to a finite float32


def _no_number(row: int, name: str, value: Any) -> Problem:
    do = "Send it as a JSON number, without quotes, or null where it is not known."
    if type(value) in _NUMBERS:
        do = "Send null where the value is not known."
    elif type(value) is bool:
        do = "Send 1 or 0."
    return Problem(f"row {row}, feature '{name}'", shown(value), "a finite 32-bit number, or null", do)


def _no_category(row: int, name: str, value: Any) -> Problem:
    do = "Send the category's name, or null where it is not known."
    if isinstance(value, int | float):
        do = f'Send it as a string: "{str(value).lower()[:40]}".'
    return Problem(f"row {row}, feature '{name}'", shown(value), "a category as a string, or null", do)


def _unseen_category(row: int, name: str, value: str, categories: tuple[str, ...]) -> Problem:
    return Problem(
        f"row {row}, feature '{name}'",
        f"{shown(value)}, which training did not see",
        f"{some(categories)}, or null",
        f"{did_you_mean(value, categories)}The model's spec says unknown_category: refuse; "
        "'missing' would answer as for null.",
    )
