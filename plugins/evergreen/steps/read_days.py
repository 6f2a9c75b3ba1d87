"""The days of a window, each kept as it was read before or read now: in pull, and nowhere else.

Rows stream: while batches of whole days are checked, sorted, hashed and written, the next one is read. So what is in
memory is bounded, however long the window; and what a killed pull has written, its retry does not read again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from evergreen.core.ahead import ahead, side_by_side
from evergreen.core.errors import RowsRefused, SourceUnavailable
from evergreen.core.pulled import check_keys, check_labelled, check_types, has_label, keys_twice
from evergreen.core.pulling import Stretch, known_together, reading_of, stretches, to_read, usable, whole_days
from evergreen.core.records import Lease, Part, PulledDay, TriggerRequest
from evergreen.core.unique_keys import Keys, twice
from evergreen.core.window_choice import Span

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Ledger, Snapshots, Source
    from evergreen.core.spec import ModelSpec

AT_ONCE = 50_000  # rows in a batch, or the least number of whole days with more
WRITERS = 2  # batches that are checked, sorted, hashed and written at a time
TELL = 5.0  # seconds between two lines in the log
REMEMBER = 1.0  # seconds of work that a kill may lose
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadDays:
    """The days that a window wants, in order, those without a row too, and the types of their columns.

    `in_pieces`: those that it wants in several stretches. What was read of them is no one stretch, so it is not kept.
    """

    days: tuple[PulledDay, ...]
    types: Mapping[str, pl.DataType]
    in_pieces: Collection[date] = ()

    @property
    def rows(self) -> int:
        """Rows with a label."""
        return sum(day.rows for day in self.days)

    @property
    def unlabelled(self) -> int:
        """Rows without one, which are left out."""
        return sum(day.unlabelled for day in self.days)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of all days with a labelled row."""
        return tuple(day.part for day in self.days if day.part)


@dataclass(frozen=True)
class DayReader:
    """Reads for one request."""

    spec: ModelSpec
    ledger: Ledger
    source: Source
    snapshots: Snapshots
    request: TriggerRequest
    lease: Lease | None

    def read(self, spans: Sequence[Span], columns: Sequence[str]) -> ReadDays:
        """Raises SourceError as the source does, RowsRefused for rows that cannot be used, LeaseLost."""
        spec = self.spec
        types = self.source.types(columns, spans[0][0], spans[-1][1])
        reading, wanted = reading_of(spec, types), stretches(spans)
        known = self.ledger.pulled_days.of(spec.name, reading)
        could = usable(wanted, known, self.request, spec.source.lateness)
        kept = [day for day in could if day.part is None or self.snapshots.touch(day.part)]
        asked = _Asked(reading, types, wanted, {day.day for day in kept})
        read = ReadDays(tuple(sorted([*kept, *self._fresh(asked)], key=lambda day: day.day)), types, asked.in_pieces)
        try:
            self._check(read, kept)
        except RowsRefused as refused:
            self.ledger.pulled_days.remove(read.days)  # who repairs them may start any run
            if not kept:
                raise
            log.warning("%s\nIt may be that the days read before have changed since: all are read again.", refused)
            return self.read(spans, columns)
        return read

    def finish(self, read: ReadDays) -> None:
        """These days make a snapshot: no key stands twice in them."""
        whole = [day for day in read.days if day.day not in read.in_pieces]
        done = [replace(day, request_id=self.request.id, finished=True) for day in whole]
        self.ledger.pulled_days.keep(done, lease=self.lease)

    # ------------------------------------------------------------ reading

    def _fresh(self, asked: _Asked) -> Iterator[PulledDay]:
        """Read what is missing, batch by batch."""
        spans = to_read(asked.wanted, asked.kept)
        if not spans:
            return
        progress = _Progress(asked, sum(self.source.estimate(start, end) for start, end in spans))
        memory = _Memory(self.ledger, asked.in_pieces, self.lease)
        days_read = whole_days(self._chunks(spans, asked.types), self.spec.source.event_time, AT_ONCE)
        found = set()
        try:
            with closing(ahead(days_read)) as batches:
                for days in side_by_side(batches, partial(self._written, asked), WRITERS):
                    memory.add(days)
                    found |= {day.day for day in days}
                    progress.add(days)
                    yield from days
        finally:
            memory.write()
        yield from (self._day(asked, one, None, 0) for one in asked.missing if one not in found)
        progress.end()

    def _chunks(self, spans: Sequence[Span], types: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
        for start, end in spans:
            for chunk in self.source.read(list(types), start, end, types=types):
                if chunk.schema != types:
                    raise _changed(self.spec, types, chunk)
                yield chunk

    def _written(self, asked: _Asked, batch: pl.DataFrame) -> list[PulledDay]:
        """The days of a batch, their parts in the store."""
        spec = self.spec
        check_types(spec, batch)
        check_keys(spec, batch[spec.source.key])
        there = has_label(batch[spec.label.column])
        rows = batch if there.all() else batch.filter(there)
        written = self.snapshots.write(spec.name, rows, spec.source.event_time, spec.source.key) if rows.height else ()
        parts = {part.day: part for part in written}
        days = batch[spec.source.event_time].dt.date().value_counts().rows()
        return [self._day(asked, day, parts.get(day), height) for day, height in sorted(days)]

    def _day(self, asked: _Asked, day: date, part: Part | None, height: int) -> PulledDay:
        start, end = asked.bounds(day)
        key, rows, sha256 = (part.key, part.rows, part.sha256) if part else ("", 0, "")
        watermark = self.request.watermark or end
        return PulledDay(
            self.spec.name, asked.reading, day, key, rows, sha256, height - rows, start, end, watermark, self.request.id
        )

    # ------------------------------------------------------------ the window as a whole

    def _check(self, read: ReadDays, kept: Sequence[PulledDay]) -> None:
        """Raise RowsRefused for keys that stand twice, or too few labels."""
        if not read.rows + read.unlabelled:
            return
        old = [day.part for day in known_together(kept) if day.part]
        new = sorted(set(read.parts) - set(old), key=lambda part: part.day)
        again = twice(*([self._keys(part) for part in parts] for parts in (new, old)))
        if again is not None:
            raise keys_twice(self.spec, again)
        check_labelled(self.spec, read.rows + read.unlabelled, read.unlabelled)

    def _keys(self, part: Part) -> Keys:
        key, snapshots = self.spec.source.key, self.snapshots
        return Keys(part.rows, lambda: snapshots.skim(part, [key])[key], partial(snapshots.key_hashes, part, key))


class _Asked:
    """What is wanted of a reading, and which days of it are there."""

    def __init__(
        self, reading: str, types: Mapping[str, pl.DataType], wanted: Sequence[Stretch], kept: set[date]
    ) -> None:
        self.reading, self.types, self.wanted, self.kept = reading, types, wanted, kept
        pieces = Counter(one.day for one in wanted)
        self.in_pieces = {day for day, many in pieces.items() if many > 1}
        self.missing = [day for day in pieces if day not in kept]

    def bounds(self, day: date) -> Span:
        """From the first to the last moment that is wanted of a day."""
        pieces = [one for one in self.wanted if one.day == day]
        return pieces[0].start, pieces[-1].end


class _Memory:
    """Writes the days that were read into the ledger, about once a second: each time costs as much as a part."""

    def __init__(self, ledger: Ledger, never: set[date], lease: Lease | None) -> None:
        self._ledger, self._never, self._lease = ledger, never, lease
        self._days: list[PulledDay] = []
        self._due = time.monotonic() + REMEMBER

    def add(self, days: Sequence[PulledDay]) -> None:
        """These are in the store."""
        self._days += [day for day in days if day.day not in self._never]
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """All so far. Raises LeaseLost."""
        if self._days:
            self._ledger.pulled_days.keep(self._days, lease=self._lease)
        self._days, self._due = [], time.monotonic() + REMEMBER


class _Progress:
    """Tells the log how far reading is."""

    def __init__(self, asked: _Asked, about: int) -> None:
        self._of, self._began = len(asked.missing), time.monotonic()
        self._days = self._rows = 0
        self._told = self._began
        log.info("Reading about %s rows of %s days; %s days are there already", f"{about:,}", self._of, len(asked.kept))

    def add(self, days: Sequence[PulledDay]) -> None:
        """These are written too."""
        self._days, self._rows = self._days + len(days), self._rows + sum(day.rows + day.unlabelled for day in days)
        if time.monotonic() - self._told >= TELL:
            self._told = time.monotonic()
            self._tell("%s of %s days, %s rows so far, %s rows a second")

    def end(self) -> None:
        """All are."""
        self._days = self._of
        self._tell("%s of %s days read, %s rows, %s rows a second")

    def _tell(self, words: str) -> None:
        speed = self._rows / max(time.monotonic() - self._began, 1e-3)
        log.info(words, self._days, self._of, f"{self._rows:,}", f"{speed:,.0f}")


def _changed(spec: ModelSpec, types: Mapping[str, pl.DataType], chunk: pl.DataFrame) -> SourceUnavailable:
    other = next((name for name, kind in types.items() if chunk.schema.get(name) != kind), "")
    return SourceUnavailable(
        f"{spec.name}: column '{other}' of the source",
        found=f"type {chunk.schema.get(other)} in rows of a source that had {types.get(other)} when the pull began",
        allowed="one type in the whole window",
        do="It is read again by itself. If it comes again, bring the column to one type in the source.",
    )
