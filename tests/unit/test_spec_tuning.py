"""The spec's `training.tuning`: what it may say, and how it is told what it may not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.spec_tuning import DEFAULT_SPACE, TUNABLE, XGBOOST_TAKES, Tuning, own_value, with_values


def problem(**given: Any) -> str:
    """What the only error says."""
    with pytest.raises(ValidationError) as caught:
        Tuning.model_validate(given)
    (error,) = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_left_out_keys_have_sensible_values() -> None:
    tuning = Tuning()
    assert (tuning.trials, tuning.folds, tuning.workers) == (20, 3, 1)
    assert (tuning.timeout, tuning.every) == (timedelta(minutes=10), timedelta(days=7))
    assert tuning.searched == DEFAULT_SPACE


def test_a_space_of_ranges_and_of_choices() -> None:
    space = {"max_depth": {"low": 2, "high": 5, "int": True}, "grow_policy": ["depthwise", "lossguide"]}
    searched = Tuning.model_validate({"space": space}).searched
    assert (searched["max_depth"].low, searched["max_depth"].high) == (2, 5)
    assert searched["grow_policy"] == ["depthwise", "lossguide"]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({}, ["space: found an empty map"]),
        ({"max_dept": [3, 4]}, ["space.max_dept", "unknown parameter 'max_dept'", "Did you mean 'max_depth'?"]),
        ({"eta": [0.1, 0.2]}, ["space.eta", "Write learning_rate"]),
        ({"max_bin": [64, 256]}, ["space.max_bin", "binned once for all trials"]),
        ({"objective": ["a", "b"]}, ["space.objective", "it follows from 'task'"]),
        ({"subsample": {"low": 0.9, "high": 0.5}}, ["subsample", "low", "0.9, not below high (0.5)"]),
        ({"gamma": {"low": 0, "high": 5, "log": True}}, ["gamma", "0 with 'log'", "a number above 0"]),
        ({"subsample": {"low": 0.5, "high": 2}}, ["space.subsample", "found 2.0", "numbers from 0 to 1"]),
        ({"max_depth": {"low": 2, "high": 5}}, ["space.max_depth", "Add 'int: true'"]),
        ({"max_depth": {"low": 2.5, "high": 5, "int": True}}, ["int", "whole numbers"]),
        ({"grow_policy": [1, 2]}, ["space.grow_policy", "a list of texts such as 'depthwise'"]),
        ({"max_depth": ["deep", 3]}, ["space.max_depth", "found 'deep'"]),
    ],
)
def test_what_a_space_may_not_say(space: dict[str, Any], told: list[str]) -> None:
    try:
        Tuning.model_validate({"space": space})
    except ValidationError as error:
        found = " ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        assert all(part in found for part in told), found
    else:
        pytest.fail("nothing was refused")


def test_bounds_and_unknown_keys() -> None:
    assert "greater than or equal to 2" in problem(trials=1)
    assert "longer than 0s" in problem(timeout="0s")
    assert "Extra inputs" in problem(trails=5)


def test_each_tunable_parameter_has_a_value_that_xgboost_takes_by_itself() -> None:
    assert set(TUNABLE) == set(XGBOOST_TAKES)
    assert set(DEFAULT_SPACE) <= set(TUNABLE)


def test_a_tuned_value_takes_the_place_of_the_specs_whatever_its_name_there() -> None:
    params = {"eta": 0.1, "max_depth": 4, "lambda": 2.0}
    assert with_values(params, {"learning_rate": 0.2}) == {"max_depth": 4, "lambda": 2.0, "learning_rate": 0.2}
    assert own_value(params, "learning_rate") == 0.1
    assert own_value(params, "reg_lambda") == 2.0
    assert own_value(params, "subsample") == 1.0
