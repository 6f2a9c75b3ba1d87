"""Which engine a fit is given, and what is told where none is enough."""

from __future__ import annotations

import pytest

from evergreen.core.errors import TrainingRefused
from evergreen.core.memory_estimate import FRAME_CELLS, Size, estimate_mb, plan_of
from evergreen.core.spec import ModelSpec
from training_data import SPEC, make_spec

LARGE = 20_000_000


def spec_of(engine: str = "auto", **training: object) -> ModelSpec:
    return make_spec(training={**SPEC["training"], "engine": engine, **training})


def test_few_rows_are_one_frame_in_memory() -> None:
    plan = plan_of(spec_of(), FRAME_CELLS // 3, 4000)
    assert (plan.engine, plan.in_one_frame) == ("local", True)
    assert not plan_of(spec_of(), FRAME_CELLS // 3 + 1, 4000).in_one_frame
    assert not plan_of(spec_of("external_memory"), 10, 4000).in_one_frame


def test_files_are_taken_where_memory_is_not_enough_and_what_is_told_says_why() -> None:
    needs = {engine: estimate_mb(engine, Size.of(spec_of(), LARGE)) for engine in ("local", "external_memory")}
    assert needs["local"] > needs["external_memory"]
    between = (needs["local"] + needs["external_memory"]) / 2
    assert plan_of(spec_of(), LARGE, needs["local"] + 1).engine == "local"
    plan = plan_of(spec_of(), LARGE, between)
    assert plan.engine == "external_memory"
    for part in ("20,000,000 rows x 3 features", f"{needs['local']:,.0f} MB by local", f"allowed {between:,.0f} MB"):
        assert part in plan.told


def test_where_nothing_fits_it_is_refused_with_the_numbers_and_what_to_do() -> None:
    least = estimate_mb("external_memory", Size.of(spec_of(), LARGE))
    with pytest.raises(TrainingRefused) as refused:
        plan_of(spec_of(), LARGE, least - 1)
    for part in (
        "m: training.engine auto",
        f"at least {least:,.0f} MB",
        "window.train",
        "EVERGREEN_TRAINING_MEMORY_MB",
    ):
        assert part in str(refused.value)


def test_the_engine_of_the_spec_is_taken_or_refused_and_a_cluster_has_its_own_limits() -> None:
    size = Size.of(spec_of(), LARGE)
    limit = (estimate_mb("local", size) + estimate_mb("external_memory", size)) / 2
    with pytest.raises(TrainingRefused, match=r"write training\.engine: auto"):
        plan_of(spec_of("local"), LARGE, limit)
    assert plan_of(spec_of("external_memory"), LARGE, limit).engine == "external_memory"
    assert plan_of(spec_of("dask"), LARGE * 100, 1).engine == "dask"


def test_rounds_depth_features_and_classes_cost_memory() -> None:
    def needed(rows: int = LARGE, spec: ModelSpec | None = None) -> float:
        return estimate_mb("local", Size.of(spec or spec_of(), rows))

    many = {"column": "klass", "arrives_after": "1d"}
    more = [
        spec_of(rounds={"max": 20_000}),
        spec_of(params={"max_depth": 12}),
        make_spec(features={"columns": [f"x{at}" for at in range(20)]}),
        make_spec(task="multiclass_classification", label=many, gates=[{"metric": "logloss", "max": 1}]),
    ]
    assert all(needed(spec=spec) > needed() for spec in more)
    assert needed(LARGE * 2) > needed()
    assert Size.of(spec_of(params={"max_depth": 0}), 10).nodes <= 20  # of few rows no deep trees
