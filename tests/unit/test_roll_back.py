"""roll_back on in-memory twins: checks before changes, what it leaves behind, killed on the way and done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused, RehearsalFailed, ServingFailed
from evergreen.core.ports import Ledger
from evergreen.core.records import Candidate, CandidateState, GateResult, GateState, Hold, ReleaseKind, RolloutState
from evergreen.core.way_back import RollbackRefused
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.roll_back import RolledBack, roll_back
from following import POOL, Serving
from judging import Killed, Mortal
from ledgers import prepare, release
from records import NOW, make_candidate, make_request_args, make_verdict

LATER = NOW + timedelta(minutes=5)
GOLDEN = {"rows": [{"x": 1.0}], "predictions": [0.5]}


def passes(candidate: Candidate) -> GateResult:
    return GateResult("rehearsal", "answers its golden rows", GateState.PASSED)


@dataclass
class World:
    """All outside systems in memory, and a model whose versions were released one after another."""

    ledger: Ledger = field(default_factory=in_memory_ledger)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    store: InMemoryStore = field(default_factory=InMemoryStore)
    serving: Serving = field(init=False)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.serving = Serving(self.ledger)

    def release(self, *versions: int) -> None:
        for version in versions:
            run = self.registry.start_run("m", f"run-{version}", {})
            self.registry.register("m", run, {}, {"version": str(version)})
            files = {bundles.GOLDEN: bundles.canonical_json(GOLDEN), bundles.MODEL: f"booster {version}".encode()}
            sealed, files = bundles.seal(files, version=str(version))
            for name, data in files.items():
                self.store.put(bundles.key(sealed, name), data)
            self.ledger.models.add_candidate(make_candidate(version=version, bundle=sealed, mlflow_run=run))
            seen = self.ledger.releases.champion("m").generation
            passed = self.ledger.models.judge(
                "m", version, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=seen
            )
            release(self.ledger, passed, pool=POOL, watermark=NOW)
        self.serving.beat()

    def back(self, **changes: Any) -> RolledBack:
        asked = {
            "rehearse": passes,
            "to": None,
            "by": "alice",
            "reason": "false alarms",
            "act": "act-1",
            "now": LATER,
            "wait": self.serving.wait(60),
            "tell": self.told.append,
            "open_registry": lambda: self.registry,
            **changes,
        }
        return roll_back("m", self.ledger, asked.pop("open_registry"), self.serving, self.store, **asked)

    @property
    def champion(self) -> int:
        release = self.ledger.releases.champion("m").release_id
        assert release is not None
        return self.ledger.releases.get(release).version

    def state(self, version: int) -> CandidateState:
        return self.ledger.models.candidate("m", version).state


@pytest.fixture
def world() -> World:
    made = World()
    made.release(1, 2, 3)
    return made


# ---------------------------------------------------------------- what it does


def test_the_version_before_is_champion_and_the_other_stays_back(world: World) -> None:
    done = world.back()
    assert (done.from_version, done.release.version, world.champion) == (3, 2, 2)
    assert (done.release.kind, done.release.act, done.release.pool) == (ReleaseKind.ROLLBACK, "act-1", POOL)
    assert (done.release.released_by, done.release.reason) == ("alice", "false alarms")
    assert (world.state(3), world.state(2)) == (CandidateState.ROLLED_BACK, CandidateState.RELEASED)
    states = [(one.version, one.state.value) for one in world.ledger.releases.history("m")]
    assert states == [(1, "replaced"), (2, "replaced"), (3, "rolled_back"), (2, "live")]
    assert world.ledger.holds.applying("m") == Hold("m", "alice", "false alarms", LATER)
    assert world.registry.pointers == {("m", "champion"): 2, ("m", "previous"): 3}
    assert done.warnings == ()


def test_success_is_told_once_every_replica_reports_the_version_and_answers_with_it(world: World) -> None:
    world.serving.replicas, world.serving.lag = ("one:1", "two:1"), 4.0
    world.serving.beat()
    done = world.back()
    assert done.serving
    assert done.serving.answers
    assert str(done.serving) == "version 2 answers (2 replicas of pool 'fast')"
    assert world.serving.waited >= 4.0
    assert world.serving.asked == 2
    assert world.told[0] == "m: from version 3 to version 2"


def test_a_version_can_be_named(world: World) -> None:
    assert world.back(to=1).release.version == 1
    assert world.back(to=3, act="act-2", reason="it was right").release.version == 3  # one that was rolled back, too
    assert world.state(3) is CandidateState.RELEASED


def test_a_version_that_was_rolled_back_is_not_gone_back_to(world: World) -> None:
    world.back()
    world.ledger.holds.lift("m", by="bob", reason="solved", now=LATER)
    world.release(4)
    assert world.back(act="act-2").release.version == 2
    assert world.state(4) is CandidateState.ROLLED_BACK


def test_two_people_who_ask_for_the_same_go_back_one_version(world: World) -> None:
    world.back()
    with pytest.raises(RollbackRefused, match=r"version 2, which alice rolled back to .*--to one of 1, 3"):
        world.back(act="act-2", by="bob")
    assert world.champion == 2


# ---------------------------------------------------------------- checks come first


def unchanged(world: World) -> bool:
    history = world.ledger.releases.history("m")
    return (world.champion, len(history), world.ledger.holds.applying("m")) == (3, 3, None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"reason": "  "}, "reason: found an empty text"),
        ({"to": 3}, "the version that is champion now; allowed: 1, 2"),
        ({"to": 9}, "a version that was never released; allowed: 1, 2"),
    ],
)
def test_a_wrong_order_is_refused_with_what_is_allowed(world: World, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(RollbackRefused, match=message):
        world.back(**asked)
    assert unchanged(world)


def test_without_an_earlier_version_there_is_no_way_back() -> None:
    world = World()
    with pytest.raises(RollbackRefused, match="found no champion"):
        world.back()
    world.release(1)
    with pytest.raises(RollbackRefused, match="no release before version 1"):
        world.back()


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_bundle_that_is_not_whole_is_refused(world: World, harm: str) -> None:
    place = bundles.key(world.ledger.models.candidate("m", 2).bundle, bundles.MODEL)
    if harm == "changed":
        world.store.put(place, b"other")
    else:
        del world.store.files[place]
    with pytest.raises(BundleRefused, match=r"model\.ubj"):
        world.back()
    assert unchanged(world)


def test_a_version_that_fails_its_rehearsal_is_refused(world: World) -> None:
    failed = GateResult("rehearsal", "answers its golden rows", GateState.FAILED, note="golden row 3 answered 0.7")
    with pytest.raises(RehearsalFailed, match=r"golden row 3 answered 0\.7\. Nothing was changed: version 3"):
        world.back(rehearse=lambda candidate: failed)
    assert unchanged(world)


def test_a_release_while_it_is_being_checked_is_not_rolled_back_unseen(world: World) -> None:
    def release_meanwhile(candidate: Candidate) -> GateResult:
        world.release(4)
        return passes(candidate)

    with pytest.raises(RollbackRefused, match="another release or rollback while this one was being checked"):
        world.back(rehearse=release_meanwhile)
    assert world.champion == 4
    assert world.ledger.holds.applying("m") is None


def test_what_is_about_to_go_live_is_stopped_first_and_judged_again(world: World) -> None:
    request = world.ledger.requests.open(**make_request_args())
    world.ledger.models.add_candidate(make_candidate(version=4, request_id=request.id))
    passed = world.ledger.models.judge("m", 4, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=3)
    prepared = prepare(world.ledger, passed, pool=POOL)
    world.back()
    assert world.champion == 2
    assert world.ledger.releases.get(prepared.id).state is RolloutState.ABORTED
    (again,) = world.ledger.requests.unfinished("m")
    told = f"alice rolls back to version 2: false alarms; version 4 is judged again by request {again.id}"
    assert world.ledger.requests.get(request.id).reason == told
    assert (world.state(4), again.queued) == (CandidateState.PASSED, True)


def test_a_rollback_that_is_refused_stops_nothing(world: World) -> None:
    world.ledger.models.add_candidate(make_candidate(version=4))
    passed = world.ledger.models.judge("m", 4, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=3)
    prepared = prepare(world.ledger, passed, pool=POOL)
    with pytest.raises(RollbackRefused):
        world.back(to=9)
    assert world.ledger.releases.prepared() == [prepared]


# ---------------------------------------------------------------- serving and MLflow, each with its troubles


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"stuck": frozenset({"two:1"})}, "two:1 reports version 3"),
        ({"silent": frozenset({"two:1"})}, "two:1 does not answer a golden row: 503"),
    ],
)
def test_serving_that_does_not_follow_is_told_apart_from_the_ledger(
    world: World, trouble: dict[str, Any], message: str
) -> None:
    world.serving.replicas = ("one:1", "two:1")
    world.serving.beat()
    world.serving = replace(world.serving, **trouble)
    with pytest.raises(ServingFailed, match=f"the ledger has rolled back to version 2 .*within 60 s: {message}"):
        world.back()
    assert world.champion == 2
    assert world.registry.pointers["m", "champion"] == 2
    world.serving.stuck = world.serving.silent = frozenset()
    assert world.back().serving  # done again: it waits again
    assert len(world.ledger.releases.history("m")) == 4


def test_where_no_replica_lives_the_ledger_rolls_back_with_a_warning(world: World) -> None:
    world.serving.now = NOW + timedelta(minutes=1)  # silent since
    done = world.back()
    assert world.champion == 2
    assert world.serving.waited == 0
    assert done.warnings == ("no replica of pool 'fast' is alive: version 2 answers once one is started",)


def test_a_replica_that_dies_meanwhile_is_not_waited_for(world: World) -> None:
    world.serving.lag = 1_000
    done = world.back()
    assert done.serving
    assert not done.serving.replicas
    assert world.serving.waited < 20


def unreachable() -> FakeRegistry:
    raise ConnectionError("MLflow does not answer\nand says so at length")


def test_mlflow_down_is_a_warning(world: World) -> None:
    (warning,) = world.back(open_registry=unreachable).warnings
    assert "ConnectionError: MLflow does not answer)" in warning
    assert world.champion == 2
    assert world.back().warnings == ()  # the same act again makes up for it
    assert world.registry.pointers["m", "champion"] == 2


# ---------------------------------------------------------------- the same act again


def test_the_same_act_is_one_rollback(world: World) -> None:
    first = world.back()
    assert world.back() == replace(first, serving=world.back().serving)
    assert len(world.ledger.releases.history("m")) == 4


def test_an_act_done_long_ago_does_not_undo_what_came_after(world: World) -> None:
    world.back()
    world.release(4)
    done = world.back()
    assert done.warnings == ("another release came after this rollback to version 2, and answers now",)
    assert world.champion == 4
    assert world.registry.pointers == {("m", "champion"): 4, ("m", "previous"): 2}


def outcome(world: World, alive: Callable[[World], RolledBack]) -> dict[str, Any]:
    done = alive(world)
    return {
        "release": replace(done.release, id="-"),
        "from": done.from_version,
        "warnings": done.warnings,
        "versions": [(r.version, r.kind, r.generation) for r in world.ledger.releases.history("m")],
        "states": [candidate.state for candidate in world.ledger.models.candidates("m")],
        "holds": world.ledger.holds.history("m"),
        "aliases": world.registry.pointers,
        "answers": world.serving.versions,
    }


def killed_at(call: int) -> Callable[[World], RolledBack]:
    def go(world: World) -> RolledBack:
        countdown = [call]
        mortal = Ledger(*(Mortal(part, countdown) for part in vars(world.ledger).values()))
        serving, registry, store = (Mortal(p, countdown) for p in (world.serving, world.registry, world.store))
        return roll_back(
            "m", mortal, lambda: registry, serving, store,
            rehearse=Mortal(_Rehearsal(), countdown).passes, to=None, by="alice", reason="false alarms", act="act-1",
            now=LATER, wait=world.serving.wait(60), tell=world.told.append,
        )  # fmt: skip

    return go


class _Rehearsal:
    def passes(self, candidate: Candidate) -> GateResult:
        return passes(candidate)


def test_killed_before_any_call_and_done_again_is_one_rollback() -> None:
    def fresh() -> World:
        made = World()
        made.release(1, 2, 3)
        return made

    whole = outcome(fresh(), lambda world: world.back())
    for call in range(1, 100):
        world = fresh()
        try:
            killed_at(call)(world)
        except Killed:
            assert outcome(world, lambda world: world.back(now=LATER)) == whole, f"killed before call {call}"
        else:
            assert call > 15  # it was killed everywhere before
            return
    pytest.fail("never ended")
