"""The spec's `approval`: who lets a candidate through that passed its gates."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.spec_fields import LongerThanZero, Strict, did_you_mean, refusal, refuse

Change = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ApprovalMode(StrEnum):
    """Who lets a candidate through that passed its gates."""

    AUTO = "auto"
    AUTO_WITHIN = "auto_within"
    MANUAL = "manual"


class Approval(Strict):
    """`manual` waits for a person in the Airflow UI; `auto` does not; `auto_within` only where a metric moved far.

    A hold, and a champion that could not be compared, ask a person in every mode.
    """

    mode: ApprovalMode = Field(
        default=ApprovalMode.MANUAL,
        strict=False,
        description="manual: a person decides; auto: the gates do; auto_within: the gates, unless a metric moved far",
    )
    within: dict[str, Change] = Field(
        default_factory=dict,
        description="Of auto_within: by metric, the largest change against the champion that needs no person",
    )
    timeout: LongerThanZero = Field(
        default=timedelta(hours=24), description="An approval that nobody gives ends then; the champion stays"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Approval:
        if self.mode is ApprovalMode.AUTO_WITHIN and not self.within:
            allowed, do = "the largest change of at least one metric", "Write it, such as within: {auc: 0.01}."
            refuse([refusal(("within",), None, found="nothing, and mode is auto_within", allowed=allowed, do=do)])
        if self.within and self.mode is not ApprovalMode.AUTO_WITHIN:
            do = "Write mode: auto_within, or remove within."
            found = f"within, and mode is {self.mode}"
            refuse([refusal(("within",), self.within, found=found, allowed="within for auto_within only", do=do)])
        return self

    def metric_problems(self, task: Task) -> list[InitErrorDetails]:
        """The metrics of `within` that the task does not have."""
        metrics = METRICS_BY_TASK[task]
        return [
            refusal(
                ("approval", "within", metric),
                limit,
                found=f"'{metric}'",
                allowed=f"{', '.join(metrics)} (for {task.value})",
                do=did_you_mean(metric, metrics) or "Name a metric that this task has.",
            )
            for metric, limit in self.within.items()
            if metric not in metrics
        ]
