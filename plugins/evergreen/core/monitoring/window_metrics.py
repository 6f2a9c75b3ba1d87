"""The metrics of a window, by the names of core.monitoring.names, from the sum of its tallies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from evergreen.core import guarding
from evergreen.core.metrics import NEAREST_ZERO_IS_BEST, Metric
from evergreen.core.monitoring import drift, names
from evergreen.core.monitoring.bins import Bins, NumberBins
from evergreen.core.monitoring.estimated import estimated
from evergreen.core.monitoring.quality import Quality
from evergreen.core.monitoring.realised import realised
from evergreen.core.monitoring.tally import (
    DELAY_HOURS,
    DELAYS,
    FAILED,
    LABELLED,
    LATENCY,
    LATENCY_SECONDS,
    PREDICTIONS,
    REQUESTS,
    ROWS,
    Layout,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evergreen.core.monitoring.day import Day

    Floats = npt.NDArray[np.float64]

_MEDIAN, _NEARLY_ALL = 0.5, 0.99


class Value(NamedTuple):
    """A metric of a window, on how many rows (of requests.*: requests), and its interval where one is known."""

    name: str
    value: float
    rows: int
    low: float | None = None
    high: float | None = None


def metrics_of(layout: Layout, vector: Floats, min_rows: int) -> list[Value]:
    """All that this tally, shape (layout.size,), tells; every value is a finite number.

    On fewer than `min_rows` rows nothing is told of the data, its drift and the quality; of realised quality it is
    rows whose label is known that count.
    """
    rows = round(float(layout.part(vector, ROWS)[0]))
    labelled = round(float(layout.part(vector, LABELLED)[0]))
    found = [Value(names.VOLUME, float(rows), rows), *_requests(layout, vector)]
    if labelled:
        found.append(Value(names.LABEL_DELAY, _delay(layout.part(vector, DELAYS)), labelled))
    if rows >= max(min_rows, 1):
        found.append(Value(names.LABELLED, labelled / rows, rows))
        found += _of_features(layout, vector)
        prediction = layout.reference.prediction
        found.append(Value(names.PREDICTION_PSI, drift.psi(prediction, layout.part(vector, PREDICTIONS)), rows))
    reference = layout.reference.quality
    found += _quality(names.ESTIMATED, names.ESTIMATED_LOSS, estimated(layout, vector), reference, min_rows)
    found += _quality(names.REALISED, names.REALISED_LOSS, realised(layout, vector), reference, min_rows)
    return [value for value in found if math.isfinite(value.value)]


def _requests(layout: Layout, vector: Floats) -> Iterator[Value]:
    """From the first one on: a model that answers none is not to wait for rows."""
    requests, failed = (float(layout.part(vector, name)[0]) for name in (REQUESTS, FAILED))
    if requests:
        yield Value(names.ERROR_RATE, failed / requests, round(requests))
    latency = layout.part(vector, LATENCY).tolist()
    if answered := sum(latency):
        seconds = guarding.quantile(latency, _NEARLY_ALL, LATENCY_SECONDS)
        yield Value(names.LATENCY, 1000 * min(seconds, LATENCY_SECONDS[-1]), round(answered))


def _delay(counts: Floats) -> float:
    """The median in hours; one above all bounds is told as the last."""
    return min(guarding.quantile(counts.tolist(), _MEDIAN, DELAY_HOURS), DELAY_HOURS[-1])


def users_metrics(days: Iterable[Day], within: Callable[[int], bool]) -> list[Value]:
    """Of each metric that users posted the mean of its values over the buckets whose start is within, on how many."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for day in days:
        for name, buckets in day.users.items():
            for values, total in (of for start, of in buckets.items() if within(start)):
                sums[name] = [sums[name][0] + values, sums[name][1] + total]
    return [Value(name, total / values, round(values)) for name, (values, total) in sorted(sums.items())]


# ---------------------------------------------------------------- features


def _of_features(layout: Layout, vector: Floats) -> Iterator[Value]:
    """Of each feature, and of each family the worst. A feature that is not logged has no row, and no value."""
    worst: dict[str, Value] = {}
    for position, bins in enumerate(layout.reference.features):
        counts = layout.feature(vector, position)
        rows = round(float(counts.sum()))
        for family, measured in _families(bins).items():
            value = measured(counts)
            if not math.isfinite(value):
                continue
            if bins.name != names.MAX:
                yield Value(f"{family}.{bins.name}", value, rows)
            bad = value - drift.missing_at_training(bins) if family == names.MISSING else value
            if family not in worst or bad > worst[family].value:
                worst[family] = Value(f"{family}.{names.MAX}", bad, rows)
    yield from worst.values()


def _families(bins: Bins) -> Mapping[str, Callable[[Floats], float]]:
    of_all = {names.MISSING: drift.missing, names.PSI: lambda counts: drift.psi(bins, counts)}
    if not isinstance(bins, NumberBins):
        return {**of_all, names.UNSEEN: drift.unseen}
    of_numbers = {names.OUT_OF_RANGE: drift.out_of_range, names.WASSERSTEIN: lambda c: drift.wasserstein(bins, c)}
    return {**of_all, **of_numbers}


# ---------------------------------------------------------------- quality


def _quality(
    family: str, loss: str, found: Mapping[str, Quality], reference: Mapping[str, float], min_rows: int
) -> Iterator[Value]:
    for name, one in found.items():
        if one.rows < min_rows:
            continue
        low, high = one.interval
        yield Value(f"{family}.{name}", one.value, one.rows, low, high)
        if name in reference:
            yield _loss(f"{loss}.{name}", one, Metric(name), reference[name])


def _loss(name: str, one: Quality, metric: Metric, reference: float) -> Value:
    """How much worse than the reference, and the same of the interval's ends."""
    ends = [-metric.improvement(end, reference) for end in one.interval]
    if metric.name in NEAREST_ZERO_IS_BEST and one.interval[0] < 0 < one.interval[1]:
        ends.append(-metric.improvement(0.0, reference))
    return Value(name, -metric.improvement(one.value, reference), one.rows, min(ends), max(ends))
