"""`training` in the spec: what of it can be said, and what makes a new version."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.train_key import Provenance, train_key, training_part
from training_data import SPEC, make_spec

MADE_WITH = Provenance("commit", "lock", "folder")
NUMBERS = {"task": "regression", "gates": [{"metric": "rmse", "max": 5}]}


def spec_of(**training: Any):
    return make_spec(training={**SPEC["training"], **training})


@pytest.mark.parametrize(
    ("training", "more", "told"),
    [
        ({"monotone": {"cuont": "increasing"}}, {}, "Did you mean 'count'?"),
        ({"monotone": {"carrier": "increasing"}}, {}, "'carrier', a category, which has no order"),
        ({"monotone": {"nowhere": "increasing"}}, {}, "a feature that is a number: x, count"),
        ({"monotone": {"x": "up"}}, {}, "'increasing' or 'decreasing'"),
        ({"imbalance": "balanced"}, NUMBERS, "a regression has no classes"),
        ({"imbalance": "upsample"}, {}, "balanced"),
        ({"weights": "y"}, {}, "'y', which is the label"),
        ({"weights": "id"}, {}, "'id', which is the key"),
        ({"weights": "at"}, {}, "'at', which is the event time"),
        ({"params": {"scale_pos_weight": 3}, "imbalance": "balanced"}, {}, "'scale_pos_weight' and 'imbalance'"),
        ({"params": {"monotone_constraints": "(1)"}, "monotone": {"x": "increasing"}}, {}, "Remove it from training"),
        ({"params": {"device": "cuda"}}, {}, "write training.device"),
        ({"params": {"seed": 7}}, {}, "write training.seed"),
        ({"seed": -1}, {}, "greater than or equal to 0"),
        ({"engine": "spark"}, {}, "external_memory"),
        ({"device": "tpu"}, {}, "'cpu' or 'cuda'"),
        ({"refit": "always"}, {}, "'never' or 'after_verdict'"),
        ({"refit": "after_verdict", "engine": "dask"}, {}, "Write training.engine: external_memory, or refit: never."),
        (
            {"refit": "after_verdict"},
            {"triggers": [{"new_data": {"min_rows": 49}}]},
            "at least window.holdout.min_rows, 50",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(training: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_spec(training={**SPEC["training"], **training}, **more)
    assert told in str(refused.value)


def test_weights_are_read_by_pull_once_and_are_no_feature() -> None:
    assert spec_of(weights="w").columns == ["id", "at", "x", "carrier", "count", "y", "w"]
    assert spec_of(weights="count").columns == spec_of().columns
    assert spec_of(weights="w").features.columns == ["x", "carrier", "count"]


def test_specs_without_the_keys_that_came_later_keep_the_train_keys_that_they_had() -> None:
    assert training_part(spec_of())["training"] == {
        "params": {"max_depth": 3, "learning_rate": 0.3},
        "rounds": {"max": 30, "early_stopping": 5},
    }
    told = {"seed": 2013, "device": "cpu", "weights": None, "monotone": {}, "imbalance": None}
    assert training_part(spec_of(**told)) == training_part(spec_of())


@pytest.mark.parametrize(
    "training",
    [{"seed": 7}, {"device": "cuda"}, {"weights": "w"}, {"monotone": {"x": "increasing"}}, {"imbalance": "balanced"}],
)
def test_what_changes_the_fit_makes_a_new_version(training: dict[str, Any]) -> None:
    assert train_key("s", spec_of(**training), MADE_WITH) != train_key("s", spec_of(), MADE_WITH)


@pytest.mark.parametrize("engine", ["local", "external_memory", "dask"])
def test_how_rows_are_held_does_not(engine: str) -> None:
    assert train_key("s", spec_of(engine=engine), MADE_WITH) == train_key("s", spec_of(), MADE_WITH)


def test_fitting_again_makes_no_other_version_of_what_is_judged() -> None:
    again = spec_of(refit="after_verdict", engine="external_memory")
    assert train_key("s", again, MADE_WITH) == train_key("s", spec_of(), MADE_WITH)
    assert spec_of().training.refit == "never"
    make_spec(training={**SPEC["training"], "refit": "after_verdict"}, triggers=[{"new_data": {"min_rows": 50}}])
