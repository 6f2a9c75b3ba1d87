"""train and judge against the in-memory twins: what they leave behind, run once, twice, or killed on the way."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused, EmptyWindow, PromotionConflict, RunEnds, TrainingRefused
from evergreen.core.ports import Ledger
from evergreen.core.records import Candidate, CandidateState
from evergreen.core.snapshot import snapshot_id
from evergreen.core.spec import ModelSpec
from evergreen.core.train_key import Provenance
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.snapshots import InMemorySnapshots
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.trainer import FakeTrainer
from evergreen.steps.judge import judge
from evergreen.steps.train import train
from records import make_request_args, make_snapshot
from training_data import AS_OF, make_rows, make_spec

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
MADE_WITH = Provenance(code_revision="abc", lock_hash="lock", folder_hash="folder")


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """Passes calls on, and dies before the call that the shared countdown names."""

    def __init__(self, inner: Any, countdown: list[int]) -> None:
        self._inner, self._countdown = inner, countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._countdown[0] -= 1
            if self._countdown[0] == 0:
                raise Killed
            return found(*args, **kwargs)

        return call


@dataclass
class World:
    """All outside systems in memory."""

    ledger: Ledger = field(default_factory=in_memory_ledger)
    snapshots: InMemorySnapshots = field(default_factory=InMemorySnapshots)
    trainer: FakeTrainer = field(default_factory=lambda: FakeTrainer({"auc": 0.7}))
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    store: InMemoryStore = field(default_factory=InMemoryStore)

    def pulled(self, rows: pl.DataFrame) -> str:
        parts = self.snapshots.write("m", rows, "at", "id")
        made = snapshot_id(parts, "schema")
        first, last = rows["at"].min(), rows["at"].max()
        self.ledger.models.add_snapshot(make_snapshot(id=made, parts=parts, rows=rows.height, start=first, as_of=last))
        return made

    def request(self, name: str) -> str:
        asked = make_request_args(dedupe_key=name, run_id=name, as_of=AS_OF, watermark=AS_OF + timedelta(days=1))
        return self.ledger.requests.open(**asked).id

    def train(self, request: str, snapshot: str, spec: ModelSpec | None = None) -> Candidate:
        return train(
            spec or make_spec(), self.ledger, self.snapshots, self.trainer, self.registry, self.store,
            request_id=request, snapshot_id=snapshot, provenance=MADE_WITH, now=NOW,
        )  # fmt: skip

    def judge(self, request: str, version: int, spec: ModelSpec | None = None) -> Candidate:
        return judge(
            spec or make_spec(), self.ledger, self.snapshots, self.trainer, self.registry, self.store,
            request_id=request, version=version,
        )  # fmt: skip

    def mortal(self, countdown: list[int]) -> World:
        ledger = Ledger(*(Mortal(part, countdown) for part in vars(self.ledger).values()))
        return World(
            ledger, *(Mortal(part, countdown) for part in (self.snapshots, self.trainer, self.registry, self.store))
        )

    def release(self, candidate: Candidate) -> None:
        self.ledger.releases.release(
            candidate, pool="default", released_by="auto", reason="gates", watermark=AS_OF, now=NOW
        )


@pytest.fixture
def world() -> World:
    return World()


# ---------------------------------------------------------------- train


def test_train_fits_on_the_training_part_of_the_window_only(world: World) -> None:
    candidate = world.train(world.request("r"), world.pulled(make_rows(700)))  # more than the window
    assert candidate.data_end == AS_OF - timedelta(days=5 + 1)  # the holdout, and label.arrives_after as a gap
    (run,) = world.registry.runs.values()
    assert run.params["rows"] == str(20 * 24 + 1)  # one an hour, both ends of window.train included


def test_train_registers_a_version_and_logs_what_it_was_made_from(world: World) -> None:
    request, snapshot = world.request("r"), world.pulled(make_rows())
    candidate = world.train(request, snapshot)
    assert (candidate.state, candidate.version) == (CandidateState.TRAINED, 1)
    assert world.ledger.models.candidate("m", 1) == candidate
    assert world.registry.aliases["m", "challenger"] == 1
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
        }.items()
    )
    assert {"training/importances.csv", "training/history.csv", "training/spec.json"} <= set(run.files)
    assert "plots/training_curve.png" in run.files
    assert "Not judged yet" in run.description
    files = {name: world.store.get(bundle.key(candidate.bundle, name)) for name in ("manifest.json", "model.ubj")}
    assert json.loads(files["manifest.json"])["train_key"] == candidate.train_key
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


def test_what_was_released_is_not_trained_again(world: World) -> None:
    request, snapshot = world.request("r1"), world.pulled(make_rows())
    world.release(world.judge(request, world.train(request, snapshot).version))
    with pytest.raises(RunEnds, match="made version 1, which was released") as ended:
        world.train(world.request("r2"), snapshot)
    assert ended.value.served
    assert world.train(request, snapshot).state is CandidateState.RELEASED  # the request itself, run again
    assert {run.status for run in world.registry.runs.values()} == {"RUNNING", "FINISHED"}


def test_what_the_gates_refused_is_not_trained_again(world: World) -> None:
    world.trainer.scores["auc"] = 0.5
    request, snapshot = world.request("r1"), world.pulled(make_rows())
    world.judge(request, world.train(request, snapshot).version)
    with pytest.raises(RunEnds, match=r"its gates refused \(auc 0\.5 is below 0\.6\)"):
        world.train(world.request("r2"), snapshot)


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


# ---------------------------------------------------------------- judge


def judged(world: World, **spec: Any) -> Candidate:
    request = world.request("r")
    candidate = world.train(request, world.pulled(make_rows()), make_spec(**spec))
    return world.judge(request, candidate.version, make_spec(**spec))


def test_a_candidate_that_keeps_its_gates_passes(world: World) -> None:
    candidate = judged(world)
    assert candidate.state is CandidateState.PASSED
    assert candidate.verdict
    assert candidate.verdict.reason == "auc 0.7 keeps ≥ 0.6"
    assert candidate.verdict.rows == 5 * 24  # after the holdout's start, until as_of
    run = world.registry.runs[candidate.mlflow_run]
    assert run.metrics["holdout.auc"] == 0.7
    assert json.loads(run.files["judge/verdict.json"])["verdict"]["passed"] is True
    assert "| auc | ≥ 0.6 | 0.7 | yes |" in run.description
    assert run.status == "RUNNING"


def test_a_candidate_that_misses_a_gate_is_rejected_and_its_run_ends(world: World) -> None:
    world.trainer.scores["auc"] = 0.5
    candidate = judged(world)
    assert candidate.state is CandidateState.REJECTED
    assert world.registry.runs[candidate.mlflow_run].status == "FINISHED"


def test_too_few_fresh_rows_are_not_judged_and_block_no_train_key(world: World) -> None:
    window = {"train": "20d", "holdout": {"length": "5d", "min_rows": 121}}
    candidate = judged(world, window=window)
    assert candidate.state is CandidateState.NOT_JUDGED
    assert candidate.verdict
    assert candidate.verdict.reason.startswith("not judged: 120 fresh rows with a label, window.holdout.min_rows")
    later = world.request("later")
    again = world.train(later, candidate.snapshot_id, make_spec(window=window))
    assert world.judge(later, again.version).state is CandidateState.PASSED  # min_rows lowered, nothing retrained
    assert world.trainer.fits == 1


def test_rows_that_the_candidate_was_fitted_on_never_judge_it(world: World) -> None:
    request = world.request("r")
    candidate = world.train(request, world.pulled(make_rows()))
    seen = replace(candidate, version=2, train_key="other", data_end=AS_OF - timedelta(days=3))
    world.ledger.models.add_candidate(seen)
    found = world.judge(request, 2)
    assert found.verdict
    assert found.verdict.rows == 3 * 24


def test_a_holdout_of_one_class_gives_no_verdict_on_auc(world: World) -> None:
    rows = make_rows().with_columns(y=pl.when(pl.col("at") > AS_OF - timedelta(days=5)).then(1).otherwise(pl.col("y")))
    request = world.request("r")
    candidate = world.judge(request, world.train(request, world.pulled(rows)).version)
    assert candidate.state is CandidateState.NOT_JUDGED
    assert candidate.verdict
    assert candidate.verdict.reason == "auc could not be judged on these rows (limit ≥ 0.6)"
    assert not any(math.isnan(value) for value in world.registry.runs[candidate.mlflow_run].metrics.values())


def test_judge_run_again_changes_nothing(world: World) -> None:
    first = judged(world)
    world.trainer.scores["auc"] = 0.1
    assert world.judge(first.request_id, first.version) == first
    world.release(first)
    assert world.judge(first.request_id, first.version).state is CandidateState.RELEASED


def test_a_conflict_is_solved_by_judging_for_another_request(world: World) -> None:
    first = judged(world)
    request = world.request("other")
    other_spec = make_spec(training={"params": {"max_depth": 5}})
    other = world.train(request, first.snapshot_id, other_spec)
    world.release(world.judge(request, other.version, other_spec))
    with pytest.raises(PromotionConflict):
        world.release(first)
    again = world.judge(world.request("again"), first.version)
    assert again.generation_seen == 1
    world.release(again)


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


# ---------------------------------------------------------------- killed on the way


def test_killed_before_any_call_and_run_again_leaves_what_one_run_leaves() -> None:
    whole = outcome(World())
    for kill_at in range(1, 200):
        world, countdown = World(), [kill_at]
        try:
            outcome(world, world.mortal(countdown))
        except Killed:
            assert outcome(world) == whole, f"killed before call {kill_at}"
        else:
            assert kill_at > 20  # it was killed everywhere before
            return
    pytest.fail("never ended")


def outcome(world: World, alive: World | None = None) -> dict[str, Any]:
    """Train and judge one request, then everything that can be seen of it."""
    request, snapshot = world.request("r"), world.pulled(make_rows(300))
    alive = alive or world
    candidate = alive.judge(request, alive.train(request, snapshot).version)
    shown = replace(candidate, request_id="-", bundle=candidate.bundle)
    runs = [
        (run.name == request, run.params, run.metrics, sorted(run.files), run.status)
        for run in world.registry.runs.values()
    ]
    versions = {version: kept.files for version, kept in world.registry.versions.items()}
    return {"candidate": shown, "runs": runs, "versions": versions, "store": world.store.files}
