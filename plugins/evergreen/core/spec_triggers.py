"""The triggers of the model spec: what starts a retrain, or has an earlier version compared anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.metrics import MEASURED
from evergreen.core.spec_fields import Cron, LongerThanZero, Name, Strict, refusal, refuse_one
from evergreen.core.spec_gates import Gate
from evergreen.core.spec_monitoring import MetricTrigger


class NewData(Strict):
    """Start when the source has this many new rows whose label has had time to arrive."""

    min_rows: int = Field(ge=1, description="New rows, counted from the last served request")


class Recall(Strict):
    """Let an earlier version answer again where it is the best of those kept on the newest rows, and passes all gates.

    Nothing is fitted: the versions are scored on the rows of the holdout, which none of them was fitted on.
    """

    every: LongerThanZero = Field(description="How often the kept versions are compared; a cooldown does not stop it")
    versions: int = Field(
        default=10, ge=2, description="So many of the newest versions are compared, and kept however old"
    )


class Trigger(Strict):
    """One reason to retrain: a cron line, new data, a release of another model, or a metric of the monitor; or a recall
    of an earlier version."""

    schedule: Cron | None = Field(
        default=None,
        description="Cron line of five fields, UTC; H (as in Jenkins: H, H(0-29), H/15) is a value that the model's "
        "name picks, so that not all models start at once",
    )
    new_data: NewData | None = Field(default=None, description="Start by the number of new rows")
    upstream: Name | None = Field(
        default=None, description="Start when this other model was released, of whose answers this one learns"
    )
    metric: MetricTrigger | None = Field(default=None, description="Start when a metric of the monitor says so")
    recall: Recall | None = Field(
        default=None, description="Retrain nothing: let an earlier version answer again where it is better now"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Trigger:
        given = [f"'{name}'" for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of 'schedule', 'new_data', 'upstream', 'metric' and 'recall'"
            refuse_one(self, found=found, allowed="one of them", do="Write each trigger as an entry of its own.")
        return self


def trigger_problems(triggers: Sequence[Trigger], gates: Sequence[Gate]) -> Iterator[InitErrorDetails]:
    """What is wrong with triggers beside each other, and with a recall that no gate could judge."""
    keep = {"new_data": "Keep the one with the smaller min_rows.", "recall": "Keep the one that comes more often."}
    for kind, do in keep.items():
        given = [at for at, trigger in enumerate(triggers) if getattr(trigger, kind)]
        for at in given[1:]:
            yield refusal(("triggers", at), None, found=f"a second {kind}", allowed=f"one {kind} trigger", do=do)
        if kind == "recall" and given and not any(_compares(gate) for gate in gates):
            yield _nothing_compares(given[0])
    yield from _upstream_twice(triggers)


def _compares(gate: Gate) -> bool:
    return gate.against is not None and gate.slice is None and gate.metric not in MEASURED


def _nothing_compares(at: int) -> InitErrorDetails:
    return refusal(
        ("triggers", at, "recall"),
        None,
        found="a recall, and no gate that compares a metric with the champion's",
        allowed="a gate with 'against: champion', which says by what a version is better",
        do="Add one to gates, such as {metric: auc, against: champion, min_point_delta: 0}.",
    )


def _upstream_twice(triggers: Sequence[Trigger]) -> Iterator[InitErrorDetails]:
    """Whether there is such a model, core.upstreams knows: it sees all specs."""
    for at, trigger in enumerate(triggers):
        if trigger.upstream and trigger.upstream in [one.upstream for one in triggers[:at]]:
            yield refusal(
                ("triggers", at, "upstream"),
                trigger.upstream,
                found=f"'{trigger.upstream}' a second time",
                allowed="each upstream model once",
                do="Remove one of them.",
            )
