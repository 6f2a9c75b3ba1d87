"""The spec's `approval`: who lets a candidate through that passed its gates."""

from __future__ import annotations

import difflib
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.roles import ADMIN, APPROVER, CANNOT_APPROVE, NOT, ROLE, ROLES, USER
from evergreen.core.spec_fields import (
    LongerThanZero,
    Strict,
    did_you_mean,
    format_duration,
    refusal,
    refuse,
    refuse_one,
)

Change = Annotated[float, Field(gt=0, allow_inf_nan=False)]
APPROVERS_WORDS = f"role:{APPROVER}, role:{ADMIN}, role:<one of your own>, or a user's name"


def _approver(text: str) -> str:
    """Refuse what nobody could be, and what is nearly the name of a role."""
    do = _why_nobody(text)
    if do:
        found = f"'{text}'" + (", a role that cannot approve" if text.removeprefix(ROLE) in CANNOT_APPROVE else "")
        refuse_one(text, found=found, allowed=APPROVERS_WORDS, do=do)
    return text


def _why_nobody(text: str) -> str:
    """What to write instead; empty where it may stand."""
    if not text.startswith(ROLE):
        odd = not text or text != text.strip() or text.startswith((NOT, USER))
        return f"Write role:{text}." if text in ROLES else "Write the user's name, nothing else." if odd else ""
    role = text.removeprefix(ROLE)
    if role in ROLES:
        return f"Write role:{APPROVER}, and give that role to who shall approve." if role in CANNOT_APPROVE else ""
    near = difflib.get_close_matches(role.casefold(), [name.casefold() for name in ROLES], n=1, cutoff=0.9)
    if near:
        return f"Did you mean '{ROLE}{near[0].capitalize()}'?"
    return "" if role and role == role.strip() else f"Write role:{APPROVER}."


Approver = Annotated[str, AfterValidator(_approver)]


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
    approvers: list[Approver] = Field(
        default=[f"{ROLE}{APPROVER}"],
        min_length=1,
        description="Who may answer, in the compose shape: role:<Name> (Admin may too), or a user who may approve",
    )
    four_eyes: bool = Field(
        default=False,
        description="In the compose shape: whoever started the run may not answer, whatever their roles",
    )
    timeout: LongerThanZero = Field(
        default=timedelta(hours=24), description="An approval that nobody gives ends then; the champion stays"
    )
    remind_after: LongerThanZero | None = Field(
        default=None, description="Tell once more (`notify`) what waits for an answer after this, such as 4h"
    )
    escalate_after: LongerThanZero | None = Field(
        default=None, description="Tell, more urgently, that nobody has answered after this, such as 12h"
    )

    @model_validator(mode="after")
    def _told_in_time(self) -> Approval:
        refuse(
            [
                refusal(
                    (name,),
                    after,
                    found=f"{format_duration(after)}, when the question has ended",
                    allowed=f"shorter than timeout ({format_duration(self.timeout)})",
                    do="Write a shorter one, or a longer timeout.",
                )
                for name in ("remind_after", "escalate_after")
                if (after := getattr(self, name)) and after >= self.timeout
            ]
        )
        return self

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
