"""Values of metrics in SQL: points are only added; `counts` marks the one of its period that was computed last."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, not_, or_, select, text, update

from evergreen.adapters.ledger.engine import Database
from evergreen.adapters.ledger.tables import metric_point as t
from evergreen.core.monitoring.points import Key, as_kept, key_of, newest_of, news
from evergreen.core.records import ALL, MetricPoint

_ADVISORY_LOCK = 0x45564753  # any number that nobody else locks in this database
_AT_ONCE = 5000  # values in one statement; SQLite takes 32,766


class SqlPoints:
    """Implements core.ports.Points."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, points: Iterable[MetricPoint]) -> int:
        """Keep those that say something new, in one transaction; how many did."""
        kept = as_kept(points)
        if not kept:
            return 0
        with self._database.write() as connection:
            if not self._database.is_sqlite:  # where the transaction itself is the lock: two must not read the same
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            numbers, counting = _counting(connection, kept)
            new = news(kept, counting)
            last = {key_of(point): point for point in new}
            _overtake(connection, [numbers[key] for key in last if key in numbers])
            if new:
                rows = [{**vars(point), "counts": last[key_of(point)] is point} for point in new]
                connection.execute(insert(t), rows)
            return len(new)

    def latest(
        self, model: str, *, names: Collection[str] | None = None, since: datetime | None = None
    ) -> list[MetricPoint]:
        """Of each version, name, slice and period the point that counts, by name, slice, version and start."""
        query = select(t).where(t.c.counts, t.c.model == model)
        if names is not None:
            query = query.where(t.c.name.in_(names))
        if since is not None:
            query = query.where(t.c.end > since)
        with self._database.read() as connection:
            found = [_record(row) for row in connection.execute(query)]
        return sorted(found, key=key_of)  # not by the database, each of which orders words as it likes

    def newest(self, models: Collection[str], names: Collection[str], since: datetime) -> list[MetricPoint]:
        """Of each model, version and metric, over all rows, the point that counts of the newest period."""
        found: list[MetricPoint] = []
        with self._database.read() as connection:
            for some in _in_lots(sorted(models)):
                these = (t.c.model.in_(some), t.c.end > since, t.c.name.in_(names), t.c.slice == ALL)
                found += [_record(row) for row in connection.execute(select(t).where(t.c.counts, *these))]
        return newest_of(found)

    def history(self, model: str, name: str, slice: str, start: datetime) -> list[MetricPoint]:
        """All points of the periods that begin then, of all versions, in order of `computed_at`."""
        these = (t.c.model == model, t.c.name == name, t.c.slice == slice, t.c.start == start)
        query = select(t).where(*these).order_by(t.c.computed_at, t.c.version, t.c.end, t.c.seq)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def thin(
        self,
        model: str,
        before: datetime,
        *,
        keep: Collection[str] = (),
        longest: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove points of a model's periods that ended before then, but for those that count of the metrics named."""
        kept = and_(t.c.counts, _is_named(keep))
        if longest is not None:
            kept = and_(kept, t.c.end >= longest)
        these = and_(t.c.model == model, t.c.end < before, not_(kept))
        if dry_run:
            with self._database.read() as connection:
                return connection.scalar(select(func.count()).where(these)) or 0
        with self._database.write() as connection:
            return connection.execute(delete(t).where(these)).rowcount


def _counting(connection: Connection, points: list[MetricPoint]) -> tuple[dict[Key, int], dict[Key, MetricPoint]]:
    """What counts of the models and ends of these points, and maybe more: `seq` and point by key."""
    ends: dict[str, set[datetime]] = {}
    for point in points:
        ends.setdefault(point.model, set()).add(point.end)
    alike: dict[frozenset[datetime], list[str]] = {}  # mostly all of a pass: then it is one query
    for model, its in ends.items():
        alike.setdefault(frozenset(its), []).append(model)
    numbers: dict[Key, int] = {}
    found: dict[Key, MetricPoint] = {}
    for its, models in alike.items():
        query = select(t).where(t.c.counts, t.c.model.in_(models), t.c.end.in_(its))
        for row in connection.execute(query):
            point = _record(row)
            numbers[key_of(point)], found[key_of(point)] = row.seq, point
    return numbers, found


def _overtake(connection: Connection, numbers: list[int]) -> None:
    for some in _in_lots(numbers):
        connection.execute(update(t).where(t.c.seq.in_(some)).values(counts=False))


def _in_lots(values: list[Any]) -> Iterator[list[Any]]:
    return (values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE))


def _is_named(names: Iterable[str]) -> ColumnElement[bool]:
    """As core.monitoring.points.is_named; not by LIKE, for which SQLite takes Q and q for the same."""
    starts = [func.substr(t.c.name, 1, len(name)) == name for name in names if name.endswith(".")]
    return or_(t.c.name.in_([name for name in names if not name.endswith(".")]), *starts)


def _record(row: Row[Any]) -> MetricPoint:
    return MetricPoint(*row[2:])  # all but `seq` and `counts`
