"""The model spec: what a data engineer writes in `models/<name>/model.yaml`.

One pydantic model gives the check, the JSON Schema for editors and the reference page. Reading files, merging
`_defaults.yaml` and telling problems with their lines is `core.catalog`; what fields are made of `core.spec_fields`.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.cron_jitter import resolve
from evergreen.core.metrics import Task
from evergreen.core.spec_approval import Approval, ApprovalMode
from evergreen.core.spec_fields import (
    Column,
    Duration,
    LongerThanZero,
    Name,
    Strict,
    did_you_mean,
    refusal,
    refuse,
)
from evergreen.core.spec_gates import Gate, gate_problems
from evergreen.core.spec_limits import Limits
from evergreen.core.spec_monitoring import MetricRule, MetricTrigger, Monitoring
from evergreen.core.spec_notify import Notify
from evergreen.core.spec_rollout import Rollout
from evergreen.core.spec_rules import Watched, monitoring_problems
from evergreen.core.spec_serving import Serving
from evergreen.core.spec_source import Source
from evergreen.core.spec_training import Training, refit_problems, training_problems
from evergreen.core.spec_triggers import NewData, Recall, Trigger, trigger_problems
from evergreen.core.spec_window import Window

__all__ = ["Approval", "ApprovalMode", "Gate", "ModelSpec", "Retention", "Source"]


class Label(Strict):
    """What is learned, and when it can be known."""

    column: Column = Field(description="Label column: 0/1, a class number from 0, or a number")
    arrives_after: Duration = Field(description="How long after the event the label is complete")
    max_missing: float = Field(default=0.1, ge=0, le=1, description="Highest fraction of rows without a label")


class Features(Strict):
    """What is learned from."""

    columns: list[Column] = Field(min_length=1, description="Feature columns, in the order that serving uses")
    categorical: list[Column] = Field(default_factory=list, description="Those that are categories, not numbers")
    not_logged: list[Column] = Field(
        default_factory=list, description="Those whose values callers send and the prediction log never keeps"
    )

    @model_validator(mode="after")
    def _names(self) -> Features:
        chosen = {"categorical": self.categorical, "not_logged": self.not_logged}
        unknown = [wrong for field, names in chosen.items() for wrong in self._unknown(field, names)]
        twice = [wrong for field in ("columns", *chosen) for wrong in _twice(field, getattr(self, field))]
        refuse([*twice, *unknown])
        return self

    def _unknown(self, field: str, names: list[str]) -> list[InitErrorDetails]:
        return [
            refusal(
                (field, at),
                name,
                found=f"'{name}', which is not in features.columns",
                allowed=", ".join(self.columns),
                do=did_you_mean(name, self.columns) or "Add it to features.columns too, or remove it here.",
            )
            for at, name in enumerate(names)
            if name not in self.columns
        ]


def _twice(field: str, names: list[str]) -> list[InitErrorDetails]:
    return [
        refusal(
            (field, at), name, found=f"'{name}' a second time", allowed="each column once", do="Remove one of them."
        )
        for at, name in enumerate(names)
        if name in names[:at]
    ]


class Quarantine(Strict):
    """How many rows may be set aside."""

    max_fraction: float = Field(
        default=0.01, ge=0, le=1, description="Highest fraction of rows set aside; more stops the run"
    )


class Validation(Strict):
    """The expectation suite in `expectations/<suite>.json`, and what it may set aside."""

    suite: Name = Field(description="Name of the file in expectations/, without .json")
    quarantine: Quarantine = Field(default=Quarantine(), description="How many rows may be set aside")


class Retention(Strict):
    """How long the store keeps what the model no longer needs. The live and the previous release are always kept."""

    keep: LongerThanZero = Field(
        default=timedelta(days=90),
        description="Bundles, snapshots, evidence, quarantine and logged answers younger than this are kept",
    )
    versions: int = Field(default=10, ge=1, description="So many of the newest versions are kept, however old")


class ModelSpec(Strict):
    """All that Evergreen knows of one model."""

    name: Name = Field(description="The folder's name: lower-case letters, digits and -")
    owner: str = Field(min_length=1, description="Who to ask, such as a mail address")
    task: Task = Field(strict=False, description="What kind of answer the model gives")
    source: Source = Field(description="Where the rows come from")
    label: Label = Field(description="What is learned, and when it can be known")
    features: Features = Field(description="What is learned from")
    window: Window = Field(description="Which rows are fitted on and judged on")
    triggers: list[Trigger] = Field(default_factory=list, description="What starts a retrain; none: only a person")
    cooldown: Duration = Field(
        default=timedelta(0), description="Wall clock since the last retrain; a person ignores it"
    )
    validation: Validation = Field(description="The expectation suite, and what it may set aside")
    training: Training = Field(default=Training(), description="How the booster is fitted")
    gates: list[Gate] = Field(min_length=1, description="Limits a candidate must keep; without any nothing is released")
    approval: Approval = Field(default=Approval(), description="Who lets a candidate through that passed its gates")
    rollout: Rollout | None = Field(
        default=None, description="By which stages a version comes to all callers; none: at once"
    )
    limits: Limits = Field(default=Limits(), description="How many runs may be at work at a time")
    notify: list[Notify] = Field(default_factory=list, description="Who is told what; none: nobody")
    serving: Serving = Field(default=Serving(), description="How callers are answered")
    monitoring: Monitoring = Field(default=Monitoring(), description="What is watched once a version answers")
    retention: Retention = Field(default=Retention(), description="How long the store keeps what is no longer needed")

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSpec:
        refuse(
            [
                *self._leaks(),
                *self._label_problem(),
                *self._gate_problems(),
                *trigger_problems(self.triggers, self.gates),
                *self._monitoring_problems(),
                *self._training_problems(),
                *self.approval.metric_problems(self.task),
            ]
        )
        return self

    def _leaks(self) -> list[InitErrorDetails]:
        roles = {
            self.source.key: "the key: unique in every row, so that nothing can be learned from it",
            self.source.event_time: "the event time: make a number of it in the source, such as the hour",
            self.label.column: "the label: the answer would be an input",
        }
        return [
            refusal(
                ("features", "columns", at),
                name,
                found=f"'{name}', which is {roles[name]}",
                allowed="columns that are known when the model is asked",
                do="Remove it from features.columns.",
            )
            for at, name in enumerate(self.features.columns)
            if name in roles
        ]

    def _label_problem(self) -> list[InitErrorDetails]:
        name = self.label.column
        if name not in (self.source.key, self.source.event_time):
            return []
        allowed, do = "a column of its own", "Name the column that holds the answer."
        return [refusal(("label", "column"), name, found=f"'{name}', source's key or time", allowed=allowed, do=do)]

    def _gate_problems(self) -> list[InitErrorDetails]:
        return list(gate_problems(self.gates, self.task, self.features.columns))

    def _monitoring_problems(self) -> list[InitErrorDetails]:
        rules = [(("triggers", at, "metric"), one.metric) for at, one in enumerate(self.triggers) if one.metric]
        alerts = [(("monitoring", "alerts", at), rule) for at, rule in enumerate(self.monitoring.alerts)]
        found, sample = self.features, self.serving.log_sample
        watched = Watched(self.task, found.columns, found.categorical, found.not_logged, sample)
        return list(monitoring_problems(self.monitoring, [*rules, *alerts], watched))

    def _training_problems(self) -> list[InitErrorDetails]:
        roles = {self.source.key: "the key", self.source.event_time: "the event time", self.label.column: "the label"}
        found = self.features
        new_data = self.new_data.min_rows if self.new_data else None
        return [
            *training_problems(self.training, self.task, found.columns, found.categorical, roles),
            *refit_problems(self.training, new_data, self.window.holdout.min_rows),
        ]

    @property
    def columns(self) -> list[str]:
        """What pull reads: key, event time, features, label and weights, each once."""
        weights = [self.training.weights] if self.training.weights else []
        named = [self.source.key, self.source.event_time, *self.features.columns, self.label.column, *weights]
        return list(dict.fromkeys(named))

    @property
    def schedule(self) -> list[str]:
        """The cron lines, with the model's own values in place of each H."""
        return [resolve(trigger.schedule, self.name) for trigger in self.triggers if trigger.schedule]

    @property
    def new_data(self) -> NewData | None:
        """The new_data trigger, if any."""
        return next((trigger.new_data for trigger in self.triggers if trigger.new_data), None)

    @property
    def recall(self) -> Recall | None:
        """The recall trigger, if any."""
        return next((trigger.recall for trigger in self.triggers if trigger.recall), None)

    @property
    def upstream(self) -> list[str]:
        """The models whose release starts a retrain."""
        return [trigger.upstream for trigger in self.triggers if trigger.upstream]

    @property
    def metric(self) -> list[MetricTrigger]:
        """The rules on metrics that start a retrain."""
        return [trigger.metric for trigger in self.triggers if trigger.metric]

    @property
    def rules(self) -> list[MetricRule]:
        """All rules on metrics: those that start a retrain, and those that tell people only."""
        return [*self.metric, *self.monitoring.alerts]
