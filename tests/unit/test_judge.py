"""judge against the in-memory twins: a candidate alone, its states, and who is told what and when."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core import bundle, fresh, read_rows
from evergreen.core.errors import BundleRefused, NotComparable
from evergreen.core.fresh import fitted_rows
from evergreen.core.records import ApprovalState, CandidateState, GateState, ReleaseKind
from judging import NOW, World
from training_data import AS_OF, make_rows, make_spec

HOLDOUT_START = AS_OF - timedelta(days=5)


@pytest.fixture
def world() -> World:
    return World()


def gate(candidate: Any, metric: str) -> Any:
    return next(gate for gate in candidate.verdict.gates if gate.metric == metric)


def test_a_candidate_that_keeps_its_gates_passes(world: World) -> None:
    candidate = world.made("r")
    assert candidate.state is CandidateState.PASSED
    assert candidate.verdict
    assert "auc" in candidate.verdict.reason
    assert candidate.verdict.rows == 5 * 24  # after the holdout's start, until as_of
    assert candidate.verdict.champion_version is None
    assert world.rehearsed == [(1, None)]
    run = world.registry.runs[candidate.mlflow_run]
    assert run.metrics["holdout.auc"] == gate(candidate, "auc").candidate == candidate.verdict.metrics["auc"] > 0.6
    kept = json.loads(run.files["judge/verdict.json"])
    assert kept["verdict"]["passed"] is True
    assert [gate["metric"] for gate in kept["verdict"]["gates"]] == ["auc", "rehearsal"]
    assert f"| auc | ≥ 0.6 | {run.metrics['holdout.auc']:.4g} | – |" in run.description
    assert "judged on rows after 2013-02-24 00:00 UTC until 2013-03-01 00:00 UTC" in run.description
    assert run.status == "RUNNING"


def test_a_candidate_that_misses_a_gate_is_rejected_and_never_rehearsed(world: World) -> None:
    gates = [{"metric": "auc", "min": 0.6}, {"metric": "latency_p99_ms", "max": 20}]
    candidate = world.made("r", skill=0, gates=gates)
    assert candidate.state is CandidateState.REJECTED
    assert candidate.verdict
    assert candidate.verdict.reason.startswith("auc 0.5")
    assert world.rehearsed == []
    for metric in ("rehearsal", "latency_p99_ms"):
        assert gate(candidate, metric).state is GateState.NOT_JUDGED
        assert gate(candidate, metric).note == "refused before the rehearsal"
    assert world.registry.runs[candidate.mlflow_run].status == "FINISHED"


def test_a_failed_rehearsal_is_a_gate_of_its_own(world: World) -> None:
    world.rehearsal = GateState.FAILED
    candidate = world.made("r")
    assert candidate.state is CandidateState.REJECTED
    assert gate(candidate, "auc").passed
    assert candidate.verdict
    assert "as the test says" in candidate.verdict.reason


@pytest.mark.parametrize(
    ("limit", "state"),
    [({"max": 0.01}, CandidateState.PASSED), ({"max": 0.0001}, CandidateState.REJECTED)],
)
def test_the_size_of_the_bundle_is_judged(world: World, limit: dict[str, float], state: CandidateState) -> None:
    candidate = world.made("r", gates=[{"metric": "auc", "min": 0.6}, {"metric": "size_mb", **limit}])
    files = [data for key, data in world.store.files.items() if candidate.bundle in key]
    assert candidate.state is state
    assert gate(candidate, "size_mb").candidate == sum(map(len, files)) / 1e6


def test_too_few_fresh_rows_are_not_judged_and_block_no_train_key(world: World) -> None:
    window = {"train": "20d", "holdout": {"length": "5d", "min_rows": 121}}
    candidate = world.made("r", window=window)
    assert candidate.state is CandidateState.NOT_JUDGED
    assert candidate.verdict
    assert candidate.verdict.reason.startswith("not judged: 120 fresh rows with a label, window.holdout.min_rows")
    assert world.rehearsed == []
    later = world.request("later")
    again = world.train(later, candidate.snapshot_id, make_spec(window=window))
    assert world.judge(later, again.version).state is CandidateState.PASSED  # min_rows lowered, nothing retrained
    assert world.trainer.fits == 1


def test_a_holdout_of_one_class_gives_no_verdict_on_auc(world: World) -> None:
    rows = make_rows().with_columns(y=pl.when(pl.col("at") > HOLDOUT_START).then(1).otherwise(pl.col("y")))
    candidate = world.made("r", rows)
    assert candidate.state is CandidateState.NOT_JUDGED
    assert gate(candidate, "auc").state is GateState.NOT_JUDGED
    assert world.rehearsed == []
    assert not any(math.isnan(value) for value in world.registry.runs[candidate.mlflow_run].metrics.values())


@pytest.mark.parametrize(
    ("task", "label", "gates"),
    [
        ("regression", "amount", [{"metric": "mae", "max": 100}, {"metric": "r2", "min": 0.3}]),
        ("multiclass_classification", "klass", [{"metric": "logloss", "max": 1.2}, {"metric": "accuracy", "min": 0.4}]),
    ],
)
def test_other_tasks(world: World, task: str, label: str, gates: list[dict[str, Any]]) -> None:
    candidate = world.made("r", task=task, label={"column": label, "arrives_after": "1d"}, gates=gates)
    assert candidate.state is CandidateState.PASSED
    assert gates[0]["metric"] in world.registry.runs[candidate.mlflow_run].description


# ---------------------------------------------------------------- which rows


def test_rows_that_the_candidate_was_fitted_on_never_judge_it(world: World) -> None:
    request = world.request("r")
    candidate = world.train(request, world.pulled(make_rows()))
    seen = replace(candidate, version=2, train_key="other", data_end=AS_OF - timedelta(days=3))
    world.ledger.models.add_candidate(seen)
    found = world.judge(request, 2)
    assert found.verdict
    assert found.verdict.rows == 3 * 24


def test_rows_younger_than_as_of_are_left_out_even_if_labelled(world: World) -> None:
    rows = make_rows(until=AS_OF + timedelta(days=2))
    assert rows.filter(pl.col("at") > AS_OF)["y"].null_count() == 0
    candidate = world.made("r", rows)
    (told,) = world.reports
    assert candidate.verdict
    assert told.fresh["at"].max() == AS_OF
    assert candidate.verdict.rows == told.fresh.height == 5 * 24


def test_between_what_is_fitted_and_what_is_judged_lies_the_time_a_label_takes(world: World) -> None:
    world.made("r")
    (told,) = world.reports
    assert told.fitted["at"].max() == HOLDOUT_START - timedelta(days=1)
    assert told.fresh["at"].min() == HOLDOUT_START + timedelta(hours=1)


def test_rows_without_a_label_judge_nothing(world: World) -> None:
    late = pl.col("at") > AS_OF - timedelta(days=1)
    rows = make_rows().with_columns(y=pl.when(late).then(None).otherwise("y").cast(pl.Float64))
    rows[-30, "y"] = math.nan
    candidate = world.made("r", rows)
    assert candidate.verdict
    assert candidate.verdict.rows == 4 * 24 - 1


# ---------------------------------------------------------------- who is told


def test_what_is_reported_is_row_by_row_the_same_and_comes_before_the_ledger(world: World) -> None:
    rows = make_rows().with_columns(at=pl.col("at").dt.truncate("6h"))  # many rows of one time
    states = []

    class Told(list):
        def append(self, judgement: Any) -> None:
            states.append(world.ledger.models.candidate("m", 1).state)
            super().append(judgement)

    world.reports = Told()
    gates = [{"metric": "auc", "min": 0.6}, {"metric": "auc", "slice": "carrier", "against": "champion", "max_drop": 1}]
    candidate = world.made("r", rows.sample(fraction=1, shuffle=True, seed=1), gates=gates)
    (told,) = world.reports
    assert states == [CandidateState.TRAINED]
    assert (told.champion, told.verdict) == (None, candidate.verdict)
    fresh, scored = told.fresh, told.scored
    assert fresh.equals(fresh.sort("at", "id"))
    assert scored.at.tolist() == fresh["at"].dt.replace_time_zone(None).to_list()
    assert scored.label.tolist() == fresh["y"].to_list()
    assert scored.slices["carrier"].tolist() == fresh["carrier"].fill_null("missing").to_list()
    files = {name: world.store.get(bundle.key(candidate.bundle, name)) for name in ("model.ubj", "schema.json")}
    assert scored.candidate.tolist() == world.trainer.predict(files, fresh).tolist()
    assert told.fitted.columns == ["id", "at", "x", "carrier", "count", "y"]


def test_of_many_fitted_rows_some_are_drawn_and_always_the_same(world: World) -> None:
    candidate, spec = world.made("r"), make_spec()
    snapshot = world.ledger.models.snapshot("m", candidate.snapshot_id)
    whole, *drawn = (fitted_rows(spec, world.snapshots, snapshot, candidate, most=n) for n in (10**6, 50, 50))
    assert whole["at"].max() == candidate.data_end
    assert drawn[0].equals(drawn[1])
    assert drawn[0].height == 50
    assert drawn[0]["at"].is_sorted()
    assert drawn[0].join(whole, on="id", how="anti").is_empty()


def test_they_are_the_same_where_they_are_too_many_for_one_frame(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, spec = world.made("r"), make_spec()
    snapshot = world.ledger.models.snapshot("m", candidate.snapshot_id)
    wanted = [fitted_rows(spec, world.snapshots, snapshot, candidate, most=most) for most in (10**6, 50)]
    for module in (fresh, read_rows):
        monkeypatch.setattr(module, "FRAME_CELLS", 1)
    found = [fitted_rows(spec, world.snapshots, snapshot, candidate, most=most) for most in (10**6, 50)]
    assert all(one.equals(other) for one, other in zip(found, wanted, strict=True))


# ---------------------------------------------------------------- again, or not at all


def test_judge_run_again_changes_nothing(world: World) -> None:
    first = world.made("r")
    assert world.judge(first.request_id, first.version, make_spec(gates=[{"metric": "auc", "min": 0.99}])) == first
    world.release(first)
    assert world.judge(first.request_id, first.version).state is CandidateState.RELEASED
    assert len(world.reports) == len(world.rehearsed) == 1


def test_a_candidate_that_was_rolled_back_is_not_judged_unless_it_was_reopened(world: World) -> None:
    first = world.made("r1", training={"params": {"max_depth": 5}})
    world.release(first)
    second = world.made("r2")
    world.release(second)
    back = world.ledger.releases.roll_back(
        first, seen=2, pool="default", by="oncall", reason="complaints", act="a", now=NOW
    )
    assert back.kind is ReleaseKind.ROLLBACK
    assert world.judge(world.request("r3"), second.version).state is CandidateState.ROLLED_BACK
    world.ledger.models.reopen("m", second.version)
    assert world.judge(world.request("r4"), second.version).state is CandidateState.PASSED


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_what_a_person_decides_while_another_request_judges_stands(world: World, skill: float) -> None:
    """A verdict that was reached before the answer, and is written after it, must not undo it."""
    first = world.made("r")

    class Rejected(list):
        def append(self, judgement: Any) -> None:
            asked = world.ledger.approvals.ask(first, request_id="r", run_id="run", expires_at=NOW, now=NOW)
            world.ledger.approvals.answer(asked.id, state=ApprovalState.REJECTED, by="ada", reason="no", now=NOW)

    world.reports, world.trainer.skill = Rejected(), skill
    judged = world.judge(world.request("again"), first.version)
    assert (judged.state, judged.verdict) == (CandidateState.DECLINED, first.verdict)


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_bundle_that_is_not_what_was_registered_is_refused(world: World, harm: str) -> None:
    request = world.request("r")
    candidate = world.train(request, world.pulled(make_rows()))
    place = bundle.key(candidate.bundle, bundle.MODEL)
    if harm == "changed":
        world.store.put(place, b"other")
    else:
        del world.store.files[place]
    with pytest.raises(BundleRefused, match=r"model\.ubj"):
        world.judge(request, candidate.version)
    assert world.ledger.models.candidate("m", 1).state is CandidateState.TRAINED


def test_fresh_rows_that_the_candidate_cannot_be_asked_about_stop_the_run(world: World) -> None:
    rows = make_rows().with_columns(x=pl.when(pl.col("at") == AS_OF).then(math.inf).otherwise("x"))
    request = world.request("r")
    candidate = world.train(request, world.pulled(rows))
    with pytest.raises(NotComparable, match="column 'x': found 1 infinite values"):
        world.judge(request, candidate.version)
