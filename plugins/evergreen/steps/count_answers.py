"""Brings a day of the monitor up to date with the parts in the store, each of which is read once.

All is done in memory, and kept by whoever calls in one step: a day that was not kept is counted again from what was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from evergreen.core.monitoring.day import Day, bucket_of, from_bytes, key_of
from evergreen.core.monitoring.encoding import features_of, predictions_of
from evergreen.core.monitoring.tally import Rows, add_rows
from evergreen.steps.count_labels import count_labels
from evergreen.steps.count_metrics import count_metrics
from evergreen.steps.counting import add_to, by_version, extent_of, in_cells

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from evergreen.core.monitoring.tally import Layout
    from evergreen.core.ports import Store
    from evergreen.steps.counting import Counting


@dataclass(frozen=True)
class Done:
    """What was counted: answers, labels that are new or corrected, values of users' metrics. `changed`: whether the day
    is to be kept."""

    rows: int = 0
    labels: int = 0
    metrics: int = 0
    changed: bool = False


def load_day(store: Store, counting: Counting, day: date) -> Day:
    """The day as it was kept; an empty one where there is none, or none that can be counted on from."""
    spec = counting.spec
    seconds, slices = int(bucket_of(spec.monitoring.window).total_seconds()), tuple(spec.monitoring.slices)
    try:
        found = from_bytes(store.get(key_of(spec.name, day)))
    except (KeyError, ValueError):  # a damaged one is counted anew
        found = None
    if found and (found.seconds, found.slices) == (seconds, slices) and _as_laid_out(found, counting):
        return found
    return Day(spec.name, day, seconds, slices)


def _as_laid_out(day: Day, counting: Counting) -> bool:
    """Whether its tallies are as this version of Evergreen lays them out. A bundle that is gone tells nothing."""
    for version, bundle in day.bundles.items():
        known = counting.layouts.of(bundle, counting.spec.task)
        if known.layout.size != day.sizes[version] and not known.bare:
            return False
    return True


def count_day(day: Day, counting: Counting) -> Done:
    """Count what the day has not counted yet: answers, then labels, then what users posted."""
    log = counting.log
    new = [key for key in log.parts(day.model, day.day) if key not in day.predictions]
    told = [key for key in log.truth_parts(day.model, day.day) if key not in day.truths]
    rows = sum(_count_part(day, key, counting) for key in new)
    labels = count_labels(day, new, told, counting) if new or told else 0
    posted = [key for key in log.metric_parts(day.model, day.day) if key not in day.metric_parts]
    metrics = count_metrics(day, posted, log)
    return Done(rows, labels, metrics, bool(new or told or posted))


def _count_part(day: Day, key: str, counting: Counting) -> int:
    frame = counting.log.part(key)
    day.predictions[key] = extent_of(frame)
    if frame is None or frame.is_empty():
        return 0
    counted = 0
    for version, rows in by_version(frame):
        layout = counting.layout(day, version)
        if layout is not None:
            _count_rows(day, version, layout, rows, counting)
            counted += rows.height
    return counted


def _count_rows(day: Day, version: int, layout: Layout, frame: pl.DataFrame, counting: Counting) -> None:
    for rows, cells, groups in in_cells(frame, day, version, layout):
        predictions = predictions_of(rows)
        losses = counting.layouts.losses(day.bundles[version], counting.spec.task, rows, predictions)
        counted = Rows(features_of(rows, layout.reference), predictions, groups, losses)
        add_to(day, cells, layout, partial(add_rows, layout, counted))
