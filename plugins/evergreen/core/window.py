"""Which rows a run is about. Everything is counted back from `as_of`, never from a clock.

start ── window.train ── train_end ── label.arrives_after ── holdout_start ── holdout.length ── as_of
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.records import Part
    from evergreen.core.spec import ModelSpec


@dataclass(frozen=True)
class Window:
    """Fit on `start <= t <= train_end`, judge on `holdout_start < t <= as_of`."""

    start: datetime
    train_end: datetime
    holdout_start: datetime
    as_of: datetime


def window(spec: ModelSpec, as_of: datetime) -> Window:
    """The window that ends at `as_of`."""
    holdout_start = as_of - spec.window.holdout.length
    train_end = holdout_start - spec.label.arrives_after
    return Window(train_end - spec.window.train, train_end, holdout_start, as_of)


def parts_between(parts: Sequence[Part], start: datetime, end: datetime) -> list[Part]:
    """The parts of a snapshot that can hold rows with `start <= event_time <= end`, by their day."""
    return [part for part in parts if start.date() <= part.day <= end.date()]
