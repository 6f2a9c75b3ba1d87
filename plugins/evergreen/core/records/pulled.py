"""What was read of a source before. See the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from evergreen.core.records.candidates import Part


@dataclass(frozen=True)
class PulledDay:
    """The rows of one UTC day with `start <= event_time <= end`, as one pull read them.

    `reading` tells what was read: the source, the columns and their types (core.pulling.reading_of). Of a day without a
    labelled row there is no part: `key` and `sha256` are empty. `watermark` is the newest event time of the source that
    was known then. `request_id` names the pull that read it, or the last one that is `finished` with it: one that is
    not may be gone on with by its own retry, and has not seen that no key stands twice.
    """

    model: str
    reading: str
    day: date
    key: str
    rows: int
    sha256: str
    unlabelled: int
    start: datetime
    end: datetime
    watermark: datetime
    request_id: str
    finished: bool = False

    @property
    def part(self) -> Part | None:
        """Its part of a snapshot; none where no row has a label."""
        return Part(self.day, self.key, self.rows, self.sha256) if self.key else None

    def settled(self, lateness: timedelta) -> bool:
        """Whether no row of it was to come or to change any more when it was read."""
        return self.end <= self.watermark - lateness
