"""What was counted of a model's answers of one UTC day, and of which parts: one file of the store.

    monitor/<model>/<day>.tally    the sha256 of what follows; then an npz: `header` (JSON), and of all tallies one
                                   behind the other `lengths`, `indices` and `values` of what is not 0 in them

A day is replaced in one step, tallies and the names of the parts in them together: so nothing is counted twice. What is
damaged, or was written for other buckets, slices or bundles, raises ValueError, and the day is counted anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen.core.records import ALL

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Sparse = tuple[npt.NDArray[np.uint32], Floats]  # where it is not 0, and what it is there

FORMAT = 1
DIGEST = 32  # bytes
FOLDER, SUFFIX = "monitor/", ".tally"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
FINE = timedelta(hours=6)  # shorter windows have buckets of a minute
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cell(NamedTuple):
    """What a tally is of: answers of a version in an arm, of the bucket that begins at `start` (Unix seconds)."""

    version: int
    arm: str
    start: int
    slice: str = ALL


class Counted(NamedTuple):
    """A part that was counted: its rows, its first and last inference id (empty of a part without rows)."""

    rows: int
    first: str
    last: str

    def overlaps(self, other: Counted) -> bool:
        """Whether both may have the same id."""
        return bool(self.rows and other.rows) and self.first <= other.last and other.first <= self.last


@dataclass
class Day:
    """`seconds` is a bucket's length, `slices` the columns whose values have cells of their own.

    `bundles` and `sizes` say by version which bundle's layout the tallies have and how long they are. `told` counts the
    different ids that ground truth named, `matched` those that were found among the answers, `wrong` the ones of these
    whose label is none of the task. `users` says by name and bucket how many values of a user's metric came, and their
    sum; `left_out` counts those of further names than a model may have. `served` are the counters of serving as they
    were last seen, by replica, worker, version and arm. `pending` are the buckets that have changed since their period
    was written to the ledger, `written` is when that was (Unix seconds), by the period's beginning.
    """

    model: str
    day: date
    seconds: int
    slices: tuple[str, ...] = ()
    bundles: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    predictions: dict[str, Counted] = field(default_factory=dict)
    truths: dict[str, Counted] = field(default_factory=dict)
    told: int = 0
    matched: int = 0
    wrong: int = 0
    metric_parts: set[str] = field(default_factory=set)
    users: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    left_out: int = 0
    served: dict[str, list[float]] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)
    written: dict[int, float] = field(default_factory=dict)
    cells: dict[Cell, Sparse] = field(default_factory=dict)

    @property
    def unknown(self) -> int:
        """How many ids ground truth named that no answer has."""
        return self.told - self.matched

    def add(self, cell: Cell, vector: Floats) -> None:
        """Add a vector to a tally."""
        import numpy as np

        total = vector
        if cell in self.cells:
            indices, values = self.cells[cell]
            total = vector.copy()
            total[indices] += values
        self.pending.add(cell.start)
        filled = np.flatnonzero(total)
        self.cells[cell] = filled.astype(np.uint32), total[filled]

    def add_user(self, name: str, start: int, values: int, total: float) -> None:
        """Add so many values of a user's metric, and their sum, to a bucket."""
        before = self.users.setdefault(name, {}).get(start, [0, 0.0])
        self.users[name][start] = [before[0] + values, before[1] + total]
        self.pending.add(start)


def key_of(model: str, day: date) -> str:
    """Where a day lies in the store."""
    return f"{FOLDER}{model}/{day}{SUFFIX}"


def day_of(key: str) -> date | None:
    """The day that a file of this key is of, whatever is kept of it; none for another file."""
    try:
        return date.fromisoformat(key.rpartition("/")[2].partition(".")[0])
    except ValueError:
        return None


def bucket_of(window: timedelta) -> timedelta:
    """How long the buckets of a model with this window are."""
    return MINUTE if window < FINE else HOUR


# ---------------------------------------------------------------- windows


def merged(
    days: Iterable[Day],
    version: int,
    arms: Collection[str],
    size: int,
    within: Callable[[int], bool],
    *,
    apart: bool = True,
) -> dict[str, Floats]:
    """By slice the sum of a version's tallies in these arms, shape (size,), over the buckets whose start is within.

    Unless `apart`, of all rows together only.
    """
    import numpy as np

    found: dict[str, Floats] = {}
    for day in days:
        if day.sizes.get(version) != size:
            continue
        for cell, (indices, values) in day.cells.items():
            if cell.version != version or cell.arm not in arms or not (apart or cell.slice == ALL):
                continue
            if within(cell.start):
                if cell.slice not in found:
                    found[cell.slice] = np.zeros(size)
                found[cell.slice][indices] += values
    return found


def rolling(now: datetime, window: timedelta) -> Callable[[int], bool]:
    """Whether a bucket begins in (now - window, now]."""
    end, length = now.timestamp(), window.total_seconds()
    return lambda start: end - length < start <= end


def period_of(start: int, window: timedelta) -> int:
    """When the tumbling period that a bucket is in begins, Unix seconds. Periods are counted from 1970 on."""
    length = int(window.total_seconds())
    return start // length * length


def days_of(start: datetime, end: datetime) -> list[date]:
    """The days (UTC) that have a moment of [start, end]."""
    first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
    return [first + timedelta(days=at) for at in range((last - first).days + 1)]


# ---------------------------------------------------------------- as a file


def to_bytes(day: Day) -> bytes:
    """The file. The same day gives the same bytes."""
    import numpy as np

    cells = sorted(day.cells)
    header = {
        "format": FORMAT,
        **{name: getattr(day, name) for name in _PLAIN},
        "day": day.day.isoformat(),
        "metric_parts": sorted(day.metric_parts),
        "pending": sorted(day.pending),
        "cells": cells,
    }
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header, separators=(",", ":"), allow_nan=False).encode(), np.uint8),
        "lengths": np.array([len(day.cells[cell][0]) for cell in cells], np.uint32),
        "indices": _joined([day.cells[cell][0] for cell in cells], np.uint32),
        "values": _joined([day.cells[cell][1] for cell in cells], np.float64),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


def from_bytes(data: bytes) -> Day:
    """The opposite. Raises ValueError for what is damaged, or what this version did not write."""
    import numpy as np

    digest, content = data[:DIGEST], data[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("a day of the monitor is damaged: its hash is another")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        if header.pop("format") != FORMAT:
            raise ValueError("a day of the monitor in another format")
        return _read(header, file["lengths"].tolist(), file["indices"], file["values"])


_PLAIN = (
    "model",
    "seconds",
    "slices",
    "bundles",
    "sizes",
    "predictions",
    "truths",
    "told",
    "matched",
    "wrong",
    "users",
    "left_out",
    "served",
    "written",
)


def _read(header: dict[str, Any], lengths: list[int], indices: npt.NDArray[Any], values: npt.NDArray[Any]) -> Day:
    cells = [Cell(*cell) for cell in header.pop("cells")]
    day = Day(
        **{
            **header,
            "day": date.fromisoformat(header["day"]),
            "slices": tuple(header["slices"]),
            "pending": set(header["pending"]),
            "metric_parts": set(header["metric_parts"]),
            "users": {name: {int(at): one for at, one in of.items()} for name, of in header["users"].items()},
            "written": {int(start): at for start, at in header["written"].items()},
            "bundles": {int(version): bundle for version, bundle in header["bundles"].items()},
            "sizes": {int(version): size for version, size in header["sizes"].items()},
            "predictions": {key: Counted(*counted) for key, counted in header["predictions"].items()},
            "truths": {key: Counted(*counted) for key, counted in header["truths"].items()},
        }
    )
    for cell, (begin, end) in zip(cells, pairwise([0, *accumulate(lengths)]), strict=True):
        day.cells[cell] = indices[begin:end], values[begin:end]
    return day


def _joined(arrays: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    import numpy as np

    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype)
