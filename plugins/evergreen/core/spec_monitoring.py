"""The spec's `monitoring`, and the rules on its metrics: what starts a retrain, and what people are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from evergreen.core.records import Severity
from evergreen.core.spec_fields import Column, Duration, LongerThanZero, Strict, refuse_one

Finite = Annotated[float, Field(allow_inf_nan=False)]


class MetricRule(Strict):
    """A limit on a metric of the monitor (docs/monitoring.md lists them), or on one that users post (`user.<name>`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    name: str = Field(min_length=1, description="The metric, such as drift.psi.max or quality.realised.auc")
    above: Finite | None = Field(default=None, description="Broken where the metric is above this")
    below: Finite | None = Field(default=None, description="Broken where the metric is below this")
    passes: int = Field(default=1, ge=1, alias="for", description="So many passes of the monitor in a row, each way")
    cooldown: Duration = Field(
        default=timedelta(0), description="Shortest time between two retrains that this rule asks for"
    )
    severity: Annotated[Severity, Field(strict=False)] = Field(
        default=Severity.WARNING, description="How soon a person should look: info, warning, critical"
    )
    slice: Column | None = Field(
        default=None, description="One of monitoring.slices: looks at each of its values, and not at all rows together"
    )

    @model_validator(mode="after")
    def _one_limit(self) -> MetricRule:
        if (self.above is None) == (self.below is None):
            found = "both 'above' and 'below'" if self.above is not None else "neither 'above' nor 'below'"
            refuse_one(self, found=found, allowed="one of the two", do="Write each limit as a rule of its own.")
        return self

    @property
    def limit(self) -> float:
        """The number that it must not pass."""
        return self.above if self.above is not None else self.below or 0.0

    @property
    def direction(self) -> str:
        """above or below."""
        return "above" if self.above is not None else "below"


class Monitoring(Strict):
    """What is watched once a version answers. The metrics of a window are looked at by the rules here, and by those
    among the triggers."""

    every: LongerThanZero = Field(default=timedelta(minutes=5), description="How often the monitor looks")
    window: LongerThanZero = Field(default=timedelta(days=1), description="The newest answers that a rule looks at")
    min_rows: int = Field(default=500, ge=1, description="On fewer rows in the window no drift and no quality is told")
    slices: list[Column] = Field(
        default_factory=list, description="Categorical features whose values are watched apart, 20 of each"
    )
    fresh_within: LongerThanZero | None = Field(
        default=None, description="People are told where the newest data is older than this; left out: nobody is"
    )
    alerts: list[MetricRule] = Field(default_factory=list, description="Rules that tell people and start nothing")
