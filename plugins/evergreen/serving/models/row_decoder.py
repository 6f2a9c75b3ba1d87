"""From a good JSON body straight to the matrix, by structs made from the bundle's schema.

Only what is perfectly good is read here. Anything else, from an unknown key to a category that training did not see, is
none: the caller's slow path reads it again and says what is wrong, so that each rule and each text stands once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from evergreen.serving.models.encoder import Schema

_NAN = float("nan")


class RowDecoder:
    """Reads `{"records": [{…}]}` and `{"columns": {"<feature>": […]}}` of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._width = len(schema.features)
        self._pack = struct.Struct(f"={self._width}f")
        self._codes: list[tuple[int, dict[str | None, float]]] = [
            (position, {None: _NAN, **{c: float(i) for i, c in enumerate(feature.categories or [])}})
            for position, feature in enumerate(schema.features)
            if feature.kind == "category"
        ]
        self._decode = _decoder(schema)
        names = [f"f{position}" for position in range(self._width)]
        self._values: Any = attrgetter(*names) if self._width > 1 else msgspec.structs.astuple

    def read(self, body: bytes) -> np.ndarray | None:
        """float32, rows by features, without an infinity; none where the body is not perfectly good."""
        try:
            found = self._decode(body) if self._decode else None
            if found is None or (found.records is UNSET) == (found.columns is UNSET):
                return None
            return self._from_rows(found.records) if found.columns is UNSET else self._from_columns(found.columns)
        except (ValueError, OverflowError, KeyError, RecursionError):  # ValueError: msgspec's, and broken UTF-8
            return None

    def _from_rows(self, records: Sequence[Any]) -> np.ndarray | None:
        rows, pack, offset = len(records), self._pack, 0
        if not rows:
            return None
        buffer = bytearray(rows * pack.size)
        for record in records:
            values = self._values(record)
            if self._codes:
                values = list(values)
                for position, codes in self._codes:
                    values[position] = codes[values[position]]
            try:
                pack.pack_into(buffer, offset, *values)  # raises OverflowError for what is no finite float32
            except struct.error:
                pack.pack_into(buffer, offset, *[_NAN if value is None else value for value in values])
            offset += pack.size
        return np.ndarray((rows, self._width), np.float32, buffer)

    def _from_columns(self, columns: Any) -> np.ndarray | None:
        found = list(msgspec.structs.astuple(columns))
        rows = len(found[0])
        if not rows or any(len(column) != rows for column in found):
            return None
        for position, codes in self._codes:
            found[position] = [codes[value] for value in found[position]]
        matrix = np.empty((rows, self._width), dtype=np.float32)
        with np.errstate(over="ignore"):
            for position, column in enumerate(found):
                matrix[:, position] = np.array(column, dtype=np.float32)  # None becomes NaN
        return None if np.isinf(matrix).any() else matrix


def _decoder(schema: Schema) -> Any:
    """Decodes a body into attributes f0, f1, … named as the features; none where msgspec cannot take their names."""
    kinds = [str | None if feature.kind == "category" else float | None for feature in schema.features]
    names = {f"f{position}": feature.name for position, feature in enumerate(schema.features)}

    def made(name: str, types: Sequence[Any], rename: dict[str, str] | None = None) -> Any:
        fields = [(f"f{position}", kind) for position, kind in enumerate(types)]
        return msgspec.defstruct(name, fields, rename=rename, forbid_unknown_fields=True, gc=False)

    try:
        row: Any = made("Row", kinds, names)
        columns = made("Columns", [list[kind] for kind in kinds], names)  # type: ignore[valid-type]
    except ValueError:  # a quote, a backslash or a control character in a name
        return None
    body = msgspec.defstruct(
        "Body",
        [("records", list[row] | UnsetType, UNSET), ("columns", columns | UnsetType, UNSET)],
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(body).decode
