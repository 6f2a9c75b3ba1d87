"""A replay in words: the rows of its table, and what comes of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evergreen.core.gate_texts import number
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric
    from evergreen.core.replayed import Period, Replayed

HEADER = ("until", "rows", "frozen", "every", "Evergreen", "hindsight", "retrains", "recalls", "refused by")
WORSE = "*"  # beside a value of Evergreen's that is certainly worse than the frozen model's


def cells(period: Period, metric: Metric) -> tuple[str, ...]:
    """One period, as HEADER."""
    refused = "; ".join(dict.fromkeys(attempt.refused_by for attempt in period.refused))
    times = f"{len(period.refused)} × " if len(period.refused) > 1 else ""
    ours = _value(period.evergreen) + (WORSE if period.below_frozen else "")
    values = (_value(period.frozen), _value(period.every_period), ours, _value(period.hindsight))
    return (
        f"{period.end:%Y-%m-%d}", f"{period.rows:,}", *values, str(period.retrains), str(period.recalls),
        times + refused if refused else "",
    )  # fmt: skip


def means(replayed: Replayed) -> tuple[str, ...]:
    """The last row: means of the metric, sums of the counts."""
    values = (replayed.frozen, replayed.every_period, replayed.evergreen, replayed.hindsight)
    refused = f"{replayed.refused} refused" if replayed.refused else ""
    rows = sum(period.rows for period in replayed.periods)
    return ("all", f"{rows:,}", *map(_value, values), str(replayed.retrains), str(replayed.recalls), refused)


def summary(replayed: Replayed) -> list[str]:
    """What the table comes to, in sentences."""
    start, end = replayed.periods[0].start, replayed.periods[-1].end
    every, worse = replayed.retrains_of_every_period, [f"{period.end:%Y-%m-%d}" for period in replayed.below_frozen]
    fraction = f" ({replayed.retrains / every:.0%})" if every else ""
    return [
        f"{replayed.model}, {replayed.metric.label} in {len(replayed.periods)} periods of "
        f"{format_duration(replayed.every)}, {start:%Y-%m-%d} to {end:%Y-%m-%d}.",
        f"Gap from frozen to best in hindsight closed: Evergreen {_percent(replayed.share(replayed.evergreen))}, "
        f"retrained every period {_percent(replayed.share(replayed.every_period))}.",
        f"Retrains: Evergreen {replayed.retrains}, every period {every}{fraction}. "
        f"Candidates refused: {replayed.refused}. Earlier versions recalled: {replayed.recalls}.",
        f"{WORSE} Worse than frozen by more than the 95 % interval, period until: {', '.join(worse)}."
        if worse
        else "No period is worse than frozen by more than the 95 % interval.",
    ]


def _value(value: float) -> str:
    return "-" if math.isnan(value) else number(value)


def _percent(share: float) -> str:
    return "not known (no gap)" if math.isnan(share) else f"{share:.0%}"
