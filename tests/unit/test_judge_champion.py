"""judge beside a champion: both on the same rows that neither has seen, or not compared at all."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core import bundle
from evergreen.core.errors import PromotionConflict
from evergreen.core.evidence import evidence_of
from evergreen.core.records import Candidate, CandidateState, GateState
from judging import World
from training_data import AS_OF, make_rows, make_spec

HOLDOUT_START = AS_OF - timedelta(days=5)
OTHER = {"params": {"max_depth": 5}}
AGAINST = [
    {"metric": "auc", "min": 0.1},
    {"metric": "auc", "against": "champion", "min_point_delta": 0.0},
    {"metric": "size_mb", "against": "champion", "max_ratio": 2},
]


@pytest.fixture
def world() -> World:
    return World()


def crowned(world: World, rows: pl.DataFrame | None = None, **made: Any) -> Candidate:
    """A champion, trained apart from what comes."""
    candidate = world.made("champion", rows, **{"training": OTHER, "gates": [{"metric": "auc", "min": 0.1}], **made})
    world.release(candidate)
    world.reports.clear()
    return candidate


def states(candidate: Candidate) -> list[GateState]:
    assert candidate.verdict
    return [gate.state for gate in candidate.verdict.gates]


def test_both_are_scored_on_the_same_rows_and_the_better_one_passes(world: World) -> None:
    champion = crowned(world, skill=0)
    candidate = world.made("r", gates=AGAINST)
    assert candidate.state is CandidateState.PASSED
    assert states(candidate) == [GateState.PASSED] * 4
    verdict = candidate.verdict
    assert verdict
    assert (verdict.champion_version, verdict.champion_metrics["auc"], verdict.ask_why) == (1, 0.5, "")
    assert verdict.gates[1].champion == 0.5
    assert world.rehearsed == [(1, None), (2, 1)]
    (told,) = world.reports
    assert told.champion
    assert told.champion.bundle == champion.bundle
    assert told.scored.champion is not None
    assert told.scored.champion.shape == told.scored.candidate.shape == (120,)
    metrics = world.registry.runs[candidate.mlflow_run].metrics
    assert metrics["champion.auc"] == 0.5 < metrics["holdout.auc"]
    assert "beside champion version 1" in world.registry.runs[candidate.mlflow_run].description


def test_the_worse_one_is_refused_by_its_gate(world: World) -> None:
    crowned(world)
    candidate = world.made("r", gates=AGAINST, skill=0)
    assert candidate.state is CandidateState.REJECTED
    assert states(candidate) == [GateState.PASSED, GateState.FAILED, GateState.PASSED, GateState.NOT_JUDGED]
    assert candidate.verdict
    assert candidate.verdict.reason.startswith("auc")


def test_without_a_champion_its_gates_are_left_out(world: World) -> None:
    candidate = world.made("r", gates=AGAINST)
    assert candidate.state is CandidateState.PASSED
    assert states(candidate) == [GateState.PASSED, GateState.NO_CHAMPION, GateState.NO_CHAMPION, GateState.PASSED]


# ---------------------------------------------------------------- fresh rows only


def test_a_champion_that_was_trained_on_holdout_rows_is_never_compared_on_them(world: World) -> None:
    champion = crowned(world, window={"train": "10d", "holdout": {"length": "1d", "min_rows": 10}})
    assert champion.data_end == AS_OF - timedelta(days=2) > HOLDOUT_START
    window = {"train": "10d", "holdout": {"length": "5d", "min_rows": 10}}
    candidate = world.made("r", gates=AGAINST, window=window)
    (told,) = world.reports
    assert told.fresh["at"].min() == champion.data_end + timedelta(hours=1)
    assert candidate.verdict
    assert candidate.verdict.rows == 2 * 24
    assert f"judged on rows after {champion.data_end:%Y-%m-%d %H:%M} UTC" in (
        world.registry.runs[candidate.mlflow_run].description
    )


def test_where_the_champion_has_seen_all_but_a_few_nothing_is_judged_and_nothing_blocked(world: World) -> None:
    crowned(world, window={"train": "10d", "holdout": {"length": "1d", "min_rows": 10}})
    candidate = world.made("r", gates=AGAINST)  # min_rows is 50, and 48 rows are later than the champion's data
    assert candidate.state is CandidateState.NOT_JUDGED
    assert candidate.verdict
    assert candidate.verdict.reason.startswith("not judged: 48 fresh rows")
    assert candidate.verdict.champion_metrics == {}
    assert world.train(world.request("later"), candidate.snapshot_id) == candidate


@pytest.mark.parametrize("gate", [{"metric": "auc", "min": 0.1}, {"metric": "mae", "max": 100}])
def test_a_window_that_ends_before_the_champions_data_leaves_no_row_and_blocks_nothing(
    world: World, gate: dict[str, Any]
) -> None:
    task = "regression" if gate["metric"] == "mae" else "binary_classification"
    crowned(world, task=task, gates=[gate], window={"train": "10d", "holdout": {"length": "1d", "min_rows": 10}})
    spec = make_spec(task=task, gates=[gate])
    request = world.request("backdated", AS_OF - timedelta(days=3))
    rows = make_rows().filter(pl.col("at") <= AS_OF - timedelta(days=3))
    candidate = world.judge(request, world.train(request, world.pulled(rows), spec).version, spec)
    assert candidate.state is CandidateState.NOT_JUDGED
    assert candidate.verdict
    assert candidate.verdict.reason.startswith("not judged: 0 fresh rows")
    (told,) = world.reports
    assert evidence_of(told)["by_period"] == []


# ---------------------------------------------------------------- a champion that cannot be compared


def other_label(rows: pl.DataFrame) -> dict[str, Any]:
    return {"label": {"column": "y2", "arrives_after": "1d"}}


def other_task(rows: pl.DataFrame) -> dict[str, Any]:
    return {
        "task": "regression",
        "gates": [{"metric": "r2", "min": -9}, {"metric": "r2", "against": "champion", "min_point_delta": 0}],
    }


def without_a_column(rows: pl.DataFrame) -> dict[str, Any]:
    return {"features": {"columns": ["x", "carrier"], "categorical": ["carrier"]}}


MADE_APART = [
    (other_label, make_rows().with_columns(y2="y"), r"it learned another label \('y', now 'y2'\)"),
    (other_task, make_rows(), r"it answers another task \(binary_classification, now regression\)"),
    (without_a_column, make_rows().drop("count"), "columns count: not in these rows, which hold id, at, x, carrier, y"),
    (without_a_column, make_rows().with_columns(count=pl.lit("many")), "column 'count': found type String"),
]


@pytest.mark.parametrize(("change", "rows", "says"), MADE_APART)
def test_gates_against_it_are_not_comparable_and_a_person_is_asked(
    world: World, change: Any, rows: pl.DataFrame, says: str
) -> None:
    crowned(world)
    candidate = world.made("r", rows, **{"gates": AGAINST[:2], **change(rows)})
    assert candidate.state is CandidateState.PASSED
    assert states(candidate) == [GateState.PASSED, GateState.NOT_COMPARABLE, GateState.PASSED]
    verdict = candidate.verdict
    assert verdict
    assert re.match(f"the champion, version 1, cannot be compared: {says}", verdict.ask_why)
    assert "A person must decide" in world.registry.runs[candidate.mlflow_run].description
    (told,) = world.reports
    assert told.champion
    assert told.scored.champion is None


def test_other_classes_are_not_comparable(world: World) -> None:
    multi = {
        "task": "multiclass_classification",
        "label": {"column": "klass", "arrives_after": "1d"},
        "gates": [
            {"metric": "logloss", "max": 9},
            {"metric": "logloss", "against": "champion", "min_point_delta": -9},
        ],
    }
    crowned(world, make_rows().with_columns(klass=pl.col("klass").clip(0, 1)), **multi)
    candidate = world.made("r", **multi)
    assert states(candidate) == [GateState.PASSED, GateState.NOT_COMPARABLE, GateState.PASSED]
    assert candidate.verdict
    assert "it knows 2 classes, and the candidate 3" in candidate.verdict.ask_why


def test_a_champion_whose_bundle_is_gone_blocks_no_successor(world: World) -> None:
    champion = crowned(world)
    del world.store.files[bundle.key(champion.bundle, bundle.MODEL)]
    candidate = world.made("r", gates=AGAINST)
    assert candidate.state is CandidateState.PASSED
    assert states(candidate)[1:3] == [GateState.NOT_COMPARABLE] * 2
    assert candidate.verdict
    assert "its bundle cannot be read" in candidate.verdict.ask_why


def test_a_champion_of_other_columns_is_compared_where_the_snapshot_has_them(world: World) -> None:
    crowned(world)
    candidate = world.made("r", gates=AGAINST[:2], **without_a_column(make_rows()))
    assert states(candidate) == [GateState.PASSED] * 3
    (told,) = world.reports
    assert "count" in told.fresh.columns
    assert "count" not in told.fitted.columns


def test_even_without_a_gate_against_it_a_person_is_asked(world: World) -> None:
    crowned(world)
    candidate = world.made("r", make_rows().with_columns(y2="y"), gates=AGAINST[:1], **other_label(make_rows()))
    assert candidate.state is CandidateState.PASSED
    assert candidate.verdict
    assert candidate.verdict.ask_why


# ---------------------------------------------------------------- which champion


def test_a_conflict_is_solved_by_judging_for_another_request(world: World) -> None:
    first = world.made("r")
    other = world.made("other", training=OTHER)
    world.release(other)
    with pytest.raises(PromotionConflict):
        world.release(first)
    again = world.judge(world.request("again"), first.version, make_spec(gates=AGAINST))
    assert (again.generation_seen, again.verdict and again.verdict.champion_version) == (1, 2)
    world.release(again)
