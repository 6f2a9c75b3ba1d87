"""What the monitor keeps and tells: values of metrics, the state of rules, alerts. See the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

ALL = ""  # the slice of all rows
ANY_VERSION = 0  # of what is no version's, such as the age of the newest data


class Severity(StrEnum):
    """How soon a person should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class MetricPoint:
    """The value of a metric over the rows of one period, `start <= time of the answer < end`.

    `slice` is ALL or `<feature>=<value>`. `low` and `high` bound it where an interval is known; `rows` is on how many
    rows it rests. Computed again, as labels come late, it is another point; the one computed last counts.
    """

    model: str
    version: int
    name: str
    slice: str
    start: datetime
    end: datetime
    value: float
    rows: int
    computed_at: datetime
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RuleState:
    """Where a rule of a model stands after the last pass.

    `rule` is its key (core.monitoring.rules.key_of). `breaches` counts the passes in a row with a breach, `fine` those
    without one; a pass that could not judge it changes neither. `alert_id` is that of the open alert. `asked_at`: when
    it last asked for a retrain; `changes` when its alert opened or closed of late, oldest first: many are flapping.
    """

    model: str
    rule: str
    breaches: int = 0
    fine: int = 0
    alert_id: str = ""
    asked_at: datetime | None = None
    changes: tuple[datetime, ...] = ()
    seen_at: datetime | None = None


@dataclass(frozen=True)
class Alert:
    """A rule that was broken for long enough, from when to when. `request_id`: the retrain that it asked for.

    `value` is the metric as it was when the alert opened, `worst` the farthest from the limit since.
    """

    id: str
    model: str
    rule: str
    metric: str
    slice: str
    severity: Severity
    version: int
    value: float
    limit: float
    direction: str
    window: str
    rows: int
    opened_at: datetime
    worst: float
    request_id: str = ""
    closed_at: datetime | None = None
    closed_why: str = ""
    closed_value: float | None = None
