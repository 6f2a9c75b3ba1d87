"""The spec's `training`: how the booster is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.metrics import Task
from evergreen.core.spec_fields import Column, Strict, check_params, did_you_mean, refusal, refuse
from evergreen.core.spec_tuning import Tuning

SEED = 2013
Direction = Literal["increasing", "decreasing"]
_Found = Iterator[InitErrorDetails]


class Rounds(Strict):
    """Boosting rounds: at most `max`, ended by `early_stopping` rounds without progress."""

    max: int = Field(default=500, ge=1, le=100_000, description="Most boosting rounds")
    early_stopping: int = Field(
        default=25, ge=1, description="Stop after this many rounds without progress on the tail"
    )


class Training(Strict):
    """How the booster is fitted."""

    params: Annotated[dict[str, Any], AfterValidator(check_params)] = Field(
        default_factory=dict,
        description="XGBoost tree parameters",
        json_schema_extra={"additionalProperties": {"type": ["number", "string", "boolean"]}},
    )
    rounds: Rounds = Field(default=Rounds(), description="How many boosting rounds")
    engine: Literal["auto", "local", "external_memory", "dask"] = Field(
        default="auto",
        description="How the rows are held: in memory, in files beside it (rows beyond memory), or on a cluster; "
        "`auto`: in memory where an estimate says that they fit, else in files",
    )
    refit: Literal["never", "after_verdict"] = Field(
        default="never",
        description="`after_verdict`: what passed its gates is fitted once more, holdout included, and so released",
    )
    tuning: Tuning | None = Field(default=None, description="Looks for better parameters now and then; left out: never")
    device: Literal["cpu", "cuda"] = Field(
        default="cpu", description="What trees are grown on; `cuda` without a GPU in reach is refused when training"
    )
    seed: int = Field(default=SEED, ge=0, le=2**31 - 1, description="The same rows, spec and seed give the same model")
    weights: Column | None = Field(
        default=None, description="Column with a row's weight, at least 0; no feature unless it is named there too"
    )
    monotone: dict[Column, Direction] = Field(
        default_factory=dict,
        description="By number feature: `increasing` or `decreasing`; answers never go the other way as it grows",
        json_schema_extra={"additionalProperties": {"enum": ["increasing", "decreasing"]}},
    )
    imbalance: Literal["balanced"] | None = Field(
        default=None, description="`balanced`: rare classes weigh as much as frequent ones; of classifications"
    )

    @model_validator(mode="after")
    def _says_it_once(self) -> Training:
        same = {"scale_pos_weight": ("imbalance", self.imbalance), "monotone_constraints": ("monotone", self.monotone)}
        twice = ((name, key) for name, (key, value) in same.items() if value and name in self.params)
        allowed, do = "one of the two", "Remove it from training.params."
        refuse(
            [
                refusal(("params", name), self.params[name], found=f"'{name}' and '{key}'", allowed=allowed, do=do)
                for name, key in twice
            ]
        )
        return self


def training_problems(
    training: Training, task: Task, features: Sequence[str], categorical: Sequence[str], roles: dict[str, str]
) -> _Found:
    """What does not fit to the rest of the spec. `roles`: columns that have another one, and what it is."""
    yield from _monotone_problems(training, features, categorical)
    if training.refit == "after_verdict" and training.engine == "dask":
        found, do = (
            "'after_verdict' with training.engine dask",
            "Write training.engine: external_memory, or refit: never.",
        )
        yield refusal(
            ("training", "refit"), training.refit, found=found, allowed="'after_verdict' on one machine", do=do
        )
    if training.imbalance and task is Task.REGRESSION:
        found, allowed = "'imbalance' of a regression", "'imbalance' of a classification: a regression has no classes"
        do = "Remove it, or name a column with weights in training.weights."
        yield refusal(("training", "imbalance"), training.imbalance, found=found, allowed=allowed, do=do)
    if role := roles.get(training.weights or ""):
        found, do = f"'{training.weights}', which is {role}", "Name the column that holds the weights, or remove it."
        yield refusal(
            ("training", "weights"), training.weights, found=found, allowed="a column of its own, or a feature", do=do
        )


def refit_problems(training: Training, new_data: int | None, min_rows: int) -> _Found:
    """Runs that could never be judged. `new_data`: the rows that a run waits for, if any; `min_rows`: the holdout's."""
    if training.refit == "after_verdict" and new_data is not None and new_data < min_rows:
        found = f"'after_verdict' with a new_data trigger of min_rows {new_data}"
        allowed = f"at least window.holdout.min_rows, {min_rows}: the champion has seen all earlier rows"
        do = f"Raise the trigger's min_rows to {min_rows} or more, or write refit: never."
        yield refusal(("training", "refit"), training.refit, found=found, allowed=allowed, do=do)


def _monotone_problems(training: Training, features: Sequence[str], categorical: Sequence[str]) -> _Found:
    numbers = [name for name in features if name not in categorical]
    for name in training.monotone:
        if name not in numbers:
            known = "a category, which has no order" if name in features else "which is not in features.columns"
            do = did_you_mean(name, numbers) or "Remove it, or make a number of it in the source."
            yield refusal(
                ("training", "monotone", name),
                name,
                found=f"'{name}', {known}",
                allowed=f"a feature that is a number: {', '.join(numbers) or 'there is none'}",
                do=do,
            )
