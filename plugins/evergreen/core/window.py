"""Which rows a run is about. Everything is counted back from `as_of`, never from a clock.

start ── window.train ── train_end ── label.arrives_after ── holdout_start ── holdout.length ── as_of
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.spec_fields import parse_duration

if TYPE_CHECKING:
    from evergreen.core.records import Part, TriggerRequest
    from evergreen.core.spec import ModelSpec


@dataclass(frozen=True)
class Window:
    """Fit on `start <= t <= train_end`, judge on `holdout_start < t <= as_of`."""

    start: datetime
    train_end: datetime
    holdout_start: datetime
    as_of: datetime


def window(spec: ModelSpec, as_of: datetime, train: timedelta | None = None) -> Window:
    """The window that ends at `as_of`; `train` instead of `window.train` where a run asks for it.

    Where the length is chosen (core.window_choice), it is the longest that is tried.
    """
    holdout_start = as_of - spec.window.holdout.length
    train_end = holdout_start - spec.label.arrives_after
    return Window(train_end - (train or spec.window.lengths[-1]), train_end, holdout_start, as_of)


def window_of(spec: ModelSpec, request: TriggerRequest, default: datetime) -> Window:
    """The window of a request, `default` where it has no as_of. Its run parameter `window_train` counts."""
    return window(spec, request.as_of or default, asked_length(request))


def asked_length(request: TriggerRequest) -> timedelta | None:
    """The run parameter `window_train`."""
    train = request.detail.get("window_train")
    return parse_duration(train) if train else None


def as_asked(spec: ModelSpec, request: TriggerRequest) -> ModelSpec:
    """The spec; where it leaves the length to be chosen and the request names one, with that: nothing is chosen."""
    length = asked_length(request)
    if length is None or not spec.window.is_auto:
        return spec
    return spec.model_copy(update={"window": spec.window.model_copy(update={"train": length})})


def parts_between(parts: Sequence[Part], start: datetime, end: datetime) -> list[Part]:
    """The parts of a snapshot that can hold rows with `start <= event_time <= end`, by their day."""
    return [part for part in parts if start.date() <= part.day <= end.date()]
