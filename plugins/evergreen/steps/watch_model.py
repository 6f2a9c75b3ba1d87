"""One pass of the monitor over one model: what came is counted, the window is measured, rules are judged.

Written in this order: each day that changed; alerts and requests; by whoever makes passes, for many models together,
the states of rules and the points of periods; and the days again, once these are written. A pass that is killed
anywhere goes on from there when it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from evergreen.core import notices
from evergreen.core.monitoring import names
from evergreen.core.monitoring.day import Day, days_of, key_of, merged, period_of, rolling, to_bytes
from evergreen.core.monitoring.window_metrics import Value, metrics_of, users_metrics
from evergreen.core.records import ALL, ANY_VERSION, CHAMPION, MetricPoint
from evergreen.steps.count_answers import count_day, load_day
from evergreen.steps.count_metrics import NAMES
from evergreen.steps.counting import Counting
from evergreen.steps.judge_rules import Judged, Standing, judge_rules
from evergreen.steps.served_counts import count_served

if TYPE_CHECKING:
    from evergreen.core.addresses import Addresses
    from evergreen.core.ports import Ledger, LoggedParts, Served, Store
    from evergreen.core.records import Release, RuleState
    from evergreen.core.spec import ModelSpec
    from evergreen.steps.layouts import Layouts

CANARY = "canary"
LABELS_COME_WITHIN = timedelta(days=7)  # at least so long after an answer its label is looked for
SPACING = 6  # points of a period that changes are written anew so many times in a window, and when it is over
MICRO = timedelta(microseconds=1)
AN_HOUR = 3600  # seconds


@dataclass(frozen=True)
class Watching:
    """What models are watched with. `watermark` tells the newest event time of a model's data, none where unknown."""

    ledger: Ledger
    store: Store
    log: LoggedParts
    layouts: Layouts
    addresses: Addresses
    watermark: Callable[[ModelSpec], datetime | None]


@dataclass
class Watched:
    """What a pass over a model counted and did. `states` and `points` are to be written, then `settle` is to be called:
    it notes that they are."""

    rows: int = 0
    labels: int = 0
    told: list[str] = field(default_factory=list)
    states: list[RuleState] = field(default_factory=list)
    points: list[MetricPoint] = field(default_factory=list)
    settle: Callable[[], None] = lambda: None


def watch_model(
    watching: Watching,
    spec: ModelSpec,
    live: Release | None,
    standing: Standing,
    last: datetime | None,
    served: Sequence[tuple[str, Served]],
    now: datetime,
) -> Watched:
    """Make a pass. `live` is the champion's release, `last` when the model had its turn before."""
    counting = Counting(spec, watching.log, watching.layouts)
    days = _Days(watching.store, counting, now)
    days.count(_first_day(spec, last, now), served, live.version if live else 0)
    found = Watched(days.rows, days.labels, list(_told_in_vain(watching, days)))
    judged = Judged(watching.ledger, spec, standing, live, watching.addresses.model(spec.name), now)
    found.told += judge_rules(judged, _values(watching, counting, days, live), found.states)
    due = [start for start in sorted(_changed(days)) if _is_due(days, start)]
    found.points = [point for start in due for point in _points_of(counting, days, start)]
    found.settle = partial(_settle, days, frozenset(due))
    return found


def reach_of(spec: ModelSpec) -> timedelta:
    """How far back answers and their labels are looked at."""
    reach = max(spec.monitoring.window * 2, spec.label.arrives_after * 2, LABELS_COME_WITHIN)
    return min(reach, spec.retention.keep)


def _first_day(spec: ModelSpec, last: datetime | None, now: datetime) -> date:
    """From which day on a pass looks for new parts. At days that no rule looks at, once an hour is enough."""
    looks_back = last is None or last.timestamp() // AN_HOUR != now.timestamp() // AN_HOUR
    return (now - (reach_of(spec) if looks_back else _longest_window(spec))).astimezone(UTC).date()


def _longest_window(spec: ModelSpec) -> timedelta:
    """How far back a rule looks. Labels of the newest answers are not due yet: rules on labels look back further."""
    labels = any(names.of_labels(rule.name) for rule in spec.rules)
    return spec.monitoring.window + (spec.label.arrives_after if labels else timedelta())


class _Days:
    """The days of a model that a pass looks at: each is read once, and kept once it is counted."""

    def __init__(self, store: Store, counting: Counting, now: datetime) -> None:
        self.spec, self.now, self.rows, self.labels = counting.spec, now, 0, 0
        self._store, self._counting = store, counting
        self._days: dict[date, Day] = {}
        self.counted: list[Day] = []

    def get(self, day: date) -> Day:
        """The day, as the store has it or as it was counted here."""
        if day not in self._days:
            self._days[day] = load_day(self._store, self._counting, day)
        return self._days[day]

    def between(self, start: datetime, end: datetime) -> list[Day]:
        """The days that have a moment of it."""
        return [self.get(day) for day in days_of(start, end)]

    def looked_at(self) -> list[Day]:
        """Those that were read so far."""
        return [self._days[day] for day in sorted(self._days)]

    def put(self, day: Day) -> None:
        """Keep it."""
        self._store.put(key_of(day.model, day.day), to_bytes(day))

    def count(self, first: date, served: Sequence[tuple[str, Served]], champion: int) -> None:
        """Count what has come, day after day, the oldest first: of a backlog, what is counted stays."""
        today = self.now.astimezone(UTC).date()
        for after in range((today - first).days + 1):
            day = first + timedelta(days=after)
            self._count(day, served if day == today else (), champion)

    def _count(self, day: date, served: Sequence[tuple[str, Served]], champion: int) -> None:
        found = self.get(day)
        done = count_day(found, self._counting)
        changed = done.changed
        if served:
            seen = found.served or self.get(day - timedelta(days=1)).served
            changed |= count_served(found, served, seen, champion, self.now, self._counting)
        if changed:
            self.put(found)
            self.counted.append(found)
        self.rows, self.labels = self.rows + done.rows, self.labels + done.labels


# ---------------------------------------------------------------- metrics


def _values(watching: Watching, counting: Counting, days: _Days, live: Release | None) -> dict[str, dict[str, Value]]:
    """By slice and name, of the rolling window and the champion; what is no version's, whether there is one or not."""
    spec, now = counting.spec, days.now
    window = spec.monitoring.window
    of_days = days.between(now - window, now)
    of_no_version = [*_ages(watching, spec, live, now), *users_metrics(of_days, rolling(now, window))]
    found = {ALL: {value.name: value for value in of_no_version}}
    if live is None:
        return found
    for slice, values in _rolling(counting, days, live, window).items():
        found.setdefault(slice, {}).update({one.name: one for one in values})
    if (longest := _longest_window(spec)) > window:
        for slice, values in _rolling(counting, days, live, longest).items():
            found.setdefault(slice, {}).update({one.name: one for one in values if names.of_labels(one.name)})
    found[ALL].setdefault(names.VOLUME, Value(names.VOLUME, 0.0, 0))  # no answer at all is worth a rule
    return found


def _rolling(counting: Counting, days: _Days, live: Release, back: timedelta) -> dict[str, list[Value]]:
    """The champion's metrics of the newest answers, so far back."""
    of_days, within = days.between(days.now - back, days.now), rolling(days.now, back)
    apart = any(rule.slice for rule in counting.spec.rules)
    return _measured(counting, of_days, live.version, live.bundle, (CHAMPION,), within, apart=apart)


def _measured(
    counting: Counting,
    days: Sequence[Day],
    version: int,
    bundle: str,
    arms: Collection[str],
    within: Callable[[int], bool],
    *,
    apart: bool = True,
) -> dict[str, list[Value]]:
    """The metrics of a version by slice; unless `apart`, of all rows together only."""
    layout = counting.layouts.of(bundle, counting.spec.task).layout
    vectors = merged(days, version, arms, layout.size, within, apart=apart)
    least = counting.spec.monitoring.min_rows
    return {
        slice: [one for one in metrics_of(layout, vector, least) if slice == ALL or names.by_slice(one.name)]
        for slice, vector in sorted(vectors.items())
    }


def _ages(watching: Watching, spec: ModelSpec, live: Release | None, now: datetime) -> Iterator[Value]:
    if live:
        yield Value(names.CHAMPION_AGE, (now - live.released_at) / timedelta(hours=1), 0)
    if newest := watching.watermark(spec):
        yield Value(names.DATA_AGE, (now - newest) / timedelta(hours=1), 0)


def _told_in_vain(watching: Watching, days: _Days) -> Iterator[str]:
    """What cannot be used, once a day: labels of a type that the task has not, and of a day that is over those of ids
    that no answer has; values of too many users' metrics."""
    link, model = watching.addresses.model(days.spec.name), days.spec.name
    for day in days.counted:
        is_over = day.day < (days.now - timedelta(hours=1)).astimezone(UTC).date()  # all of it is in the store
        for key, count, what in (
            ("wrong", day.wrong, f"have labels that are none of a {days.spec.task}"),
            ("unknown", day.unknown if is_over else 0, "are of no answer that was logged"),
        ):
            text = f"{count:,} records of ground truth about {day.day} {what}; they are not counted"
            if count and notices.reported(watching.ledger, model, text, f"labels:{key}:{day.day}", link, days.now):
                yield f"{model}: {text}"
        text = f"{day.left_out:,} values posted on {day.day} are of further metrics than the {NAMES} a model may have"
        if day.left_out and notices.reported(watching.ledger, model, text, f"metrics:{day.day}", link, days.now):
            yield f"{model}: {text}"


# ---------------------------------------------------------------- points


def _settle(days: _Days, written: Collection[int]) -> None:
    """Note that the points of these periods are written."""
    for day in days.looked_at():
        gone = {start for start in day.pending if period_of(start, days.spec.monitoring.window) in written}
        if gone:
            day.pending -= gone
            day.written |= {period_of(start, days.spec.monitoring.window): days.now.timestamp() for start in gone}
            days.put(day)


def _changed(days: _Days) -> set[int]:
    """When the periods begin that have buckets which changed."""
    window = days.spec.monitoring.window
    return {period_of(start, window) for day in days.looked_at() for start in day.pending}


def _is_due(days: _Days, start: int) -> bool:
    """Whether a period that has changed is to be written: the first time, when it is over, and else now and then."""
    watching, now = days.spec.monitoring, days.now.timestamp()
    last = max((day.written[start] for day in days.looked_at() if start in day.written), default=None)
    end = start + watching.window.total_seconds()
    if last is None or last < end <= now:
        return True
    return now - last >= max(watching.every, watching.window / SPACING).total_seconds()


def _points_of(counting: Counting, days: _Days, begin: int) -> Iterator[MetricPoint]:
    spec, start = counting.spec, datetime.fromtimestamp(begin, UTC)
    end = start + spec.monitoring.window
    of_days = days.between(start, end - MICRO)
    inside = range(begin, int(end.timestamp()))
    bundles = {version: bundle for day in of_days for version, bundle in day.bundles.items()}
    for one in users_metrics(of_days, inside.__contains__):
        yield MetricPoint(spec.name, ANY_VERSION, one.name, ALL, start, end, one.value, one.rows, days.now)
    for version, bundle in sorted(bundles.items()):
        measured = _measured(counting, of_days, version, bundle, (CHAMPION, CANARY), inside.__contains__)
        for slice, values in measured.items():
            for one in values:
                yield MetricPoint(
                    spec.name, version, one.name, slice, start, end, one.value, one.rows, days.now, one.low, one.high
                )
