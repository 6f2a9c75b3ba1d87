"""What is killed everywhere (tests/unit/test_kill_everywhere.py), and what must be true once it was done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evergreen.core import bundle
from evergreen.core.ports import Ledger
from evergreen.core.recalling import recalled
from evergreen.core.records import ApprovalState, CandidateState, Cause, ReleaseKind, RequestState, RolloutState
from evergreen.core.refitting import refit_of
from evergreen.steps.watch_recall import watch_recall
from recovery import NOW, SPEC, Act, Hook, Run, World, reconciled, request_of

LATER, LATEST = (1400, 30, 2), (1500, 36, 3)


@dataclass(frozen=True)
class Story:
    """What is done, killed somewhere and done again; `prepare` is done before, and is never killed.

    It is killed after each write up to the first `until`: what comes then is another story's.
    """

    act: Act
    whole: Callable[[World], None]
    prepare: Act
    until: str = ""


# ---------------------------------------------------------------- what is done


def reigning(world: World, hook: Hook | None = None) -> None:
    """Version 1 is champion."""
    Run(world, "run-1").to_its_end(hook)


def promoted(world: World, hook: Hook | None) -> None:
    """New data leads to version 2, which a person approves."""
    world.rows = LATER
    Run(world, "run-2").to_its_end(hook)


def one_of_everything(world: World) -> None:
    ledger = world.ports().ledger
    assert versions_live(ledger) == [1, 2]
    assert world.registry.known("m") == [1, 2]
    assert [asked.state for asked in ledger.approvals.history("m")] == [ApprovalState.APPROVED] * 2
    assert request_of(ledger, "run-2").state is RequestState.SERVED


def asked_by_a_metric(world: World, hook: Hook | None = None) -> None:
    """There is a champion, and a request that no run opened."""
    reigning(world)
    asked = {"model": "m", "source": "warehouse/rows/at", "dedupe_key": "metric:1", "run_id": None}
    detail = {"metric": "drift.psi.max", "value": 0.3, "threshold": 0.2}
    ledger = world.ports().ledger
    ledger.requests.open(**asked, cause=Cause.METRIC, watermark=None, as_of=None, detail=detail, now=NOW)


def served_by_the_reconciler(world: World, hook: Hook | None) -> None:
    """The reconciler starts a run for it, and the run does the rest."""
    world.rows = LATER
    reconciled(world, hook)
    for _, run_id in world.runs.all_started():
        Run(world, run_id).to_its_end(hook)


def one_run_for_one_request(world: World) -> None:
    ledger = world.ports().ledger
    asked = next(one for one in ledger.requests.latest("m", limit=9) if one.cause is Cause.METRIC)
    assert world.runs.all_started() == [("m", asked.id)]
    assert (asked.run_id, asked.state) == (asked.id, RequestState.SERVED)
    assert versions_live(ledger) == [1, 2]
    assert world.registry.known("m") == [1, 2]


def two_approved(world: World, hook: Hook | None = None) -> None:
    """Versions 2 and 3 were approved against version 1, and version 3 is quicker."""
    reigning(world)
    world.rows = LATER
    Run(world, "run-2", before="roll_out").to_its_end()
    world.rows = LATEST
    Run(world, "run-3").to_its_end()


def the_loser_is_judged_again(world: World, hook: Hook | None) -> None:
    """Version 2 comes too late: its run ends, and another judges it against version 3."""
    world.rows = LATEST
    Run(world, "run-2").to_its_end(hook)
    reconciled(world, hook)
    for _, run_id in world.runs.all_started():
        Run(world, run_id).to_its_end(hook)


def judged_again_once(world: World) -> None:
    ledger = world.ports().ledger
    assert versions_live(ledger)[:2] == [1, 3]
    first = request_of(ledger, "run-2")
    assert first.state is RequestState.SERVED
    assert "version 3 became champion by run run-3 (generation 2) while version 2 waited" in first.reason
    [again] = [one for one in ledger.requests.latest("m", limit=20) if one.detail.get("judge_again") == 2]
    assert again.id in first.reason
    assert again.detail["of"] == first.id
    assert world.runs.all_started() == [("m", again.run_id)]
    assert again.state is RequestState.SERVED
    assert ledger.models.candidate("m", 2).generation_seen == 2


def a_better_one_was_replaced(world: World, hook: Hook | None = None) -> None:
    """Version 2, which answers all the same, is champion after version 1."""
    reigning(world)
    world.rows = LATER
    Run(world, "run-2", skill=0.1).to_its_end()
    world.rows = LATEST


def the_better_one_is_recalled(world: World, hook: Hook | None) -> None:
    """The reconciler asks for it, and the run does the rest."""
    world.rows = LATEST
    watch_recall(world.ports(hook).ledger, {"m": SPEC}, now=NOW)
    reconciled(world, hook)
    for _, run_id in world.runs.all_started():
        Run(world, run_id).to_its_end(hook)


def recalled_once(world: World) -> None:
    ledger = world.ports().ledger
    [asked] = [one for one in ledger.requests.latest("m", limit=9) if one.detail.get("recall")]
    assert (asked.run_id, asked.state) == (asked.id, RequestState.SERVED)
    assert versions_live(ledger) == [1, 2, 3]
    assert [recalled(one) for one in ledger.models.candidates("m")] == [1, None, None]
    assert world.registry.known("m") == [1, 2, 3]


AGAIN = SPEC.model_copy(update={"training": SPEC.training.model_copy(update={"refit": "after_verdict"})})


def about_to_be_judged(world: World, hook: Hook | None = None) -> None:
    """Version 2 is trained."""
    reigning(world)
    world.rows = LATER
    Run(world, "run-2", spec=AGAIN, before="judge").to_its_end()


def judged_and_fitted_again(world: World, hook: Hook | None) -> None:
    """Version 2 passes, and is fitted again as version 3, which is approved and released."""
    world.rows = LATER
    Run(world, "run-2", spec=AGAIN).to_its_end(hook)


def fitted_again_once(world: World) -> None:
    ledger = world.ports().ledger
    assert versions_live(ledger) == [1, 3]
    first, again = (ledger.models.candidate("m", version) for version in (2, 3))
    assert (first.state, refit_of(again)) == (CandidateState.REFITTED, 2)
    assert first.verdict == again.verdict
    assert world.registry.known("m") == [1, 2, 3]
    assert request_of(ledger, "run-2").state is RequestState.SERVED


STORIES = {
    "refit": Story(judged_and_fitted_again, fitted_again_once, about_to_be_judged, until="ledger.approvals.ask"),
    "recall": Story(the_better_one_is_recalled, recalled_once, a_better_one_was_replaced),
    "promotion": Story(promoted, one_of_everything, reigning),
    "reconciler": Story(served_by_the_reconciler, one_run_for_one_request, asked_by_a_metric, until="snapshots.write"),
    "conflict": Story(the_loser_is_judged_again, judged_again_once, two_approved),
}


# ---------------------------------------------------------------- what must be true


def versions_live(ledger: Ledger) -> list[int]:
    """Every version that went live, oldest first."""
    return [release.version for release in ledger.releases.history("m")]


def never_without_a_champion(ledger: Ledger) -> None:
    champion = ledger.releases.champion("m")
    assert champion.release_id is not None
    assert ledger.releases.get(champion.release_id).state is RolloutState.LIVE


def consistent(world: World) -> None:
    """Nothing doubled, nothing orphaned, nothing half done."""
    ports = world.ports()
    ledger = ports.ledger
    never_without_a_champion(ledger)
    history = ledger.releases.history("m")
    assert [release.generation for release in history] == list(range(1, len(history) + 1))
    assert [release.state for release in history] == [*[RolloutState.REPLACED] * (len(history) - 1), RolloutState.LIVE]
    assert all(release.kind is ReleaseKind.PROMOTION for release in history)
    assert ledger.releases.prepared() == []
    assert ledger.approvals.open_ones() == []
    assert ledger.requests.unfinished() == []
    assert ledger.leases.get("m") is None
    candidates = ledger.models.candidates("m")
    assert sorted(one.version for one in candidates) == world.registry.known("m")
    assert len({one.train_key for one in candidates}) == len(candidates)
    stored = {key.split("/")[1] for key in ports.store.keys("bundles/")}
    assert stored == {one.bundle for one in candidates}
    for one in candidates:
        bundle.gather(one.bundle, lambda name, one=one: ports.store.get(bundle.key(one.bundle, name)))
    for release in history:
        approved = [a for a in ledger.approvals.history("m") if a.id == release.approval_id]
        assert [(a.state, a.version) for a in approved] == [(ApprovalState.APPROVED, release.version)]
        assert ledger.models.candidate("m", release.version).state is CandidateState.RELEASED
    assert world.registry.aliases("m")["champion"] == history[-1].version
