"""The spec's `gates`: the limits that a candidate must keep to be released."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.metrics import (
    HIGHER_IS_BETTER,
    MEASURED,
    METRICS_BY_TASK,
    NEAREST_ZERO_IS_BEST,
    RANGES,
    Metric,
    Task,
)
from evergreen.core.spec_fields import Column, Strict, did_you_mean, refusal, refuse

AGAINST_CHAMPION = ("min_delta", "min_point_delta", "max_ratio", "max_drop")
_PARAMETER_OF = {"threshold": "accuracy", "quantile": "quantile_loss"}
_Found = Iterator[InitErrorDetails]


class Gate(Strict):
    """A limit on one metric that a candidate must keep to be released: on fresh rows, or in its rehearsal."""

    metric: str = Field(
        description="One of the task's: auc, logloss, brier, average_precision, accuracy, calibration_error; "
        "mae, rmse, r2, bias, quantile_loss; or of any model: size_mb, latency_p99_ms, memory_mb"
    )
    min: float | None = Field(default=None, allow_inf_nan=False, description="Lowest value that passes")
    max: float | None = Field(default=None, allow_inf_nan=False, description="Highest value that passes")
    against: Literal["champion"] | None = Field(
        default=None,
        description="champion: compare both on the same rows, by min_delta, min_point_delta, max_drop or max_ratio",
    )
    min_delta: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Improvement over the champion that must be certain; negative: how much worse it may be",
    )
    min_point_delta: float | None = Field(
        default=None, allow_inf_nan=False, description="Smallest improvement over the champion as measured"
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Of min_delta, of slices and of the intervals told; one-sided"
    )
    max_ratio: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Highest multiple of the champion's value"
    )
    slice: Column | None = Field(
        default=None,
        description="Feature column: judges each of its values apart; one fails where it certainly misses the limit",
    )
    max_drop: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="With slice: how much worse than the champion each may be"
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Of accuracy: the chance from which class 1 is said (else 0.5)"
    )
    quantile: float | None = Field(
        default=None, gt=0, lt=1, description="Of quantile_loss: which quantile is predicted (else 0.5)"
    )

    @model_validator(mode="after")
    def _can_be_judged(self) -> Gate:
        refuse([*self._limits(), *self._champion(), *self._slices(), *self._parameters(), *self._measured()])
        refuse([*self._ratio(), *self._reach()])
        return self

    @property
    def of(self) -> Metric:
        """The metric with its parameter."""
        return Metric(self.metric, self.threshold if self.metric == "accuracy" else self.quantile)

    @property
    def is_absolute(self) -> bool:
        """Whether it judges the model of itself, on all rows: needs no champion."""
        return self.slice is None and not (self.min is None and self.max is None)

    def _limits(self) -> _Found:
        allowed = "'min', 'max' or both" if not self.against else _or(AGAINST_CHAMPION)
        if not self._given("min", "max", *AGAINST_CHAMPION):
            do = "Write what a candidate must reach."
            yield refusal((), self, found="no limit", allowed=allowed, do=do)
        elif self.against and not self._given(*AGAINST_CHAMPION):
            found, do = "against: champion without a limit to it", "Add one of these, or remove 'against'."
            yield refusal(("against",), "champion", found=found, allowed=allowed, do=do)

    def _champion(self) -> _Found:
        for key in self._given(*AGAINST_CHAMPION) if not self.against else ():
            found, do = f"'{key}' without 'against'", "Add 'against: champion': it is measured against it."
            yield refusal((key,), getattr(self, key), found=found, allowed=f"'{key}' with against: champion", do=do)

    def _slices(self) -> _Found:
        if self.max_drop is not None and self.slice is None:
            do = "Add 'slice' with a feature column, or write min_delta for all rows together."
            yield refusal(("max_drop",), self.max_drop, found="no 'slice'", allowed="'max_drop' with 'slice'", do=do)
        for key in self._given("min_delta", "min_point_delta", "max_ratio") if self.slice else ():
            found, allowed = f"'{key}' with 'slice'", "min, max or max_drop with 'slice'"
            yield refusal((key,), getattr(self, key), found=found, allowed=allowed, do="Write it as a gate of its own.")

    def _parameters(self) -> _Found:
        for key, metric in _PARAMETER_OF.items():
            if getattr(self, key) is not None and self.metric != metric:
                found, do = f"'{key}' of {self.metric}", f"Remove it: only {metric} has one."
                yield refusal((key,), getattr(self, key), found=found, allowed=f"'{key}' of {metric}", do=do)

    def _measured(self) -> _Found:
        given = self._given("min", "min_delta", "min_point_delta", "max_drop", "slice")
        for key in given if self.metric in MEASURED else ():
            found, allowed = f"'{key}' of {self.metric}", "max, or max_ratio against the champion"
            do = "It is measured once for the whole model: write how much it may be."
            yield refusal((key,), getattr(self, key), found=found, allowed=allowed, do=do)

    def _ratio(self) -> _Found:
        if self.max_ratio is not None and self.metric in HIGHER_IS_BETTER | NEAREST_ZERO_IS_BEST:
            found, allowed = f"'max_ratio' of {self.metric}", "a metric that is at least 0 and better where it is less"
            do = "Write min_delta or min_point_delta."
            yield refusal(("max_ratio",), self.max_ratio, found=found, allowed=allowed, do=do)

    def _reach(self) -> _Found:
        for reach in self._out_of_reach():
            do = "As it stands no candidate could ever pass."
            yield refusal(reach.at, self, found=reach.found, allowed=reach.allowed, do=do)

    def _out_of_reach(self) -> Iterator[_Reach]:
        bottom, top = RANGES.get(self.metric, (-math.inf, math.inf))
        low, high = self.min if self.min is not None else bottom, self.max if self.max is not None else top
        if max(bottom, low) > min(top, high):
            found = ", ".join(f"{key} {getattr(self, key):g}" for key in self._given("min", "max"))
            can = f"limits that {self.metric} can meet: it lies between {bottom:g} and {top:g}, and min is below max"
            yield _Reach((), found, can)
        for key in self._given("min_delta", "min_point_delta"):
            if (delta := getattr(self, key)) > top - bottom:
                can = f"at most {top - bottom:g}: {self.metric} lies between {bottom:g} and {top:g}"
                yield _Reach((key,), f"{key} {delta:g}", can)

    def _given(self, *keys: str) -> list[str]:
        return [key for key in keys if getattr(self, key) is not None]


def gate_problems(gates: Sequence[Gate], task: Task, features: Sequence[str]) -> _Found:
    """What is wrong with a spec's gates together: metrics of the task, slices by a feature, one absolute gate."""
    metrics = METRICS_BY_TASK[task]
    unfit = [found for at, gate in enumerate(gates) for found in _misfits(gate, at, task, features)]
    yield from unfit
    if not unfit and not any(gate.is_absolute and gate.metric in metrics for gate in gates):
        yield refusal(
            ("gates",),
            None,
            found="no gate with min or max on all rows",
            allowed=f"at least one, on {_or(metrics)}",
            do="Add one: without a champion it alone decides.",
        )


def _misfits(gate: Gate, at: int, task: Task, features: Sequence[str]) -> _Found:
    metrics = METRICS_BY_TASK[task] + MEASURED
    if gate.metric not in metrics:
        allowed = f"{', '.join(metrics)} (for {task.value})"
        do = did_you_mean(gate.metric, metrics) or "Choose a metric that this task has."
        yield refusal(("gates", at, "metric"), gate.metric, found=f"'{gate.metric}'", allowed=allowed, do=do)
    if gate.slice and gate.slice not in features:
        allowed = f"a feature: {', '.join(features)}"
        do = did_you_mean(gate.slice, features) or "Name a column of features.columns."
        yield refusal(("gates", at, "slice"), gate.slice, found=f"'{gate.slice}'", allowed=allowed, do=do)
    if gate.threshold is not None and task is not Task.BINARY:
        found, allowed = f"'threshold' for {task.value}", f"'threshold' for {Task.BINARY.value}"
        do = "Remove it: the class with the highest chance is said."
        yield refusal(("gates", at, "threshold"), gate.threshold, found=found, allowed=allowed, do=do)


class _Reach(NamedTuple):
    at: tuple[str, ...]
    found: str
    allowed: str


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
