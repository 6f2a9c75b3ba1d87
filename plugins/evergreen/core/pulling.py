"""Which days of a window are read, and which were read before.

A window is cut at the midnights of UTC. A day that was read before is not read again where the same stretch of it was
read, in the same way, and no row of it was to come or to change any more then: it was older than `source.lateness`,
counted back from the newest event time of the source. A person's run reads all days; the retry of a pull that was
killed takes what that had read.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from evergreen.core.bundle import canonical_json, sha256
from evergreen.core.records import Cause, PulledDay, TriggerRequest
from evergreen.core.window_choice import Span

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.spec import ModelSpec

_INSTANT = timedelta(microseconds=1)  # the next moment: ends are included


@dataclass(frozen=True)
class Stretch:
    """Of one UTC day the rows with `start <= event_time <= end`."""

    day: date
    start: datetime
    end: datetime


def reading_of(spec: ModelSpec, types: Mapping[str, pl.DataType]) -> str:
    """Hash of all that decides what a day's part and its number of rows without a label are, but for the rows."""
    source = spec.source.model_dump(mode="json", exclude={"lateness"})
    columns = [[name, str(kind)] for name, kind in types.items()]
    return sha256(canonical_json([source, columns, spec.label.column, spec.task.value]))


def stretches(spans: Sequence[Span]) -> list[Stretch]:
    """The spans cut at midnight, in order."""
    return [one for start, end in spans for one in _cut(start, end)]


def _cut(start: datetime, end: datetime) -> Iterator[Stretch]:
    while start <= end:
        midnight = datetime.combine(start.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
        yield Stretch(start.astimezone(UTC).date(), start, min(end, midnight - _INSTANT))
        start = midnight


def usable(
    wanted: Sequence[Stretch], known: Iterable[PulledDay], request: TriggerRequest, lateness: timedelta
) -> list[PulledDay]:
    """Those that need not be read again. A day that is wanted in two pieces is not among them."""
    pieces: dict[date, list[Stretch]] = {}
    for one in wanted:
        pieces.setdefault(one.day, []).append(one)

    def is_usable(kept: PulledDay) -> bool:
        same = [(kept.start, kept.end)] == [(one.start, one.end) for one in pieces.get(kept.day, [])]
        own = kept.request_id == request.id and not kept.finished
        return same and (own or (request.cause is not Cause.PERSON and kept.settled(lateness)))

    return [kept for kept in known if is_usable(kept)]


def to_read(wanted: Sequence[Stretch], kept: Collection[date]) -> list[Span]:
    """What is left of them, as few spans as there can be."""
    spans: list[Span] = []
    for one in wanted:
        if one.day in kept:
            continue
        if spans and one.start - spans[-1][1] <= _INSTANT:
            spans[-1] = (spans[-1][0], one.end)
        else:
            spans.append((one.start, one.end))
    return spans


def known_together(kept: Iterable[PulledDay]) -> list[PulledDay]:
    """The most days that one pull has finished with: no key stands twice in them all."""
    finished = sorted((day for day in kept if day.finished), key=lambda day: day.request_id)
    groups = [list(alike) for _, alike in groupby(finished, key=lambda day: day.request_id)]
    return max(groups, key=len, default=[])


def whole_days(chunks: Iterable[pl.DataFrame], event_time: str, least: int) -> Generator[pl.DataFrame, None, None]:
    """Rows in order of event time in frames that end with a day (UTC), of `least` rows or more but for the last."""
    import polars as pl

    whole: list[pl.DataFrame] = []
    open_day: list[pl.DataFrame] = []
    of: date | None = None
    for chunk in chunks:
        if not chunk.height:
            continue
        newest: date = chunk[event_time][-1].date()
        before = int(chunk[event_time].search_sorted(datetime.combine(newest, time(), UTC), side="left"))
        if newest != of:
            whole, open_day, of = [*whole, *open_day, chunk[:before]], [], newest
        open_day.append(chunk[before:])
        if sum(frame.height for frame in whole) >= least:
            yield pl.concat(whole)
            whole = []
    if whole or open_day:
        yield pl.concat([*whole, *open_day])
