"""What serving logged, read from its Parquet parts in the store with Polars."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import polars as pl

from evergreen.core import logged_parts as parts
from evergreen.core.ports import LoggedRow, Removed

if TYPE_CHECKING:
    from evergreen.core.ports import Store

_NO_TRUTH = {
    parts.ID: pl.String,
    parts.LABEL: pl.Float64,
    parts.LABEL_TEXT: pl.String,
    parts.AT: pl.Datetime("ms", "UTC"),
    parts.CALLER: pl.String,
}
_NO_PREDICTIONS = {
    parts.ID: pl.String,
    parts.AT: pl.Datetime("ms", "UTC"),
    parts.VERSION: pl.Int64,
    parts.RELEASE: pl.String,
    parts.ARM: pl.String,
    parts.KEY: pl.String,
    parts.PREDICTION: pl.Float32,
    parts.UNSEEN: pl.String,
}


class LoggedPredictions:
    """The Predictions and LoggedParts of a store. Parts come and go while this reads: one that is gone has no rows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def models(self) -> list[str]:
        """The models that have rows."""
        return sorted(parts.models_in([*self._store.keys(parts.PREDICTIONS), *self._store.keys(parts.TRUTH)]))

    def days(self, model: str) -> list[date]:
        """The days that have answers, oldest first."""
        days = map(parts.day_of_part, self._store.keys(f"{parts.PREDICTIONS}{model}/"))
        return sorted({day for day in days if day is not None})

    def read(self, model: str, first: date, last: date, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The answers of these days, in order of their ids; columns that not all versions have are null elsewhere."""
        wanted = None if columns is None else list(dict.fromkeys([parts.ID, *columns]))
        frames = [pl.DataFrame(schema=_NO_PREDICTIONS), *self._frames(parts.PREDICTIONS, model, first, last, wanted)]
        if any(frame.schema.get(parts.PREDICTION) == pl.List(pl.Float32) for frame in frames):
            frames = [frame.with_columns(_as_list(frame)) for frame in frames]
        rows = pl.concat(frames, how="diagonal_relaxed").sort(parts.ID)
        return rows if columns is None else rows.select(name for name in columns if name in rows.columns)

    def truth(self, model: str, first: date, last: date) -> pl.DataFrame:
        """What was told of the answers of these days, in order of their ids; of one told twice the later."""
        frames = [pl.DataFrame(schema=_NO_TRUTH), *self._frames(parts.TRUTH, model, first, last)]
        return pl.concat(frames).sort(parts.ID, parts.AT).unique(parts.ID, keep="last", maintain_order=True)

    def find(self, inference_id: str) -> LoggedRow | None:
        """One answer. Segments are named after the time of their first row: the last one before it comes first."""
        told = parts.milliseconds_of(inference_id)
        if told is None:
            return None
        day, wanted = parts.day_of(told), pl.col(parts.ID) == inference_id.lower()
        keys = [key for key in self._store.keys(parts.PREDICTIONS) if parts.day_of_part(key) == day]
        for key in sorted(keys, key=lambda key: _distance(key, told)):
            ids = self.part(key, [parts.ID])
            if ids is not None and ids.filter(wanted).height:
                rows = self.part(key)
                if rows is not None and (row := rows.filter(wanted)).height:
                    return _as_row(key.split("/")[2], row.row(0, named=True))
        return None

    def ids_of(self, model: str, wanted: Callable[[str, int], bool]) -> list[str]:
        """The inference ids of answers whose key and time (Unix ms) are wanted; those without a key are not asked."""
        found = []
        for key in self._store.keys(f"{parts.PREDICTIONS}{model}/"):
            rows = self.part(key, [parts.ID, parts.AT, parts.KEY])
            if rows is None:
                continue
            named = rows.filter(pl.col(parts.KEY).is_not_null()).with_columns(pl.col(parts.AT).dt.epoch("ms"))
            found += [one for one, at, key in named.iter_rows() if wanted(key, at)]
        return found

    def remove(self, model: str, ids: Collection[str]) -> Removed:
        """Rewrite every part that has rows of these ids without them, ground truth first. Each in one step."""
        gone, days = pl.Series(parts.ID, sorted(ids), pl.String), {_day(one) for one in ids}
        counts, touched = {parts.PREDICTIONS: 0, parts.TRUTH: 0}, []
        for folder in (parts.TRUTH, parts.PREDICTIONS):  # a kill in between must not lose the ids of what is left
            for key in self._store.keys(f"{folder}{model}/"):
                if parts.day_of_part(key) in days and (rows := self._without(key, gone)):
                    counts[folder] += rows
                    touched.append(key)
        return Removed(counts[parts.PREDICTIONS], counts[parts.TRUTH], touched)

    def _without(self, key: str, gone: pl.Series) -> int:
        """Rewrite one part; how many rows went."""
        hit = pl.col(parts.ID).is_in(gone.implode())
        ids = self.part(key, [parts.ID])
        if ids is None or not (count := ids.filter(hit).height):
            return 0
        rows = self.part(key)
        if rows is None:
            return 0
        left = rows.filter(~hit)
        if left.height:
            buffer = io.BytesIO()
            left.write_parquet(buffer, compression="zstd")
            self._store.put(key, buffer.getvalue())
        else:
            self._store.remove(key)
        return count

    def _frames(
        self, folder: str, model: str, first: date, last: date, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        for key in self._store.keys(f"{folder}{model}/"):
            day = parts.day_of_part(key)
            if day is not None and first <= day <= last and (rows := self.part(key, columns)) is not None:
                yield rows

    def parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of a day's answers, in order: that of their first rows."""
        return self._store.keys(f"{parts.PREDICTIONS}{model}/{day}/")

    def truth_parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of ground truth about a day's answers, in order."""
        return self._store.keys(f"{parts.TRUTH}{model}/{day}/")

    def metric_parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of users' metrics of a day, in order."""
        return self._store.keys(f"{parts.METRICS}{model}/{day}/")

    def part(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """The rows of a part, of these columns those that it has; none where it is gone."""
        try:
            data = self._store.get(key)
        except KeyError:  # removed since it was listed
            return None
        if columns is None:
            return pl.read_parquet(io.BytesIO(data))
        has = pl.read_parquet_schema(io.BytesIO(data))
        return pl.read_parquet(io.BytesIO(data), columns=[name for name in columns if name in has])


def _as_list(frame: pl.DataFrame) -> list[pl.Expr]:
    """A single number as a list of one, for a model that has had both."""
    scalar = frame.schema.get(parts.PREDICTION) == pl.Float32
    return [pl.concat_list(parts.PREDICTION).alias(parts.PREDICTION)] if scalar else []


def _day(inference_id: str) -> date | None:
    told = parts.milliseconds_of(inference_id)
    return None if told is None else parts.day_of(told)


def _distance(key: str, told: int) -> tuple[bool, int]:
    """How far a segment's beginning is from a time; those that began later come last."""
    began = int(key.rpartition("/")[2][:12], 16)
    return began > told, abs(told - began)


def _as_row(model: str, row: dict[str, object]) -> LoggedRow:
    facts = {name: value for name, value in row.items() if name in parts.OWN}
    if isinstance(at := facts.get(parts.AT), datetime):
        facts[parts.AT] = at.astimezone(UTC)
    features = {name.removeprefix("feature."): value for name, value in row.items() if name not in parts.OWN}
    return LoggedRow(model, facts, features)
