"""What serving logged, in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from evergreen.core import logged_parts as parts
from evergreen.core.ports import LoggedRow, Removed

if TYPE_CHECKING:
    import polars as pl


class InMemoryPredictions:
    """Rows in lists; a test fills them. Each row of `answers` has all columns of a part, and its model's features.

    What has come since the last listing of parts becomes one part of each day.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.truths: dict[str, list[dict[str, Any]]] = {}
        self.metrics: dict[str, list[dict[str, Any]]] = {}
        self._parts: dict[str, list[dict[str, Any]]] = {}

    def models(self) -> list[str]:
        """The models that have rows."""
        return sorted(model for model in {*self.answers, *self.truths} if self._all(model))

    def days(self, model: str) -> list[date]:
        """The days that have answers, oldest first."""
        return sorted({_day(row) for row in self.answers.get(model, [])})

    def read(self, model: str, first: date, last: date, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The answers of these days, in order of their ids; columns that not all versions have are null elsewhere."""
        import polars as pl

        rows = _between(self.answers.get(model, []), first, last)
        names = list(dict.fromkeys([*parts.OWN, *(name for row in rows for name in row)]))
        frame = pl.DataFrame([{name: row.get(name) for name in names} for row in rows], schema=None if rows else names)
        return frame if columns is None else frame.select(name for name in columns if name in frame.columns)

    def truth(self, model: str, first: date, last: date) -> pl.DataFrame:
        """What was told of the answers of these days, in order of their ids; of one told twice the later."""
        import polars as pl

        rows = sorted(_between(self.truths.get(model, []), first, last), key=lambda row: row[parts.AT])
        latest = {row[parts.ID]: row for row in rows}
        names = (parts.ID, parts.LABEL, parts.LABEL_TEXT, parts.AT, parts.CALLER)
        return pl.DataFrame([latest[one] for one in sorted(latest)], schema=None if latest else list(names))

    def find(self, inference_id: str) -> LoggedRow | None:
        """One answer."""
        for model, rows in self.answers.items():
            for row in rows:
                if row[parts.ID] == inference_id.lower():
                    facts = {name: row[name] for name in parts.OWN}
                    features = {n.removeprefix("feature."): v for n, v in row.items() if n not in parts.OWN}
                    return LoggedRow(model, facts, features)
        return None

    def ids_of(self, model: str, wanted: Callable[[str, int], bool]) -> list[str]:
        """The inference ids of answers whose key and time (Unix ms) are wanted; those without a key are not asked."""
        named = [row for row in self.answers.get(model, []) if row[parts.KEY] is not None]
        return [row[parts.ID] for row in named if wanted(row[parts.KEY], _milliseconds(row[parts.AT]))]

    def remove(self, model: str, ids: Collection[str]) -> Removed:
        """Remove rows of these ids."""
        before = len(self.answers.get(model, [])), len(self.truths.get(model, []))
        for rows in (self.answers, self.truths):
            if model in rows:
                rows[model] = [row for row in rows[model] if row[parts.ID] not in ids]
        after = len(self.answers.get(model, [])), len(self.truths.get(model, []))
        return Removed(before[0] - after[0], before[1] - after[1], [])

    def parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of a day's answers, in order: that of their first rows."""
        return self._listed(parts.PREDICTIONS, model, day, self.answers.get(model, []))

    def truth_parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of ground truth about a day's answers, in order."""
        return self._listed(parts.TRUTH, model, day, self.truths.get(model, []))

    def metric_parts(self, model: str, day: date) -> list[str]:
        """The keys of the parts of users' metrics of a day, in order."""
        return self._listed(parts.METRICS, model, day, self.metrics.get(model, []))

    def part(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """The rows of a part, of these columns those that it has; none where it is gone."""
        import polars as pl

        model = key.split("/")[2]
        there = {id(row) for row in self._all(model)}
        rows = [row for row in self._parts.get(key, []) if id(row) in there]
        if not rows:
            return None
        frame = pl.DataFrame(rows, infer_schema_length=None)
        return frame if columns is None else frame.select(name for name in columns if name in frame.columns)

    def _listed(self, folder: str, model: str, day: date, rows: list[dict[str, Any]]) -> list[str]:
        begin = f"{folder}{model}/{day}/"
        known = {id(row) for key, held in self._parts.items() if key.startswith(begin) for row in held}
        new = [row for row in _between(rows, day, day) if id(row) not in known]
        if new:
            number = sum(key.startswith(begin) for key in self._parts)
            self._parts[parts.part_key(folder, model, day, f"{number:032x}")] = new
        there = {id(row) for row in rows}
        return sorted(k for k, held in self._parts.items() if k.startswith(begin) and any(id(r) in there for r in held))

    def _all(self, model: str) -> list[dict[str, Any]]:
        return [*self.answers.get(model, []), *self.truths.get(model, []), *self.metrics.get(model, [])]


def _day(row: dict[str, Any]) -> date:
    told = parts.milliseconds_of(row[parts.ID]) if parts.ID in row else _milliseconds(row[parts.AT])
    assert told is not None, row
    return parts.day_of(told)


def _between(rows: list[dict[str, Any]], first: date, last: date) -> list[dict[str, Any]]:
    return sorted((row for row in rows if first <= _day(row) <= last), key=lambda row: str(row.get(parts.ID)))


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
