"""From the tensors of an infer request to the columns of a version's schema, strictly."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import chain
from math import prod
from typing import Any

import msgspec
import numpy as np

from evergreen.serving.models.encoder import Encoded, Encoder
from evergreen.serving.protocols.binary_tensors import DTYPES, SIZE, Tail, numbers, texts
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, shown, some

_FLOATS = ("FP16", "FP32", "FP64")
_VALUES: dict[str, frozenset[type]] = {
    **{datatype: frozenset({int, type(None)}) for datatype in DTYPES},
    **dict.fromkeys(_FLOATS, frozenset({int, float, type(None)})),
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
}
DATATYPES = tuple(_VALUES)
_ONE_EACH = "one tensor a feature, of shape [rows] or [rows, 1], with at least one row"


class Tensor(msgspec.Struct):
    """One input tensor: `data` in JSON, or `binary_data_size` among its parameters."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class Column(msgspec.Struct):
    """A tensor's values, flat: a list of JSON values, or an array of numbers."""

    tensor: Tensor
    values: Sequence[Any] | np.ndarray


def encode(tensors: list[Tensor], raw: memoryview, encoder: Encoder, problems: Problems) -> Encoded:
    """The rows as the booster takes them. Raises RequestRefused, also for the problems found before."""
    if not tensors:
        raise refuse(422, "inputs", found="no tensor", allowed=_ONE_EACH, do="Send one value a row in each tensor.")
    columns = _with_values(tensors, raw, encoder, problems)
    if _holds_all_features(tensors, encoder):
        return _matrix(columns[0], encoder, problems)
    rows = _rows(columns[0])
    return encoder.encode(_by_feature(columns, encoder, rows, problems), rows, problems)


def _with_values(tensors: list[Tensor], raw: memoryview, encoder: Encoder, problems: Problems) -> list[Column]:
    """Each tensor with its values, and with none where they are wrong: told in `problems`."""
    tail, columns = Tail(raw), []
    for tensor in tensors:
        size = (tensor.parameters or {}).get(SIZE)
        binary = None if size is None else tail.take(tensor.name, size)
        found = _unread(tensor, binary) or _values(tensor, binary, encoder)
        if isinstance(found, Problem):
            problems.add(copy, found)
            found = [None] * _claimed(tensor, len(tensor.data or ()) or len(binary or b""))
        columns.append(Column(tensor, found))
    tail.end()
    return columns


def _claimed(tensor: Tensor, most: int) -> int:
    """How many values the shape claims, as far as the body could hold them."""
    shape = tensor.shape
    return min(prod(shape), most) if len(shape) <= 2 and all(size > 0 for size in shape) else 0


def _unread(tensor: Tensor, binary: memoryview | None) -> Problem | None:
    """Why the values cannot be read at all."""
    where = f"input '{tensor.name[:60]}'"
    if tensor.datatype not in _VALUES:
        found = f"datatype {shown(tensor.datatype)}"
        return Problem(where, found, some(tuple(_VALUES)), "Use one of these datatypes.")
    if "shared_memory_region" in (tensor.parameters or {}):
        return Problem(where, "shared memory", "data or binary_data_size", "Send the values with the request.")
    if (tensor.data is None) == (binary is None):
        found = "neither data nor binary_data_size" if binary is None else "data and binary_data_size"
        return Problem(where, found, "one of the two", "Send the values once, as JSON or behind it.")
    return None


def _values(tensor: Tensor, binary: memoryview | None, encoder: Encoder) -> Sequence[Any] | np.ndarray | Problem:
    if binary is None:
        return _json_values(tensor)
    try:
        if tensor.datatype != "BYTES":
            return numbers(binary, tensor.datatype)
        return texts(binary, empty="" if encoder.knows(tensor.name, "") else None)
    except ValueError as error:
        found = f"bytes that are no {tensor.datatype}: {error}"
        return Problem(f"input '{tensor.name[:60]}'", found, "as the binary tensor extension says", "Send it anew.")


def _json_values(tensor: Tensor) -> list[Any] | Problem:
    """The values, flat; booleans as 1 and 0, because the caller declared them."""
    data, kinds, wide = tensor.data or [], _VALUES[tensor.datatype], 1
    if len(tensor.shape) == 2 and all(type(row) is list and len(row) == tensor.shape[1] for row in data):
        data = list(chain.from_iterable(data))
    if len(tensor.shape) == 2 and not any(type(row) is list for row in data):
        wide = max(tensor.shape[1], 1)
    if not set(map(type, data)) <= kinds:
        at, value = next((at, value) for at, value in enumerate(data) if type(value) not in kinds)
        return Problem(
            f"row {at // wide}, feature '{tensor.name[:60]}'",
            shown(value),
            f"values of datatype {tensor.datatype}, or null",
            "Declare the datatype that the values have.",
        )
    return [None if value is None else int(value) for value in data] if tensor.datatype == "BOOL" else data


def _holds_all_features(tensors: list[Tensor], encoder: Encoder) -> bool:
    """One tensor of shape [rows, features] under a name of its own."""
    (first, *others), wide = tensors, len(encoder.names)
    return not others and wide > 1 and first.name not in encoder.names and first.shape[1:] == [wide]


def _matrix(column: Column, encoder: Encoder, problems: Problems) -> Encoded:
    """Features in the schema's order. Raises RequestRefused where one of them is a category: it has no number."""
    tensor, values, wide = column.tensor, column.values, len(encoder.names)
    rows = tensor.shape[0]
    if categories := [feature.name for feature in encoder.features if feature.kind == "category"]:
        do = f"Send one tensor a feature; {some(categories)} as BYTES."
        problems.add(Problem, f"input '{tensor.name[:60]}'", "a tensor of all features", _ONE_EACH, do)
    problems.raise_if_any()
    if rows < 1 or len(values) != rows * wide:
        raise _shape(tensor, len(values), f"shape [rows, {wide}] with so many values, and at least one row")
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):
            matrix = np.require(values.reshape(rows, wide), np.float32, ["C_CONTIGUOUS", "ALIGNED"])
        if not np.isinf(matrix).any():
            return Encoded(matrix, [])
        values = values.tolist()
    return encoder.encode({name: values[i::wide] for i, name in enumerate(encoder.names)}, rows, problems)


def _rows(first: Column) -> int:
    """The number of rows: the first dimension of the first tensor."""
    rows = first.tensor.shape[0] if first.tensor.shape else 0
    if rows < 1 or rows > len(first.values):
        raise _shape(first.tensor, len(first.values), _ONE_EACH)
    return rows


def _shape(tensor: Tensor, values: int, allowed: str) -> Exception:
    found = _told(tensor, values)
    return refuse(422, f"input '{tensor.name[:60]}'", found=found, allowed=allowed, do="Correct the shape.")


def _told(tensor: Tensor, values: int) -> str:
    return f"shape {str(tensor.shape)[:60]} with {values} values"


def _by_feature(columns: list[Column], encoder: Encoder, rows: int, problems: Problems) -> dict[str, Any]:
    """One column a feature. What is wrong is told in `problems`, and reads as missing."""
    found: dict[str, Any] = {}
    for column in columns:
        name = column.tensor.name
        if name not in encoder.names:
            problems.add(_unknown, name, encoder.names)
        elif name in found:
            problems.add(_twice, name)
        else:
            found[name] = _of_shape(column, rows, problems)
    for name in encoder.names:
        if name not in found:
            problems.add(_absent, name)
            found[name] = [None] * rows
    return found


def _of_shape(column: Column, rows: int, problems: Problems) -> Sequence[Any] | np.ndarray:
    tensor, values = column.tensor, column.values
    if tensor.shape in ([rows], [rows, 1]) and len(values) == rows:
        return values
    problems.add(
        lambda: Problem(
            f"input '{tensor.name}'",
            _told(tensor, len(values)),
            f"shape [{rows}] or [{rows}, 1] with {rows} values, as the first tensor",
            "Send one value a row in each tensor.",
        )
    )
    return [None] * rows


def _unknown(name: str, names: tuple[str, ...]) -> Problem:
    do = f"{did_you_mean(name, names)}Leave out what the model does not use."
    return Problem(f"input '{name[:60]}'", "no such feature", some(names), do)


def _twice(name: str) -> Problem:
    return Problem(f"input '{name}'", "it twice", "one tensor a feature", "Send it once.")


def _absent(name: str) -> Problem:
    return Problem(f"feature '{name}'", "no such tensor", "one tensor a feature", "Send null for missing values.")
