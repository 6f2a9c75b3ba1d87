"""refit: what passed its gates is fitted once more, on the holdout too, and goes on in place of what was judged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core import bundle, recalling, refitting
from evergreen.core.errors import RunEnds, TrainingRefused
from evergreen.core.history import history_of
from evergreen.core.lineage import of_version
from evergreen.core.monitoring.reference import REFERENCE
from evergreen.core.outcome import ends_with, what_became
from evergreen.core.records import Candidate, CandidateState, GateState
from evergreen.core.retention import ModelFacts, needed_versions
from evergreen.core.spec import ModelSpec, Retention
from evergreen.core.status import facts_of, status_of
from evergreen.core.tuning import KEPT_AS as TUNED
from evergreen.core.window_choice import of_candidate
from evergreen.steps.again import judge_again
from judging import NOW, Killed, World, dies_anywhere
from training_data import AS_OF, SPEC, make_rows, make_spec

AGAIN = {**SPEC["training"], "refit": "after_verdict"}
DEEPER = {**AGAIN, "params": {"max_depth": 5}}
STRICT: list[dict[str, Any]] = [{"metric": "auc", "min": 0.999}]
AGAINST: list[dict[str, Any]] = [
    {"metric": "auc", "min": 0.6},
    {"metric": "brier", "against": "champion", "min_point_delta": -1},
]
TRAINED_UNTIL = AS_OF - timedelta(days=5 + 1)  # the holdout, and label.arrives_after as a gap


@pytest.fixture
def world() -> World:
    return World()


def spec_of(**changes: Any) -> ModelSpec:
    return make_spec(**{"training": AGAIN, **changes})


def versions(world: World) -> dict[int, CandidateState]:
    return {one.version: one.state for one in reversed(world.ledger.models.candidates("m"))}


# ---------------------------------------------------------------- made


def test_what_passed_is_fitted_again_on_all_rows_and_goes_on(world: World) -> None:
    again = world.made("r", training=AGAIN)
    assert versions(world) == {1: CandidateState.REFITTED, 2: CandidateState.PASSED}
    first = world.ledger.models.candidate("m", 1)
    assert (again.version, refitting.refit_of(again)) == (2, 1)
    assert (first.data_end, again.data_end) == (TRAINED_UNTIL, AS_OF)
    assert again.verdict == first.verdict
    assert again.verdict
    assert again.verdict.rows == 5 * 24
    assert world.rehearsed == [(2, None)]  # what is released is what is tried
    assert (world.trainer.fits, world.trainer.refits) == (1, 1)
    assert (again.snapshot_id, again.created_at) == (first.snapshot_id, first.created_at)
    assert again.metrics == first.metrics
    assert world.registry.aliases("m")["challenger"] == 2
    (told,) = world.reports
    assert (told.candidate.version, told.fitted["at"].max()) == (2, TRAINED_UNTIL)
    assert told.fresh["at"].min() > TRAINED_UNTIL
    world.release(again)


def test_its_bundle_answers_from_all_rows_and_measures_as_the_judged_one_did(world: World) -> None:
    again = world.made("r", training=AGAIN)
    first = world.ledger.models.candidate("m", 1)
    before, now = (
        {name: world.store.get(bundle.key(one.bundle, name)) for name in ("model.ubj", REFERENCE, bundle.MANIFEST)}
        for one in (first, again)
    )
    assert before["model.ubj"] != now["model.ubj"]
    assert before[REFERENCE] == now[REFERENCE]
    manifest = json.loads(now[bundle.MANIFEST])
    assert (manifest["snapshot"], manifest["train_key"]) == (first.snapshot_id, again.train_key)
    assert again.train_key == refitting.train_key(first)
    assert len(again.train_key) == 64  # the ledger's column


def test_the_registry_tells_what_each_version_is(world: World) -> None:
    again = world.made("r", make_rows(700), training=AGAIN)
    first = world.ledger.models.candidate("m", 1)
    made, judged = world.registry.runs[again.mlflow_run], world.registry.runs[first.mlflow_run]
    assert made.params["rows"] == str(20 * 24 + 1 + 6 * 24)  # window, gap and holdout, an hour apart
    assert made.params["data_end"] == AS_OF.isoformat()
    assert made.tags["evergreen.refit_of"] == "1"
    assert (
        "version 1 fitted again, on all rows until 2013-03-01 00:00 UTC, and judged as that version" in made.description
    )
    assert "On the early-stopping tail of the training window, by version 1:" in made.description
    assert "fitted again, on all rows, as version 2: that one is released in its place" in judged.description
    assert "holdout.auc" in judged.metrics
    assert (made.status, judged.status) == ("FINISHED", "FINISHED")
    assert "training/importances.csv" in made.files
    assert "training/history.csv" not in made.files


def test_the_rounds_are_those_that_the_judged_version_kept(world: World) -> None:
    asked: list[int] = []
    inner = world.trainer.refit

    def told(spec: ModelSpec, rows: Any, rounds: int, files: Any) -> Any:
        asked.append(rounds)
        return inner(spec, rows, rounds, files)

    world.trainer.refit = told  # type: ignore[method-assign]
    request = world.request("r")
    made = world.train(request, world.pulled(make_rows()), spec_of())
    kept = replace(made, version=9, train_key=made.train_key, metrics={"rounds": 17})
    world.ledger.models._candidates["m", 1] = replace(kept, version=1)  # type: ignore[attr-defined]
    world.judge(request, 1, spec_of())
    assert asked == [17]


def test_a_window_that_was_chosen_goes_on_up_to_as_of(world: World) -> None:
    window = {"train": "auto", "tried": ["5d", "10d"], "holdout": {"length": "5d", "min_rows": 50}}
    again = world.made("r", make_rows(1200), training=AGAIN, window=window)
    before, now = (of_candidate(one) for one in (world.ledger.models.candidate("m", 1), again))
    assert before
    assert now
    assert now.chosen == before.chosen
    assert now.spans[:-1] == before.spans[:-1]
    assert now.spans[-1] == (before.spans[-1][0], AS_OF)


def test_it_has_the_tuned_parameters_of_the_judged_version(world: World) -> None:
    request, spec = world.request("r"), spec_of()
    tuned = {"max_depth": 5}
    made = world.train(
        request, world.pulled(make_rows()), make_spec(training={**AGAIN, "params": {**AGAIN["params"], **tuned}})
    )
    world.ledger.models._candidates["m", 1] = replace(  # type: ignore[attr-defined]
        made, made_with={**made.made_with, TUNED: json.dumps(tuned)}
    )
    again = world.judge(request, 1, spec)
    assert world.registry.runs[again.mlflow_run].params["max_depth"] == "5"


# ---------------------------------------------------------------- not made


def test_without_it_nothing_is_fitted_again(world: World) -> None:
    assert world.made("r").state is CandidateState.PASSED
    assert world.trainer.refits == 0


@pytest.mark.parametrize(
    "change",
    [{"gates": STRICT}, {"gates": [*SPEC["gates"], {"metric": "size_mb", "max": 0.0001}]}],
    ids=["by an answer", "by size"],
)
def test_what_its_gates_refuse_is_not(world: World, change: dict[str, Any]) -> None:
    assert world.made("r", training=AGAIN, **change).state is CandidateState.REJECTED
    assert (versions(world), world.trainer.refits) == ({1: CandidateState.REJECTED}, 0)


def test_what_could_not_be_judged_is_not(world: World) -> None:
    window = {"train": "20d", "holdout": {"length": "5d", "min_rows": 121}}
    assert world.made("r", training=AGAIN, window=window).state is CandidateState.NOT_JUDGED
    assert world.trainer.refits == 0


def test_a_dry_run_fits_nothing_again_and_the_run_that_may_release_does(world: World) -> None:
    request = world.request("d", dry_run=True)
    first = world.judge(request, world.train(request, world.pulled(make_rows()), spec_of()).version, spec_of())
    assert (first.version, first.state, world.trainer.refits) == (1, CandidateState.PASSED, 0)
    real = world.request("r")
    again = world.judge(real, world.train(real, first.snapshot_id, spec_of()).version, spec_of())
    assert (again.version, again.request_id) == (2, real)
    assert versions(world) == {1: CandidateState.REFITTED, 2: CandidateState.PASSED}


@pytest.mark.parametrize("passes", [False, True])
def test_what_a_person_overrides_is_released_as_it_was_judged(world: World, passes: bool) -> None:
    refused = world.made("r", training=AGAIN, gates=STRICT)
    spec = spec_of(**({} if passes else {"gates": STRICT}))
    request = world.request("o", override=1, reason="the outage")
    judged = world.judge(request, world.train(request, refused.snapshot_id, spec).version, spec)
    assert (judged.version, world.trainer.refits) == (1, 0)
    assert judged.state is (CandidateState.PASSED if passes else CandidateState.TO_OVERRIDE)


def test_a_version_of_another_model_yaml_is_released_as_it_was_judged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    request = world.request("r")
    made = world.train(request, world.pulled(make_rows()), spec_of())
    judged = world.judge(request, made.version, spec_of(training=DEEPER))
    assert (judged.version, judged.state) == (1, CandidateState.PASSED)
    assert "Version 1 is not fitted again: model.yaml has changed since it was fitted." in caplog.text


def test_a_version_that_answers_again_is_not_fitted_again(world: World) -> None:
    first = world.made("r")
    again = {**first.made_with, recalling.RECALLS: "1", recalling.BECAUSE: "best"}
    world.ledger.models.add_candidate(replace(first, version=2, train_key="recall-x", made_with=again))
    judged = world.judge(world.request("r2"), 2, spec_of())
    assert (judged.version, world.trainer.refits) == (2, 0)


def test_a_refit_that_answers_again_is_judged_by_its_own_answers(world: World) -> None:
    refit = world.made("r", training=AGAIN)
    recalled = replace(
        refit, version=3, made_with={**refit.made_with, recalling.RECALLS: "2", recalling.BECAUSE: "best"}
    )
    assert refitting.refit_of(recalled) is None
    assert refitting.judged(world.ledger.models, recalled) == recalled


def test_more_memory_than_there_is_ends_the_run_with_the_numbers(world: World) -> None:
    request = world.request("r")
    made = world.train(request, world.pulled(make_rows()), spec_of())
    world.trainer.limit_mb = 1
    with pytest.raises(TrainingRefused, match="EVERGREEN_TRAINING_MEMORY_MB"):
        world.judge(request, made.version, spec_of())
    assert versions(world) == {1: CandidateState.TRAINED}


# ---------------------------------------------------------------- what comes after


def test_a_refit_that_fails_its_rehearsal_is_refused_and_both_have_ended(world: World) -> None:
    world.rehearsal = GateState.FAILED
    again = world.made("r", training=AGAIN)
    assert (again.version, again.state) == (2, CandidateState.REJECTED)
    assert versions(world)[1] is CandidateState.REFITTED
    with pytest.raises(RunEnds, match=r"made version 2, which its gates refused"):
        world.train(world.request("r2"), again.snapshot_id, spec_of())
    world.rehearsal = GateState.PASSED
    forced = world.request("r3", force=True)
    taken = world.train(forced, again.snapshot_id, spec_of())
    assert (taken.version, taken.state) == (2, CandidateState.TRAINED)
    assert world.judge(forced, 2, spec_of()).state is CandidateState.PASSED
    assert (world.trainer.fits, world.trainer.refits) == (1, 1)


def test_judge_and_train_run_again_give_the_same_version(world: World) -> None:
    request = world.request("r")
    made = world.train(request, world.pulled(make_rows()), spec_of())
    again = world.judge(request, made.version, spec_of())
    assert world.judge(request, made.version, spec_of()) == world.judge(request, again.version, spec_of()) == again
    assert world.train(request, made.snapshot_id, spec_of()) == again
    world.release(again)
    assert world.judge(request, made.version, spec_of()).state is CandidateState.RELEASED
    assert (len(world.reports), world.trainer.refits) == (1, 1)


def test_once_it_is_released_the_same_is_not_trained_again(world: World) -> None:
    again = world.made("r", training=AGAIN)
    world.release(again)
    with pytest.raises(RunEnds, match=r"made version 2, which was released"):
        world.train(world.request("r2"), again.snapshot_id, spec_of())


def test_the_judged_one_is_never_released(world: World) -> None:
    world.made("r", training=AGAIN)
    first = world.ledger.models.candidate("m", 1)
    with pytest.raises(Exception, match=r"m: version 1 is refitted. Nothing was released."):
        world.release(first)


def test_overtaken_it_is_judged_anew_by_the_answers_that_judged_it(world: World) -> None:
    again = world.made("r", training=AGAIN, gates=AGAINST)
    other = world.made("other", training={**SPEC["training"], "params": {"max_depth": 5}}, gates=AGAINST)
    world.release(other)
    request = judge_again(world.ledger, again, world.ledger.requests.get(again.request_id), "overtaken", NOW).id
    spec = spec_of(gates=AGAINST)
    assert world.train(request, again.snapshot_id, spec) == again
    judged = world.judge(request, again.version, spec)
    assert (judged.version, judged.state, judged.generation_seen) == (2, CandidateState.PASSED, 1)
    assert judged.verdict
    assert (judged.verdict.rows, judged.verdict.champion_version) == (5 * 24, other.version)
    scores = [told.scored.candidate.tolist() for told in world.reports if told.candidate.version == 2]
    assert len(scores) == 2
    assert scores[0] == scores[1]  # version 1's
    assert world.trainer.refits == 1
    assert world.rehearsed[-1] == (2, other.version)
    world.release(judged)


def test_asked_for_by_the_judged_version_it_is_the_refit_that_is_judged_anew(world: World) -> None:
    again = world.made("r", training=AGAIN)
    request = world.request("o", override=1, reason="it is good")
    world.ledger.models.judge("m", 2, verdict=again.verdict, state=CandidateState.REJECTED, generation_seen=0)  # type: ignore[arg-type]
    assert world.train(request, again.snapshot_id, spec_of()).version == 2


def test_the_next_version_is_judged_on_rows_newer_than_the_champion_has_seen(world: World) -> None:
    champion = world.made("r", training=AGAIN)
    world.release(champion)

    def later(days: int) -> Candidate:
        until = AS_OF + timedelta(days=days)
        request = world.request(f"r{days}", until)
        made = world.train(request, world.pulled(make_rows(900, until=until, seed=days)), spec_of())
        return world.judge(request, made.version, spec_of())

    soon = later(1)
    assert (soon.state, world.trainer.refits) == (CandidateState.NOT_JUDGED, 1)
    assert ends_with(soon) == (
        "not judged: 24 fresh rows with a label, window.holdout.min_rows asks for 50 (version 1 fitted again, on all "
        "rows until 2013-03-01 00:00 UTC, and judged as that version); the next trigger judges on newer rows"
    )
    enough = later(3)
    assert enough.state is CandidateState.PASSED
    assert enough.verdict
    assert enough.verdict.rows == 3 * 24


# ---------------------------------------------------------------- killed


def test_killed_before_any_call_judge_is_run_again_to_the_same_end() -> None:
    dies_anywhere(spec_of(), least=50)


def test_what_another_run_had_begun_is_taken_up(world: World) -> None:
    """A judge that is never tried again has left the refit behind: the next run makes no second one."""
    request = world.request("r")
    made = world.train(request, world.pulled(make_rows()), spec_of())
    world.reports = _Dies()
    with pytest.raises(Killed):
        world.judge(request, made.version, spec_of())
    assert versions(world) == {1: CandidateState.TRAINED, 2: CandidateState.TRAINED}
    world.reports = []
    nightly = world.request("nightly")
    taken = world.train(nightly, made.snapshot_id, spec_of())
    judged = world.judge(nightly, taken.version, spec_of())
    assert (taken.version, judged.version, judged.state) == (2, 2, CandidateState.PASSED)
    assert versions(world)[1] is CandidateState.REFITTED
    assert world.trainer.refits == 1


class _Dies(list[Any]):
    def append(self, _: Any) -> None:
        raise Killed


# ---------------------------------------------------------------- told


def test_people_are_told_what_it_is(world: World) -> None:
    again = world.made("r", training=AGAIN)
    first = world.ledger.models.candidate("m", 1)
    assert what_became(world.ledger, first) == "was fitted again as version 2"
    world.release(again)
    told = "version 1 fitted again, on all rows until 2013-03-01 00:00 UTC, and judged as that version"
    assert status_of(spec_of(), facts_of("m", world.ledger, NOW), NOW).refit == told
    assert [(one.version, one.why) for one in history_of(world.ledger, "m") if one.what == "fitted again"] == [
        (2, told)
    ]
    traced = {node.kind: node for node in of_version(world.ledger, "m", 2).below}
    assert (traced["refit"].says, traced["refit"].facts) == (told, {"of": 1})
    before = {node.kind: node for node in of_version(world.ledger, "m", 1).below}
    assert before["refit"].says == "fitted again as version 2, which is released in its place"
    assert of_version(world.ledger, "m", 1).says.startswith("version 1 of m: refitted; made")


def test_the_judged_version_is_kept_as_long_as_its_refit(world: World) -> None:
    again = world.made("r", training=AGAIN)
    long_ago = [replace(one, created_at=NOW - timedelta(days=900)) for one in world.ledger.models.candidates("m")]
    world.release(again)
    released = [replace(one, released_at=NOW - timedelta(days=900)) for one in world.ledger.releases.history("m")]
    keep = Retention(versions=1)
    facts = ModelFacts(long_ago, released)
    assert needed_versions(facts, keep, NOW) == {2: "live", 1: "version 2, its refit, is judged by its answers"}


def test_a_version_and_its_refit_are_one_of_the_newest(world: World) -> None:
    for name, depth in (("a", 3), ("b", 4), ("c", 5)):
        world.made(name, training={**AGAIN, "params": {"max_depth": depth}})
    long_ago = [replace(one, created_at=NOW - timedelta(days=900)) for one in world.ledger.models.candidates("m")]
    assert list(needed_versions(ModelFacts(long_ago, []), Retention(versions=2), NOW)) == [6, 5, 4, 3]


def test_a_recall_may_have_the_refit_answer_again_and_never_the_judged_one(world: World) -> None:
    world.release(world.made("r", training=AGAIN))
    world.release(world.made("r2", make_rows(700), training=SPEC["training"]))
    kept = recalling.kept(world.ledger.models.candidates("m"), 10)
    assert {one.version for one in kept} == {2, 3}
