"""The spec's `rollout`: by which stages a version comes to all callers, and what takes it back before it has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.records import RolloutPlan
from evergreen.core.spec_fields import Duration, Strict, refusal, refuse, refuse_one

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
HIGHEST = 99  # percent of callers in canary: all of them is bake


class RollbackIf(Strict):
    """What takes a version off its trial, and back. Exceptions and timeouts do so in any case, five of them at once."""

    error_rate: Fraction | None = Field(
        default=0.01, description="Highest fraction of its requests that may fail; null: not looked at"
    )
    latency_p99_ms: Positive | None = Field(
        default=None, description="Highest latency of 99 of 100 of its requests, in ms; left out: not looked at"
    )
    prediction_psi: Positive | None = Field(
        default=None,
        description="How far its predictions may lie from the champion's (population stability index, such as 0.3); "
        "left out: not looked at",
    )


class Rollout(Strict):
    """A version that was let through is on trial beside the champion until these stages are over; without it, and for a
    model's first version, it answers all callers at once. A stage lasts its time, and until `min_requests` have come.
    """

    shadow: Duration = Field(
        default=timedelta(minutes=5), description="It is asked too, its answers go nowhere; 0s: no such stage"
    )
    canary: list[int] = Field(
        default=[5, 25, 50], description="Percentages of callers that it answers, rising, 1 to 99; []: no such stage"
    )
    step: Duration = Field(default=timedelta(minutes=5), description="How long each percentage lasts at least")
    bake: Duration = Field(
        default=timedelta(minutes=10), description="It answers all callers, the champion stands by; 0s: no such stage"
    )
    min_requests: int = Field(default=200, ge=1, description="Fewest requests to it in a stage; until then it waits")
    rollback_if: RollbackIf = Field(default=RollbackIf(), description="What takes it back by itself")

    @model_validator(mode="after")
    def _stages(self) -> Rollout:
        refuse([*self._out_of_range(), *self._not_rising()])
        if not (self.shadow or self.canary or self.bake):
            do = "Give one of them, or remove 'rollout': then a version answers all callers at once."
            refuse_one(
                self, found="no shadow, no canary and no bake", allowed="at least one of shadow, canary and bake", do=do
            )
        return self

    def _out_of_range(self) -> Iterator[InitErrorDetails]:
        for at, percent in enumerate(self.canary):
            if not 1 <= percent <= HIGHEST:
                do = "All callers at once is bake: 'bake: 10m'." if percent == 100 else "Write whole percentages."
                yield refusal(("canary", at), percent, found=str(percent), allowed=f"1 to {HIGHEST}", do=do)

    def _not_rising(self) -> Iterator[InitErrorDetails]:
        for at, (before, percent) in enumerate(pairwise(self.canary), 1):
            if percent <= before:
                found, do = f"{percent} after {before}", "Write them in rising order, each once."
                yield refusal(("canary", at), percent, found=found, allowed="percentages that rise", do=do)

    @property
    def plan(self) -> RolloutPlan:
        """The same as a release keeps it."""
        limits = self.rollback_if
        return RolloutPlan(
            shadow=self.shadow,
            canary=tuple(self.canary),
            step=self.step,
            bake=self.bake,
            min_requests=self.min_requests,
            error_rate=limits.error_rate,
            latency_p99_ms=limits.latency_p99_ms,
            prediction_psi=limits.prediction_psi,
        )
