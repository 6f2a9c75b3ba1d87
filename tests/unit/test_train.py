"""train against the in-memory twins: what it leaves behind, run once, twice, or killed on the way."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core import bundle
from evergreen.core.errors import EmptyWindow, RunEnds, TrainingRefused
from evergreen.core.records import ApprovalState, Candidate, CandidateState
from evergreen.core.spec import ModelSpec
from evergreen.core.window_choice import as_text, of_candidate, told
from judging import NOW, Killed, World, dies_anywhere
from training_data import AS_OF, make_rows, make_spec


@pytest.fixture
def world() -> World:
    return World()


def test_train_fits_on_the_training_part_of_the_window_only(world: World) -> None:
    candidate = world.train(world.request("r"), world.pulled(make_rows(700)))  # more than the window
    assert candidate.data_end == AS_OF - timedelta(days=5 + 1)  # the holdout, and label.arrives_after as a gap
    (run,) = world.registry.runs.values()
    assert run.params["rows"] == str(20 * 24 + 1)  # one an hour, both ends of window.train included


def test_a_request_may_ask_for_a_shorter_training_window(world: World) -> None:
    world.train(world.request("r", window_train="3d"), world.pulled(make_rows(700)))
    (run,) = world.registry.runs.values()
    assert run.params["rows"] == str(3 * 24 + 1)


def test_train_registers_a_version_and_logs_what_it_was_made_from(world: World) -> None:
    request, snapshot = world.request("r"), world.pulled(make_rows())
    candidate = world.train(request, snapshot)
    assert (candidate.state, candidate.version) == (CandidateState.TRAINED, 1)
    assert world.ledger.models.candidate("m", 1) == candidate
    assert world.registry.pointers["m", "challenger"] == 1
    run = world.registry.runs[candidate.mlflow_run]
    assert (
        run.tags.items()
        >= {
            "evergreen.request": request,
            "evergreen.snapshot": snapshot,
            "evergreen.train_key": candidate.train_key,
            "evergreen.bundle": candidate.bundle,
            "evergreen.code_revision": "abc",
            "evergreen.lock_hash": "lock",
            "evergreen.folder_hash": "folder",
            "evergreen.image": "evergreen-airflow:7",
            "evergreen.spec_sha256": "spec",
        }.items()
    )
    assert candidate.made_with == {
        "code_revision": "abc",
        "lock_hash": "lock",
        "folder_hash": "folder",
        "image": "evergreen-airflow:7",
        "spec_sha256": "spec",
        "engine": "local",
    }
    assert {"training/importances.csv", "training/history.csv", "training/spec.json"} <= set(run.files)
    assert "plots/training_curve.png" in run.files
    assert "Not judged yet" in run.description
    files = {name: world.store.get(bundle.key(candidate.bundle, name)) for name in ("manifest.json", "model.ubj")}
    facts = json.loads(files["manifest.json"])
    assert (facts["train_key"], facts["label"]) == (candidate.train_key, "y")
    assert run.files["bundle/model.ubj"] == files["model.ubj"]


def test_train_run_again_returns_the_same_candidate_and_fits_no_more(world: World) -> None:
    request, snapshot = world.request("r"), world.pulled(make_rows())
    first = world.train(request, snapshot)
    assert world.train(request, snapshot) == first
    assert world.trainer.fits == 1
    assert len(world.registry.versions) == 1


def test_another_request_goes_on_with_a_candidate_that_is_still_to_be_judged(world: World) -> None:
    snapshot = world.pulled(make_rows())
    first = world.train(world.request("r1"), snapshot)
    assert world.train(world.request("r2"), snapshot) == first
    assert world.trainer.fits == 1


def test_other_parameters_train_anew_and_other_gates_do_not(world: World) -> None:
    snapshot = world.pulled(make_rows())
    world.train(world.request("r1"), snapshot)
    world.train(world.request("r2"), snapshot, make_spec(gates=[{"metric": "auc", "min": 0.9}]))
    assert world.trainer.fits == 1
    assert world.train(world.request("r3"), snapshot, make_spec(training={"params": {"max_depth": 5}})).version == 2


def test_no_row_old_enough_to_train_on_names_the_dates(world: World) -> None:
    snapshot = world.pulled(make_rows(72))
    with pytest.raises(EmptyWindow) as empty:
        world.train(world.request("r"), snapshot)
    assert "2013-02-03 00:00 to 2013-02-23 00:00 UTC" in str(empty.value)
    assert "none of the snapshot's 72 rows" in str(empty.value)


def test_rows_that_cannot_be_learned_from_leave_nothing_behind(world: World) -> None:
    snapshot = world.pulled(make_rows().with_columns(y=pl.lit(1)))
    with pytest.raises(TrainingRefused, match="one class only"):
        world.train(world.request("r"), snapshot)
    assert not world.registry.versions
    assert not world.store.files


# ---------------------------------------------------------------- the same key again


def rejected(world: World) -> Candidate:
    return world.made("r1", skill=0)


def declined(world: World) -> Candidate:
    candidate = world.made("r1")
    asked = world.ledger.approvals.ask(
        candidate, request_id=candidate.request_id, run_id="r1", expires_at=NOW + timedelta(hours=1), now=NOW
    )
    world.ledger.approvals.answer(
        asked.id, state=ApprovalState.REJECTED, by="oncall", reason="the storm week is in it", now=NOW
    )
    return candidate


def rolled_back(world: World) -> Candidate:
    first = world.made("r0", training={"params": {"max_depth": 5}})
    world.release(first)
    second = world.made("r1")
    world.release(second)
    world.ledger.releases.roll_back(
        first, seen=2, pool="default", by="oncall", reason="complaints", act="a1", now=NOW
    )  # fmt: skip
    return second


ENDS = {
    rejected: (CandidateState.REJECTED, r"which its gates refused \(.*auc 0\.5.*0\.6"),
    declined: (CandidateState.DECLINED, r"which oncall declined \(the storm week is in it\)"),
    rolled_back: (CandidateState.ROLLED_BACK, r"which was rolled back by oncall \(complaints\)"),
}


@pytest.mark.parametrize("ended", ENDS)
def test_what_was_refused_is_not_trained_again_and_the_run_says_what_became_of_it(world: World, ended: Any) -> None:
    candidate = ended(world)
    state, says = ENDS[ended]
    with pytest.raises(RunEnds, match=says) as end:
        world.train(world.request("r2"), candidate.snapshot_id)
    assert end.value.served
    assert f"made version {candidate.version}" in end.value.reason
    assert "a run with `force` has it judged again" in end.value.reason
    assert world.ledger.models.candidate("m", candidate.version).state is state
    run = next(run for run in world.registry.runs.values() if run.tags.get("evergreen.outcome"))
    assert (run.tags["evergreen.outcome"], run.status) == (end.value.reason, "FINISHED")
    assert world.train(candidate.request_id, candidate.snapshot_id).state is state  # the request itself, run again


@pytest.mark.parametrize("ended", ENDS)
def test_force_reopens_what_was_refused_and_it_is_judged_again(world: World, ended: Any) -> None:
    candidate, fits = ended(world), world.trainer.fits
    request = world.request("r2", force=True)
    again = world.train(request, candidate.snapshot_id)
    assert (again.version, again.state) == (candidate.version, CandidateState.TRAINED)
    assert world.train(request, candidate.snapshot_id) == again
    assert world.trainer.fits == fits
    judged = world.judge(request, again.version, make_spec(gates=[{"metric": "auc", "min": 0.4}]))
    assert judged.state is CandidateState.PASSED
    world.release(judged)


@pytest.mark.parametrize("force", [False, True])
def test_what_was_released_is_not_trained_again(world: World, force: bool) -> None:
    candidate = world.made("r1")
    world.release(candidate)
    with pytest.raises(RunEnds, match=r"made version 1, which was released$") as ended:
        world.train(world.request("r2", force=force), candidate.snapshot_id)
    assert ended.value.served
    assert world.train(candidate.request_id, candidate.snapshot_id).state is CandidateState.RELEASED
    assert {run.status for run in world.registry.runs.values()} == {"RUNNING", "FINISHED"}


# ---------------------------------------------------------------- killed on the way


def test_killed_before_any_call_and_run_again_leaves_what_one_run_leaves() -> None:
    """Of train and of judge."""
    dies_anywhere(make_spec(), least=30)


# ---------------------------------------------------------------- window.train: auto


def chosen_spec(**window: Any) -> ModelSpec:
    holdout = {"length": "5d", "min_rows": 50}
    return make_spec(window={"train": "auto", "tried": ["5d", "15d"], "season": None, "holdout": holdout, **window})


def test_the_window_is_chosen_before_the_fit_and_stands_in_all_records(world: World) -> None:
    candidate = world.train(world.request("r"), world.pulled(make_rows(1200)), chosen_spec())
    choice = of_candidate(candidate)
    assert choice is not None
    assert world.trainer.tries == 2 * 4
    (run,) = world.registry.runs.values()
    assert run.params["window"] == choice.chosen
    assert json.loads(run.files["training/window_choice.json"]) == json.loads(as_text(choice))
    assert told(choice) in run.description
    days = {"5d": 5, "15d": 15}[choice.chosen]
    assert run.params["rows"] == str(days * 24 + 1)
    judged = world.judge(candidate.request_id, candidate.version, chosen_spec())
    assert judged.made_with == candidate.made_with
    assert world.reports[0].fitted.height == days * 24 + 1


def test_a_retry_finds_the_same_choice_and_a_known_version_is_not_chosen_for_again(world: World) -> None:
    request, snapshot = world.request("r"), world.pulled(make_rows(1200))
    dying = world.mortal([10])
    with pytest.raises(Killed):
        dying.train(request, snapshot, chosen_spec())
    first = world.train(request, snapshot, chosen_spec())
    assert first.made_with == world.train(request, snapshot, chosen_spec()).made_with
    other = World()
    again = other.train(other.request("r"), other.pulled(make_rows(1200)), chosen_spec())
    assert (again.train_key, again.made_with) == (first.train_key, first.made_with)


def test_what_is_tried_is_part_of_the_train_key_and_a_run_may_name_a_length(world: World) -> None:
    snapshot = world.pulled(make_rows(1200))
    made = [
        world.train(world.request("r1"), snapshot, chosen_spec()),
        world.train(world.request("r2"), snapshot, chosen_spec(tried=["5d", "10d"])),
        world.train(world.request("r3", window_train="15d"), snapshot, chosen_spec()),
    ]
    assert len({one.train_key for one in made}) == 3
    assert of_candidate(made[2]) is None


def test_too_little_data_to_choose_trains_on_all_there_is_and_says_so(world: World) -> None:
    candidate = world.train(world.request("r"), world.pulled(make_rows(250)), chosen_spec())
    (run,) = world.registry.runs.values()
    assert world.trainer.tries == 0
    assert "too little data to try windows on" in run.description
    assert candidate.data_end == AS_OF - timedelta(days=5 + 1)
