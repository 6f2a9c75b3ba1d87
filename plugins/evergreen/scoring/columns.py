"""Columns of a table as the matrix that the booster was fitted on, by serving's rules.

A table has types where a request has JSON, so two things that a caller must write out are read here as training read
them: true and false of a number are 1 and 0, and a whole number or truth value of a category is its text. Everything
else is as online: a null or NaN is a missing value, an infinite number is refused, an unseen category is missing or
refused, as the bundle says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from evergreen.serving.models.encoder import FeatureSchema, Schema
from evergreen.serving.refusals import Problem, Problems, did_you_mean, shown, some


@dataclass
class Unseen:
    """How many values of a category training did not see, answered as missing, and the first of them."""

    rows: int
    first: str
    where: str


class ColumnEncoder:
    """Encodes record batches. `unseen` counts by feature over all of them."""

    def __init__(self, schema: Schema, rows: int) -> None:
        self._features, self._refuse = schema.features, schema.unknown_category == "refuse"
        self._known = {f.name: pa.array(f.categories or [], pa.string()) for f in schema.features}
        self._matrix = np.empty((rows, len(schema.features)), np.float32, order="F")  # a column is one piece
        self.unseen: dict[str, Unseen] = {}

    def encode(self, batch: pa.RecordBatch, file: str, start: int) -> np.ndarray:
        """float32, rows by features; overwritten by the next call. `start` is the batch's first row in its file.

        The batch has all features, in types that `wrong_types` let through. Raises RequestRefused, naming rows.
        """
        out, problems = self._matrix[: batch.num_rows], Problems()
        for position, feature in enumerate(self._features):
            values, column = batch.column(feature.name), out[:, position]
            if feature.kind == "category":
                self._categories(column, feature, values, problems, f"{file}, row", start)
            else:
                column[:] = _numbers(values)
        if np.isinf(out).any():
            self._infinite(batch, out, problems, f"{file}, row", start)
        problems.raise_if_any()
        return out

    def _categories(
        self, out: np.ndarray, feature: FeatureSchema, values: pa.Array, problems: Problems, where: str, start: int
    ) -> None:
        codes = _codes(values, self._known[feature.name])
        out[:] = codes.to_numpy(zero_copy_only=False)
        if codes.null_count == values.null_count:
            return
        rows = np.flatnonzero(np.isnan(out) & _valid(values))
        for row in rows[: len(rows) if self._refuse else 1].tolist():
            text = str(values[row].as_py())
            if self._refuse:
                problems.add(lambda row=row, text=text: self._unknown(feature, f"{where} {start + row}", text))
            else:
                found = self.unseen.setdefault(feature.name, Unseen(0, text, f"{where} {start + row}"))
                found.rows += len(rows)

    def _unknown(self, feature: FeatureSchema, where: str, text: str) -> Problem:
        known = tuple(feature.categories or ())
        return Problem(
            f"{where}, feature '{feature.name}'",
            f"{shown(text)}, which training did not see",
            f"{some(known)}, or null",
            f"{did_you_mean(text, known)}The model's spec says unknown_category: refuse; "
            "'missing' would answer as for null.",
        )

    def _infinite(self, batch: pa.RecordBatch, out: np.ndarray, problems: Problems, where: str, start: int) -> None:
        for row, position in np.argwhere(np.isinf(out)).tolist():
            name = self._features[position].name
            problems.add(
                lambda row=row, name=name: Problem(
                    f"{where} {start + row}, feature '{name}'",
                    shown(batch.column(name)[row].as_py()),
                    "a finite 32-bit number, or null",
                    "Write null where the value is not known.",
                )
            )


def _numbers(values: pa.Array) -> np.ndarray:
    """Whole numbers go through float64, as those of JSON do: the largest are rounded alike."""
    if types.is_null(values.type):
        return np.full(len(values), np.nan, np.float32)
    if not types.is_floating(values.type):
        values = values.cast(pa.float64(), safe=False) if not types.is_boolean(values.type) else values.cast(pa.int8())
    with np.errstate(over="ignore"):
        found: np.ndarray = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)  # null: NaN
    return found


def _codes(values: pa.Array, known: pa.Array) -> pa.Array:
    """The place of each value in the list; null for a null and for what is not in it."""
    if types.is_null(values.type):
        return pa.nulls(len(values), pa.float32())
    if types.is_dictionary(values.type):
        return _codes(values.dictionary, known).take(values.indices)
    return pc.index_in(values.cast(pa.string()), value_set=known).cast(pa.float32())


def _valid(values: pa.Array) -> np.ndarray:
    """Where there is a value; a dictionary may also hold the null itself."""
    whole = values.dictionary_decode() if types.is_dictionary(values.type) else values
    found: np.ndarray = whole.is_valid().to_numpy(zero_copy_only=False)
    return found


# ---------------------------------------------------------------- before a row is read


def wrong_columns(schema: Schema, found: pa.Schema, file: str) -> Iterable[Problem]:
    """What is wrong with a file's columns: features that it has not, or in a type that the model was not fitted on.

    Other columns are no problem: a table exists for more than one reader, and has keys, times and labels beside the
    features. (A request is made for the model, so that a name it does not know is a slip, and refused.)
    """
    for feature in schema.features:
        if found.names.count(feature.name) != 1:
            yield _gone(feature, found, file)
        elif not _fits(feature, found.field(feature.name).type):
            yield _wrong_type(feature, found.field(feature.name).type, file)


def _gone(feature: FeatureSchema, found: pa.Schema, file: str) -> Problem:
    others = tuple(name for name in found.names if name != feature.name)
    twice = feature.name in found.names
    return Problem(
        f"{file}, column '{feature.name}'",
        "two columns of this name" if twice else "no such column",
        "one column for each feature of the model",
        "Rename one." if twice else did_you_mean(feature.name, others) + "Add it, with nulls where it is not known.",
    )


def _fits(feature: FeatureSchema, kind: pa.DataType) -> bool:
    if types.is_null(kind):
        return True
    if feature.kind == "number":
        return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    known = feature.categories or []
    if types.is_integer(kind):  # of categories that are whole numbers
        return any(text.lstrip("-").isdigit() for text in known)
    return _is_text(kind) or (types.is_boolean(kind) and set(known) <= {"true", "false"})


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _wrong_type(feature: FeatureSchema, kind: pa.DataType, file: str) -> Problem:
    if feature.kind == "number":
        allowed, do = "numbers, true and false", "Cast it to a number, with nulls where the value is not known."
    else:
        allowed = f"text, such as {some(feature.categories or [])}"
        do = "Cast it to text, written as in the source that the model was trained from."
    return Problem(f"{file}, column '{feature.name}'", f"type {kind}", allowed, do)
