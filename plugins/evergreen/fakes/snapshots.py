"""Snapshots in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evergreen.core.bundle import sha256
from evergreen.core.errors import SourceError
from evergreen.core.records import Part

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


class InMemorySnapshots:
    """Frames by key. A part whose frame was changed or removed is refused, as on disk."""

    def __init__(self) -> None:
        self.frames: dict[str, pl.DataFrame] = {}

    def write(self, model: str, frame: pl.DataFrame, event_time: str, key: str) -> tuple[Part, ...]:
        """Split by day of event time (UTC), sort by (event time, key), hash, keep."""
        ordered = frame.sort(event_time, key)
        days = ordered[event_time].dt.date()
        return tuple(self._part(model, day, ordered.filter(days == day)) for day in days.unique().sort())

    def touch(self, part: Part) -> bool:
        """Whether a part that was written before is there."""
        return part.key in self.frames

    def read(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The parts' rows, in order of day. SourceError if a part's hash is not the recorded one."""
        first, *rest = (self._verified(part) for part in sorted(parts, key=lambda part: part.day))
        whole = first.clone()
        for frame in rest:
            whole = whole.vstack(frame)
        return whole.select(columns) if columns else whole

    def each(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The same part by part."""
        for part in sorted(parts, key=lambda part: part.day):
            yield self.read([part], columns)

    def skim(self, part: Part, columns: Sequence[str] | None = None, rows: int | None = None) -> pl.DataFrame:
        """Some columns of one part, or of its first rows."""
        return self.read([part], columns)[:rows]

    def key_hashes(self, part: Part, key: str) -> np.ndarray:
        """64 bits of each key of one part."""
        return self._verified(part)[key].hash().to_numpy()

    def quarantine(self, model: str, snapshot_id: str, rows: pl.DataFrame) -> str:
        """Keep the rows set aside; returns their key."""
        key = f"quarantine/{model}/{snapshot_id[:16]}-{_hash(rows)[:16]}.parquet"
        self.frames[key] = rows
        return key

    def _part(self, model: str, day: object, rows: pl.DataFrame) -> Part:
        digest = _hash(rows)
        part = Part(day, f"snapshots/{model}/{day}-{digest[:32]}.parquet", rows.height, digest)  # type: ignore[arg-type]
        self.frames.setdefault(part.key, rows)
        return part

    def _verified(self, part: Part) -> pl.DataFrame:
        frame = self.frames.get(part.key)
        if frame is None or _hash(frame) != part.sha256:
            raise SourceError(
                f"snapshot part {part.key}",
                found="no such rows" if frame is None else f"rows with hash {_hash(frame)[:12]}…",
                allowed=f"{part.rows} rows with hash {part.sha256[:12]}…",
                do="Start the run again.",
            )
        return frame


def _hash(frame: pl.DataFrame) -> str:
    return sha256(repr((frame.schema, frame.rows())).encode())
