"""What the report on a model holds (docs/monitoring.md, "The report"): all that its page shows, and nothing else.

It is made by steps.gather_report and drawn by ui.report_page. A section that nothing is known of is empty or none, and
`notes` say why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.metrics import Task
    from evergreen.core.monitoring.window_metrics import Value
    from evergreen.core.records import Alert, Release
    from evergreen.core.reported_errors import Errors
    from evergreen.core.reported_examples import Example
    from evergreen.core.reported_history import Series
    from evergreen.core.reported_shifts import Shift
    from evergreen.core.reported_slices import SliceError

FILE = "report.html"  # beside the version's evidence in the store
ARTIFACT = f"report/{FILE}"  # of the version's run in MLflow


@dataclass(frozen=True)
class Span:
    """The answers that were looked at: those in `start <= time < end`, of one version."""

    start: datetime
    end: datetime
    answers: int = 0
    labelled: int = 0


@dataclass(frozen=True)
class Monitored:
    """A value of one of monitoring.slices: its answers in the span, and the metric of the gates on them."""

    slice: str
    rows: int
    quality: Value | None


@dataclass(frozen=True)
class Quarantined:
    """The data that a version was made from. `aside`: rows that failed expectations."""

    version: int
    as_of: datetime
    rows: int
    unlabelled: int
    aside: int


@dataclass(frozen=True)
class Reported:
    """The report. `version` is the champion's, none where nothing was released; `metric` that of the first gate.

    `quality` is that metric over the span, on answers whose label is known. `series` are metrics by period since
    `since`, newest last. `threshold` is the chance from which the confusion says class 1.
    """

    model: str
    task: Task
    owner: str
    made_at: datetime
    since: datetime
    span: Span
    metric: str
    version: int | None = None
    released_at: datetime | None = None
    notes: Sequence[str] = ()
    quality: Value | None = None
    shifts: Sequence[Shift] = ()
    errors: Errors | None = None
    slices: Sequence[SliceError] = ()
    slices_looked_at: int = 0
    monitored: Sequence[Monitored] = ()
    examples: Sequence[Example] = ()
    series: Mapping[str, Series] = field(default_factory=dict)
    quarantined: Sequence[Quarantined] = ()
    releases: Sequence[Release] = ()
    alerts: Sequence[Alert] = ()
    threshold: float = 0.5

    @property
    def open_alerts(self) -> list[Alert]:
        """Those that are open, the oldest first."""
        return sorted((one for one in self.alerts if one.closed_at is None), key=lambda one: one.opened_at)
