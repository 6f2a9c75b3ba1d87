"""Finds the answers that were given to request keys (x-request-key, as logged): what labels by key are joined with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core.monitoring.key_index import KeyIndex, from_bytes, key_of, to_bytes
from evergreen.steps.counting import SHADOW

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from evergreen.core.ports import LoggedParts, Store

_COLUMNS = (parts.ID, parts.AT, parts.KEY, parts.ARM)


@dataclass(frozen=True)
class Answers:
    """Of a model. Each part is read once for the index of its day, and again only where it may hold a key."""

    store: Store
    log: LoggedParts
    model: str

    def of(self, keys: pl.Series, days: Iterable[date]) -> pl.DataFrame:
        """The answers of these days to these keys: columns key, inference_id, at; those of shadows are left out."""
        import polars as pl

        empty = pl.DataFrame(schema={parts.KEY: pl.String, parts.ID: pl.String, parts.AT: pl.Datetime("ms", "UTC")})
        keys = keys.unique()
        hashes = keys.hash().to_numpy()
        found = [self._in_part(part, keys) for day in days for part in self._index(day).parts_of(hashes)]
        return pl.concat([empty, *(frame.select(empty.columns) for frame in found)], how="vertical_relaxed")

    def _in_part(self, part: str, keys: pl.Series) -> pl.DataFrame:
        import polars as pl

        return self._keyed(part).filter(pl.col(parts.KEY).is_in(keys.implode()))

    def _keyed(self, part: str) -> pl.DataFrame:
        """The rows of a part that have a key; none where it is gone."""
        import polars as pl

        frame = self.log.part(part, _COLUMNS)
        if frame is None:
            return pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.String))
        return frame.filter(pl.col(parts.KEY).is_not_null(), pl.col(parts.ARM) != SHADOW)

    def _index(self, day: date) -> KeyIndex:
        """The day's, brought up to date."""
        import polars as pl

        place, salt = key_of(self.model, day), pl.__version__
        try:
            index = from_bytes(self.store.get(place), salt)
        except (KeyError, ValueError):
            index = KeyIndex.empty()
        known = set(index.parts)
        new = [part for part in self.log.parts(self.model, day) if part not in known]
        for part in new:
            index.add(part, self._keyed(part)[parts.KEY].hash().to_numpy())
        if new:
            self.store.put(place, to_bytes(index, salt))
        return index


def one_a_request(answers: pl.DataFrame) -> pl.DataFrame:
    """Those whose request had one row: of others nobody can say which of its rows a label by key is about."""
    import polars as pl

    return answers.filter(pl.len().over(parts.KEY, parts.AT) == 1)


def keys_of(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column of keys as callers send them: as text, a whole number without a point."""
    import polars as pl

    key = pl.col(column)
    if frame.schema[column].is_float():
        return pl.when(key == key.floor()).then(key.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(None)
    return key.cast(pl.String)
