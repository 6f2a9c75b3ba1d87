"""The spec's `monitoring`, and the rules on its metrics: what starts a retrain, and what people are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.records import Severity
from evergreen.core.spec_fields import (
    Column,
    Duration,
    LongerThanZero,
    Strict,
    format_duration,
    refusal,
    refuse,
    refuse_one,
)
from evergreen.core.spec_source import RowsFrom, Source

Finite = Annotated[float, Field(allow_inf_nan=False)]


class MetricRule(Strict):
    """A limit on a metric of the monitor (docs/monitoring.md lists them), or on one that users post (`user.<name>`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, serialize_by_alias=True)

    name: str = Field(min_length=1, description="The metric, such as drift.psi.max or quality.realised.auc")
    above: Finite | None = Field(default=None, description="Broken where the metric is above this")
    below: Finite | None = Field(default=None, description="Broken where the metric is below this")
    passes: int = Field(
        default=1,
        ge=1,
        alias="for",
        description="So many passes of the monitor in a row with a breach open an alert, so many without one close it",
    )
    severity: Annotated[Severity, Field(strict=False)] = Field(
        default=Severity.WARNING, description="How soon a person should look"
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

    def is_broken(self, value: float) -> bool:
        """Whether the value lies beyond the limit; at the limit it does not."""
        return value > self.limit if self.direction == "above" else value < self.limit

    @property
    def words(self) -> str:
        """For people: 'drift.psi.max above 0.2', 'quality.realised.auc below 0.62 of a carrier'."""
        return f"{self.name} {self.direction} {self.limit:g}" + (f" of a {self.slice}" if self.slice else "")


class MetricTrigger(MetricRule):
    """A limit on a metric of the monitor, or on one that users post (`user.<name>`), that asks for a retrain where it
    is broken. It opens an alert too."""

    cooldown: Duration = Field(
        default=timedelta(days=1), description="Shortest time between two retrains that this rule asks for"
    )
    tune: bool = Field(
        default=False, description="Whether that retrain looks for better parameters too, where training.tuning is set"
    )


class LabelSource(RowsFrom):
    """Where labels come from that nobody posts to serving: a table or a query over a connection, or files."""

    key: Column = Field(description="Column with the key of a request of one row, as x-request-key had it")
    label: Column = Field(description="Column with the label")
    told_at: Column = Field(
        description="Column with the time at which the label was written, UTC; a later one corrects an earlier one"
    )

    def _column_problem(self) -> list[InitErrorDetails]:
        columns = {"key": self.key, "label": self.label, "told_at": self.told_at}
        return [
            refusal(
                (name,),
                column,
                found=f"'{column}' a second time",
                allowed="three different columns",
                do="Name a column of its own.",
            )
            for at, (name, column) in enumerate(columns.items())
            if column in list(columns.values())[:at]
        ]

    @property
    def as_source(self) -> Source:
        """The same as what a model's rows are read from: by the time at which labels were written."""
        where = {name: getattr(self, name) for name in RowsFrom.model_fields}
        return Source(**where, event_time=self.told_at, key=self.key)


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
    labels: LabelSource | None = Field(
        default=None, description="Where labels come from; left out: they are posted to serving"
    )

    @model_validator(mode="after")
    def _looks_within_the_window(self) -> Monitoring:
        if self.every > self.window:
            found = f"{format_duration(self.every)}, longer than the window of {format_duration(self.window)}"
            do = "Look more often, or make 'window' longer: answers between two windows would never be looked at."
            allowed = f"up to {format_duration(self.window)}"
            refuse([refusal(("every",), format_duration(self.every), found=found, allowed=allowed, do=do)])
        return self
