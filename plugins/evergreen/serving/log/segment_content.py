"""What a segment of the prediction log has, by what becomes one part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import IO
from uuid import UUID

from evergreen.core import logged_parts as parts
from evergreen.core.forgotten import Forgetting, Forgotten
from evergreen.core.records import LoggedRows, Truth, UserMetric
from evergreen.serving.log import log_frames as frames
from evergreen.serving.log.segments import payloads


@dataclass
class Content:
    """What a segment has, by what becomes one part."""

    predictions: dict[tuple[str, date, tuple[object, ...]], list[LoggedRows]] = field(default_factory=dict)
    truths: dict[tuple[str, date], list[Truth]] = field(default_factory=dict)
    metrics: dict[tuple[str, date], list[UserMetric]] = field(default_factory=dict)
    rows: int = 0

    @classmethod
    def of(cls, file: IO[bytes]) -> Content:
        """Read all of it: one segment is small. Raises Damaged."""
        found = cls()
        for one in frames.read(payloads(file)):
            if isinstance(one, LoggedRows):
                found._add(one)
            else:
                found._add_told(*one)
        return found

    def _add(self, batch: LoggedRows) -> None:
        self.rows += len(batch)
        for day, alike in _by_day(batch):
            group = (batch.by.model, day, parts.shape_of(batch.by, batch.outputs))
            self.predictions.setdefault(group, []).append(alike)

    def _add_told(self, model: str, records: Sequence[Truth | UserMetric]) -> None:
        self.rows += len(records)
        for one in records:
            if isinstance(one, UserMetric):
                self.metrics.setdefault((model, parts.day_of(one.at)), []).append(one)
                continue
            told = parts.milliseconds_of(one.inference_id)
            day = parts.day_of(one.at if told is None else told)
            self.truths.setdefault((model, day), []).append(one)


def _by_day(batch: LoggedRows) -> Iterator[tuple[date, LoggedRows]]:
    """Its rows by the day of their ids, which is nearly always one."""
    if parts.day_of(_time(batch, 0)) == (day := parts.day_of(_time(batch, len(batch) - 1))):
        yield day, batch
        return
    days = [parts.day_of(_time(batch, row)) for row in range(len(batch))]
    for day in dict.fromkeys(days):
        yield day, _taken(batch, [row for row, its in enumerate(days) if its == day])


def kept_of(
    batches: Sequence[LoggedRows], forgetting: Forgetting, gone: dict[Forgotten, list[str]]
) -> list[LoggedRows]:
    """Without the rows that are forgotten, whose ids are added to `gone`."""
    kept = []
    for batch in batches:
        if not batch.keys:
            kept.append(batch)
            continue
        stay = []
        for row, key in enumerate(batch.keys):
            told = forgetting.by(batch.by.model, key, _time(batch, row))
            if told is None:
                stay.append(row)
            else:
                gone[told].append(str(UUID(bytes=batch.ids[row * 16 : row * 16 + 16])))
        if len(stay) == len(batch):
            kept.append(batch)
        elif stay:
            kept.append(_taken(batch, stay))
    return kept


def _time(batch: LoggedRows, row: int) -> int:
    """When it was answered, in Unix ms: the first six bytes of its id."""
    return int.from_bytes(batch.ids[row * 16 : row * 16 + 6], "big")


def _taken(batch: LoggedRows, rows: Sequence[int]) -> LoggedRows:
    """Some rows of a batch."""
    wide, deep = len(batch.by.features) * 4, (batch.outputs or 1) * 4
    place = {row: at for at, row in enumerate(rows)}
    return LoggedRows(
        batch.by,
        ids=_slices(batch.ids, 16, rows),
        matrix=_slices(batch.matrix, wide, rows),
        predictions=_slices(batch.predictions, deep, rows),
        outputs=batch.outputs,
        keys=tuple(batch.keys[row] for row in rows) if batch.keys else (),
        unseen=tuple((place[row], feature, value) for row, feature, value in batch.unseen if row in place),
    )


def _slices(data: bytes, size: int, rows: Sequence[int]) -> bytes:
    return b"".join(data[row * size : row * size + size] for row in rows)
