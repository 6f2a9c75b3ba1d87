"""The spec's `training.tuning`: how often, for how long and among which tree parameters better ones are looked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.spec_fields import (
    SET_BY_EVERGREEN,
    TREE_PARAMS,
    Duration,
    LongerThanZero,
    Strict,
    did_you_mean,
    refusal,
    refuse,
    shown,
)

Value = int | float | str | bool
Finite = Annotated[float, Field(allow_inf_nan=False)]
ALIASES = {"eta": "learning_rate", "lambda": "reg_lambda", "alpha": "reg_alpha", "min_split_loss": "gamma"}
NOT_TUNED = {
    "max_bin": "rows are binned once for all trials",
    "base_score": "XGBoost takes it from the labels",
    "interaction_constraints": "it says what the model may learn",
    "monotone_constraints": "it says what the model may learn",
    "tree_method": "rows are binned once for all trials",
}
TUNABLE = tuple(name for name in TREE_PARAMS if name not in NOT_TUNED and name not in ALIASES)
# What XGBoost takes where nobody says otherwise (https://xgboost.readthedocs.io/en/stable/parameter.html).
XGBOOST_TAKES: Mapping[str, Value] = {
    "learning_rate": 0.3, "max_depth": 6, "max_leaves": 0, "min_child_weight": 1.0, "subsample": 1.0,
    "colsample_bytree": 1.0, "colsample_bylevel": 1.0, "colsample_bynode": 1.0, "reg_lambda": 1.0, "reg_alpha": 0.0,
    "gamma": 0.0, "max_delta_step": 0.0, "scale_pos_weight": 1.0, "grow_policy": "depthwise",
    "sampling_method": "uniform", "num_parallel_tree": 1, "max_cat_to_onehot": 4, "max_cat_threshold": 64,
}  # fmt: skip
_WHOLE = ("max_depth", "max_leaves", "num_parallel_tree", "max_cat_to_onehot", "max_cat_threshold")
_LEAST = dict.fromkeys(("num_parallel_tree", "max_cat_to_onehot", "max_cat_threshold"), 1)
_AT_MOST_ONE = ("learning_rate", "subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")


class Span(Strict):
    """Numbers from `low` to `high`, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: Finite = Field(description="Smallest value")
    high: Finite = Field(description="Largest value")
    log: bool = Field(default=False, description="Whether 0.01 to 0.1 is as wide as 0.1 to 1")
    int: bool = Field(default=False, description="Whole numbers only")

    @model_validator(mode="after")
    def _is_a_span(self) -> Span:
        wrong = []
        if self.low >= self.high:
            found = f"{self.low:g}, not below high ({self.high:g})"
            do = "Swap them; a parameter with one value belongs into training.params."
            wrong.append(refusal(("low",), self.low, found=found, allowed=f"a number below {self.high:g}", do=do))
        if self.log and self.low <= 0:
            do = "Write a small number such as 0.001, or leave out 'log'."
            wrong.append(
                refusal(("low",), self.low, found=f"{self.low:g} with 'log'", allowed="a number above 0", do=do)
            )
        if self.int and not (self.low.is_integer() and self.high.is_integer()):
            found, do = f"{self.low:g} to {self.high:g} with 'int'", "Write whole numbers, or leave out 'int'."
            wrong.append(refusal(("int",), self.int, found=found, allowed="whole numbers", do=do))
        refuse(wrong)
        return self


Choices = Annotated[list[Value], Field(min_length=2)]
Space = Mapping[str, Span | list[Value]]
# Ranges after P. Probst, A.-L. Boulesteix and B. Bischl, "Tunability: importance of hyperparameters of machine learning
# algorithms", JMLR 20 (2019), narrowed where training.rounds' early stopping would have to grow many hundred trees.
DEFAULT_SPACE: Space = {
    "learning_rate": Span(low=0.03, high=0.3, log=True),
    "max_depth": Span(low=3, high=10, int=True),
    "min_child_weight": Span(low=1, high=128, log=True),
    "subsample": Span(low=0.5, high=1),
    "colsample_bytree": Span(low=0.5, high=1),
    "reg_lambda": Span(low=0.01, high=100, log=True),
    "reg_alpha": Span(low=0.001, high=10, log=True),
    "gamma": Span(low=0.001, high=10, log=True),
}


class Tuning(Strict):
    """Looks for better tree parameters by trials on the past of the training window; the spec's own always compete."""

    trials: int = Field(default=20, ge=2, le=1000, description="Most trials, the spec's own parameters among them")
    timeout: LongerThanZero = Field(
        default=timedelta(minutes=10), description="No trial is begun, and none goes on to its next fold, after this"
    )
    every: Duration = Field(
        default=timedelta(days=7),
        description="How old the last tuning may be; `0s`: each retrain tunes. In between its parameters are used",
    )
    space: dict[str, Span | Choices] | None = Field(
        default=None, description="By tree parameter: a range, or a list of values; left out: eight parameters of trees"
    )
    folds: int = Field(default=3, ge=1, le=10, description="Stretches of the past on which a trial is scored")
    past: Literal["expanding", "sliding"] = Field(
        default="expanding", description="A fold is fitted on all that lies before it, or on equally much for each"
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Trials at a time; with more than one no two tunings go the same way"
    )

    @model_validator(mode="after")
    def _can_be_searched(self) -> Tuning:
        if self.space is None:
            return self
        if not self.space:
            found, do = "an empty map", "Name a parameter, or leave out 'space'."
            refuse([refusal(("space",), {}, found=found, allowed="at least one parameter", do=do)])
        refuse([wrong for name, values in self.space.items() for wrong in _problems(name, values)])
        return self

    @property
    def searched(self) -> Space:
        """What is searched, by parameter."""
        return DEFAULT_SPACE if self.space is None else self.space


def own_value(params: Mapping[str, Any], name: str) -> Value | None:
    """What the spec's parameters say of this one, by any of its names, else XGBoost."""
    names = [name, *(alias for alias, of in ALIASES.items() if of == name)]
    return next((params[one] for one in names if one in params), XGBOOST_TAKES.get(name))


def with_values(params: Mapping[str, Any], tuned: Mapping[str, Value]) -> dict[str, Any]:
    """The spec's parameters with the tuned ones in their place, whatever name they have there."""
    return {**{name: value for name, value in params.items() if ALIASES.get(name, name) not in tuned}, **tuned}


def _problems(name: str, values: Span | list[Value]) -> Iterator[InitErrorDetails]:
    at: tuple[str | int, ...] = ("space", name)
    allowed = ", ".join(TUNABLE)
    if why := {**SET_BY_EVERGREEN, **NOT_TUNED}.get(name):
        yield refusal(at, name, found=f"'{name}', which is not tuned", allowed=allowed, do=f"Remove it: {why}.")
    elif name in ALIASES:
        yield refusal(at, name, found=f"'{name}'", allowed=allowed, do=f"Write {ALIASES[name]}, its other name.")
    elif name not in TUNABLE:
        do = did_you_mean(name, TUNABLE) or "Remove it: XGBoost would ignore it."
        yield refusal(at, name, found=f"unknown parameter '{name}'", allowed=allowed, do=do)
    else:
        yield from _wrong_values(at, name, values)


def _wrong_values(at: tuple[str | int, ...], name: str, values: Span | list[Value]) -> Iterator[InitErrorDetails]:
    own = XGBOOST_TAKES[name]
    known = [values.low, values.high] if isinstance(values, Span) else values
    if isinstance(own, str):
        if isinstance(values, Span) or not all(isinstance(value, str) for value in values):
            do = "Write the values that are to be tried."
            yield refusal(at, shown(known), found=shown(known), allowed=f"a list of texts such as '{own}'", do=do)
        return
    least, most = _LEAST.get(name, 0), 1 if name in _AT_MOST_ONE else None
    allowed = f"numbers from {least}" + (f" to {most}" if most else "")
    for value in known:
        if isinstance(value, str | bool) or value < least or (most and value > most):
            yield refusal(at, value, found=shown(value), allowed=allowed, do="Correct it.")
    if name in _WHOLE and isinstance(values, Span) and not values.int:
        yield refusal(at, name, found="a range of fractions", allowed="whole numbers", do="Add 'int: true' to it.")
