"""Columns of which is known that no value stands twice in some parts: a new part is compared with these, and no more.

Kept with the newest of them, at 'validated/<model>/<day>-<hash of the part>/<hash of the column>.json', and gone with
it. A list that is damaged or missing costs one comparison of all with all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from evergreen.adapters.gx_validator import frames
from evergreen.core.bundle import sha256
from evergreen.core.ports import PartRows, Store
from evergreen.core.retention import validated_key
from evergreen.core.unique_keys import Keys, twice

_AT_ONCE = 5_000_000  # hashes in memory, 40 MB
_LOOKED_AT = 5  # of the newest parts: a window ends with a new day or two


@dataclass(frozen=True)
class Unlike:
    """One column of a window, of which so many values are `missing` in each part: these have no like."""

    store: Store
    parts: Sequence[PartRows]
    column: str
    dtype: pl.DataType
    missing: Sequence[int]

    def holds(self) -> bool:
        """Whether no value stands twice; then it is known of these parts."""
        known = self._known()
        keys = [self._keys(part, missing) for part, missing in zip(self.parts, self.missing, strict=True)]
        old = [of_part for of_part, part in zip(keys, self.parts, strict=True) if part.key in known]
        new = [of_part for of_part, part in zip(keys, self.parts, strict=True) if part.key not in known]
        if new and twice(new, old, at_once=_AT_ONCE) is not None:
            return False
        if new and all(part.key for part in self.parts):
            self.store.put(self._place(self.parts[-1]), json.dumps([part.key for part in self.parts]).encode())
        return True

    def _known(self) -> set[str]:
        for part in self.parts[: -_LOOKED_AT - 1 : -1]:
            try:
                return set(json.loads(self.store.get(self._place(part)))) if part.key else set()
            except (KeyError, ValueError):
                continue
        return set()

    def _place(self, part: PartRows) -> str:
        return validated_key(part.key, sha256(f"unlike {self.column}".encode()))

    def _keys(self, part: PartRows, missing: int) -> Keys:
        """Hashes are kept of all values as they are stored, so they serve where these are what is compared."""
        values = partial(self._values, part)
        if not missing and frames.is_compared_as_stored(self.dtype):
            return Keys(part.height, values, partial(part.hashes, self.column))
        return Keys(part.height, values, lambda: values().hash().to_numpy())

    def _values(self, part: PartRows) -> pl.Series:
        column = frames.plain(part.skim([self.column]))[self.column]
        return column.filter(~frames.is_missing(column))
