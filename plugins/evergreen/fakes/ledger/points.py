"""Values of metrics in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from threading import RLock

from evergreen.core.monitoring.points import Key, as_kept, is_named, key_of, newest_of, news
from evergreen.core.records import MetricPoint
from evergreen.fakes.ledger.times import aware, utc


class InMemoryPoints:
    """Twin of adapters.ledger.points."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[Key, list[MetricPoint]] = {}  # in order of their making: the last one counts

    def put(self, points: Iterable[MetricPoint]) -> int:
        """Keep those that say something new, in one transaction; how many did."""
        with self._lock:
            kept = as_kept(points)
            new = news(kept, {key: self._rows[key][-1] for key in map(key_of, kept) if key in self._rows})
            for point in new:
                self._rows.setdefault(key_of(point), []).append(point)
            return len(new)

    def latest(
        self, model: str, *, names: Collection[str] | None = None, since: datetime | None = None
    ) -> list[MetricPoint]:
        """Of each version, name, slice and period the point that counts, by name, slice, version and start."""
        after = aware(since) if since else None
        with self._lock:
            return [
                rows[-1]
                for key, rows in sorted(self._rows.items())
                if key[0] == model and (names is None or key[1] in names) and (after is None or key[-1] > after)
            ]

    def newest(self, models: Collection[str], names: Collection[str], since: datetime) -> list[MetricPoint]:
        """Of each model, version and metric, over all rows, the point that counts of the newest period."""
        return newest_of([point for model in sorted(models) for point in self.latest(model, names=names, since=since)])

    def history(self, model: str, name: str, slice: str, start: datetime) -> list[MetricPoint]:
        """All points of the periods that begin then, of all versions, in order of `computed_at`."""
        these = (model, name, slice, aware(start))
        with self._lock:
            periods = [rows for key, rows in sorted(self._rows.items()) if (*key[:3], key[4]) == these]
            return sorted((point for rows in periods for point in rows), key=lambda point: point.computed_at)

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
        limit, oldest = aware(before), utc(longest)

        def left(key: Key, rows: list[MetricPoint]) -> list[MetricPoint]:
            if key[0] != model or key[-1] >= limit:
                return rows
            return rows[-1:] if is_named(key[1], keep) and (oldest is None or key[-1] >= oldest) else []

        with self._lock:
            thinned = {key: left(key, rows) for key, rows in self._rows.items()}
            gone = sum(map(len, self._rows.values())) - sum(map(len, thinned.values()))
            if not dry_run:
                self._rows = {key: rows for key, rows in thinned.items() if rows}
            return gone
