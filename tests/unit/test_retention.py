"""What housekeeping removes from the store, and above all what it never does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.adapters.file_store import FileStore
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.core import retention as rt
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    FLEET,
    ApprovalState,
    Candidate,
    CandidateState,
    MetricPoint,
    Part,
    PulledDay,
    RequestState,
)
from evergreen.core.requested import again
from evergreen.core.spec import Retention
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.housekeep import HOLDER, Housekept, by_model, housekeep
from ledgers import prepare, release, roll_back
from records import make_candidate, make_request_args, make_snapshot, make_verdict

NOW = datetime(2025, 6, 1, 4, tzinfo=UTC)
SHORT = Retention(keep=timedelta(days=10), versions=1)
DAY = timedelta(days=1)


class World:
    """A store and a ledger in which versions of a model are made, released and forgotten."""

    def __init__(self, model: str = "m") -> None:
        self.model, self.ledger, self.store = model, in_memory_ledger(), InMemoryStore()

    def version(self, number: int, *, age: timedelta = 100 * DAY, **changes: Any) -> Candidate:
        """A candidate with all its files, made so long before NOW. Its days overlap with those of its neighbours."""
        at, model = NOW - age, self.model
        parts = tuple(
            Part(date(2025, 1, 1) + DAY * day, f"snapshots/{model}/part-{day}.parquet", 9, f"{day}")
            for day in range(number, number + 3)
        )
        self.ledger.models.add_snapshot(make_snapshot(model, f"snap-{number}", parts=parts))
        made = make_candidate(model, number, snapshot_id=f"snap-{number}", created_at=at, **changes)
        kept = self.ledger.models.add_candidate(made)
        for part in parts:
            self.put(part.key, at, replace_it=False)
        for name in ("manifest.json", "model.ubj", "golden.json"):
            self.put(f"bundles/{made.bundle}/{name}", at)
        for name in ("evidence.json", "a.svg"):
            self.put(f"evidence/{model}/{number}/{name}", at)
        self.put(f"quarantine/{model}/{number}.parquet", at)
        return kept

    def put(self, key: str, at: datetime, *, replace_it: bool = True) -> None:
        if replace_it or key not in self.store.files:
            self.store.put(key, b"12345")
            self.store.modified[key] = at

    def released(self, number: int, *, age: timedelta = 100 * DAY) -> None:
        seen = self.ledger.releases.champion(self.model).generation
        state = CandidateState.PASSED
        passed = self.ledger.models.judge(self.model, number, verdict=make_verdict(), state=state, generation_seen=seen)
        release(self.ledger, passed, now=NOW - age)

    def keep_house(self, keep: Retention = SHORT, **changes: Any) -> Housekept:
        return housekeep(self.ledger, self.store, {self.model: keep}, **{"now": NOW, **changes})

    def whole(self, number: int) -> bool:
        """Whether all is there that a version needs."""
        snapshot = self.ledger.models.snapshot(self.model, f"snap-{number}")
        candidate = self.ledger.models.candidate(self.model, number)
        keys = [part.key for part in snapshot.parts]
        keys += [f"bundles/{candidate.bundle}/{name}" for name in ("manifest.json", "model.ubj", "golden.json")]
        keys += [f"evidence/{self.model}/{number}/{name}" for name in ("evidence.json", "a.svg")]
        return all(key in self.store.files for key in keys)

    def gone(self, number: int) -> bool:
        bundle = self.ledger.models.candidate(self.model, number).bundle
        return not self.store.keys(f"bundles/{bundle}/") and not self.store.keys(f"evidence/{self.model}/{number}/")


@pytest.fixture
def world() -> World:
    return World()


def test_old_versions_go_and_their_shared_parts_stay(world: World) -> None:
    for number in range(1, 6):
        world.version(number)
    done = world.keep_house(Retention(keep=10 * DAY, versions=2))
    assert [world.whole(number) for number in range(1, 6)] == [False, False, False, True, True]
    assert all(world.gone(number) for number in (1, 2, 3))
    assert world.store.keys("snapshots/") == [f"snapshots/m/part-{day}.parquet" for day in (4, 5, 6, 7)]
    assert world.store.keys("quarantine/") == []
    assert done.removed == {"bundles": (9, 45), "evidence": (6, 30), "snapshots": (3, 15), "quarantine": (5, 25)}
    assert "bundles: 9 files" in str(done)
    again = world.keep_house(Retention(keep=10 * DAY, versions=2))
    assert again.removed == {}
    assert str(again) == "nothing to remove"


def test_days_whose_part_went_are_forgotten_so_that_pull_reads_them_again(world: World) -> None:
    for number in range(1, 6):
        world.version(number)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    days = [
        PulledDay("m", "r", start.date() + DAY * n, key, 9, key, 0, start, start, start, "request-1", True)
        for n, key in enumerate([*world.store.keys("snapshots/m/"), ""])
    ]
    world.ledger.pulled_days.keep(days)
    world.keep_house(Retention(keep=10 * DAY, versions=2), dry_run=True)
    assert world.ledger.pulled_days.of("m") == days
    world.keep_house(Retention(keep=10 * DAY, versions=2))
    assert [day.key for day in world.ledger.pulled_days.of("m")] == [*world.store.keys("snapshots/m/"), ""]
    assert world.ledger.pulled_days.of("m") == days[3:]


def test_what_is_live_and_what_one_could_go_back_to_stay(world: World) -> None:
    for number in range(1, 7):
        world.version(number)
    for number in (1, 2, 3, 4):
        world.released(number)
    roll_back(world.ledger, world.ledger.models.candidate("m", 2), seen=4, act="a", now=NOW - 50 * DAY)
    world.ledger.holds.lift("m", by="ann", reason="solved", now=NOW)
    world.keep_house()
    # 2 is live, 4 was before it and was rolled back, 3 is what one could go back to, 6 is the newest
    assert [world.whole(number) for number in range(1, 7)] == [False, True, True, True, False, True]


@pytest.mark.parametrize("age", [DAY * 9, timedelta(hours=1)])
def test_what_is_young_stays(world: World, age: timedelta) -> None:
    world.version(1, age=age)
    world.version(2, age=age)
    assert world.keep_house().removed == {}
    assert world.whole(1)


def test_nothing_younger_than_a_day_goes_whatever_the_spec_says(world: World) -> None:
    world.version(1, age=timedelta(hours=23))
    world.version(2, age=timedelta(hours=1))
    assert world.keep_house(Retention(keep=timedelta(seconds=1), versions=1)).removed == {}


def test_a_version_released_lately_stays_however_old(world: World) -> None:
    for number in (1, 2, 3, 4):
        world.version(number)
        world.released(number, age=2 * DAY if number == 1 else timedelta(days=1, hours=number))
    world.keep_house()
    assert world.whole(1)


def test_what_a_question_is_open_about_stays(world: World) -> None:
    candidate = world.version(1)
    world.version(2)
    passed = world.ledger.models.judge("m", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    asked = world.ledger.approvals.ask(
        passed, request_id=candidate.request_id, run_id="r", expires_at=NOW + DAY, now=NOW - 90 * DAY
    )
    world.keep_house()
    assert world.whole(1)
    world.ledger.approvals.answer(asked.id, state=ApprovalState.EXPIRED, by=None, reason="", now=NOW)
    world.keep_house()
    assert world.gone(1)


@pytest.mark.parametrize(("state", "stays"), [(RequestState.CLAIMED, True), (RequestState.SERVED, False)])
def test_a_candidate_of_a_run_at_work_stays(world: World, state: RequestState, stays: bool) -> None:
    request = world.ledger.requests.open(**make_request_args())
    world.version(1, request_id=request.id)
    world.version(2)
    world.ledger.requests.mark(request.id, now=NOW, state=state)
    world.keep_house()
    assert world.whole(1) is stays


def test_a_model_whose_run_is_at_work_or_that_is_held_is_left_alone(world: World) -> None:
    for number in (1, 2, 3):
        world.version(number)
    world.ledger.leases.acquire("m", "request-9", DAY, NOW)
    assert world.keep_house().left_alone == {"m": "a run is at work"}
    world.ledger.leases.release("m", "request-9")
    world.ledger.holds.place(FLEET, by="ann", reason="audit", now=NOW)
    assert world.keep_house().left_alone == {"m": "all models are held by ann: audit"}
    world.ledger.holds.lift(FLEET, by="ann", reason="done", now=NOW)
    assert "m left alone (its spec has a problem" in str(world.keep_house(leave={"m"}))
    assert world.whole(1)
    world.keep_house()
    assert world.gone(1)
    assert world.ledger.leases.get("m") is None


def test_a_model_without_a_spec_is_kept_by_the_defaults() -> None:
    world = World("gone")
    for number in range(1, 13):
        world.version(number)
    housekeep(world.ledger, world.store, {}, now=NOW)
    assert [number for number in range(1, 13) if world.whole(number)] == list(range(3, 13))
    assert world.gone(1)


def test_a_ledger_that_lacks_a_snapshot_is_told_and_nothing_goes(world: World) -> None:
    world.version(1)
    world.version(2)
    lost = replace(make_candidate("m", 3), snapshot_id="never-kept", created_at=NOW)
    world.ledger.models.add_candidate(lost)
    done = world.keep_house()
    assert "never-kept" in done.left_alone["m"]
    assert done.removed == {}


def test_a_bundle_without_a_candidate_goes_when_it_is_old_in_all_its_files(world: World) -> None:
    world.put("bundles/lost/model.ubj", NOW - 91 * DAY)
    world.put("bundles/begun/model.ubj", NOW - 91 * DAY)
    world.put("bundles/begun/schema.json", NOW - 2 * DAY)
    world.put("other/file", NOW - 900 * DAY)
    assert world.keep_house().removed == {"bundles": (1, 5)}
    assert world.store.keys("") == ["bundles/begun/model.ubj", "bundles/begun/schema.json", "other/file"]


def test_a_killed_housekeeping_leaves_no_bundle_that_looks_whole(world: World) -> None:
    for number in range(1, 4):
        world.version(number)
    remove, bundle = world.store.remove, world.ledger.models.candidate("m", 1).bundle

    def killed(key: str) -> None:
        if key == f"bundles/{bundle}/model.ubj":
            raise KeyboardInterrupt
        remove(key)

    world.store.remove = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.keep_house()
    left = world.store.keys(f"bundles/{bundle}/")
    assert left
    assert f"bundles/{bundle}/manifest.json" not in left
    world.store.remove = remove  # type: ignore[method-assign]
    world.keep_house()
    assert world.gone(1)
    assert world.whole(3)


@settings(max_examples=200, deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(["new", "release", "back", "ask", "house"]), st.integers(0, 30)),
        min_size=6,
        max_size=40,
    ),
    versions=st.integers(1, 4),
    keep=st.integers(0, 40),
)
def test_whatever_happens_the_live_and_the_previous_release_are_whole(
    acts: list[tuple[str, int]], versions: int, keep: int
) -> None:
    """A model's life in random order, housekeeping in between; time goes on with every act."""
    world, at = World(), NOW - timedelta(days=400)
    rule = Retention(keep=timedelta(days=keep, seconds=1), versions=versions)
    made = 0
    for act, number in [*acts, ("house", 30)]:
        at += timedelta(days=number)
        if act == "new" or not made:
            made += 1
            world.version(made, age=NOW - at)
        elif act == "house":
            housekeep(world.ledger, world.store, {"m": rule}, now=at)
        else:
            play(world, act, 1 + number % made, at)
        check(world)


def play(world: World, act: str, version: int, at: datetime) -> None:
    ledger = world.ledger
    candidate, champion = ledger.models.candidate("m", version), ledger.releases.champion("m")
    released = {one.version for one in ledger.releases.history("m")}
    if act == "release" and candidate.state is CandidateState.TRAINED and world.whole(version):
        world.released(version, age=NOW - at)
    elif act == "back" and version in released and version != released_last(ledger) and world.whole(version):
        roll_back(ledger, candidate, seen=champion.generation, act=f"{at}", now=at)
        ledger.holds.lift("m", by="ann", reason="solved", now=at)
    elif act == "ask" and candidate.state is CandidateState.TRAINED and world.whole(version):
        state = CandidateState.PASSED
        passed = ledger.models.judge(
            "m", version, verdict=make_verdict(), state=state, generation_seen=champion.generation
        )
        ledger.approvals.ask(passed, request_id="r", run_id="r", expires_at=at + DAY, now=at)


def released_last(ledger: Ledger) -> int | None:
    history = ledger.releases.history("m")
    return history[-1].version if history else None


def check(world: World) -> None:
    history = world.ledger.releases.history("m")
    asked = [one.version for one in world.ledger.approvals.history("m") if one.state is ApprovalState.OPEN]
    newest = [one.version for one in world.ledger.models.candidates("m")][:1]
    last_two = list(dict.fromkeys(one.version for one in reversed(history)))[:2]
    for version in {*last_two, *asked, *newest}:
        assert world.whole(version), f"version {version}"


# ---------------------------------------------------------------- what waits for a decision


def test_a_prepared_release_stays_until_it_is_live_or_aborted(world: World) -> None:
    world.version(1)
    world.version(2)
    passed = world.ledger.models.judge("m", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    prepared = prepare(world.ledger, passed, now=NOW - 90 * DAY)
    assert world.keep_house().kept["m"][1] == "its release is prepared"
    assert world.whole(1)
    world.ledger.releases.abort(prepared.id, by="ada", reason="late", now=NOW, decline=True)
    world.keep_house()
    assert world.gone(1)


def test_a_version_that_a_person_is_to_override_stays(world: World) -> None:
    world.version(1, state=CandidateState.TO_OVERRIDE)
    world.version(2)
    assert world.keep_house().kept["m"][1] == "a person is to override its gates"
    assert world.whole(1)


@pytest.mark.parametrize("what", ["again", "override"])
def test_a_refused_version_that_a_request_is_to_judge_again_stays(world: World, what: str) -> None:
    requests = world.ledger.requests
    first = requests.open(**make_request_args(now=NOW - 100 * DAY))
    world.version(1, request_id=first.id, state=CandidateState.REJECTED)
    world.version(2)
    if what == "again":
        asked = requests.open(**again(first, 1, generation=1, because="another champion"), now=NOW)
    else:
        asked = requests.open(**make_request_args(dedupe_key="o", detail={"override": 1}, now=NOW))
    requests.mark(first.id, now=NOW, state=RequestState.SERVED)
    assert world.keep_house().kept["m"][1] == "a request is to judge it again"
    assert world.whole(1)
    requests.mark(asked.id, now=NOW, state=RequestState.EXPIRED)
    world.keep_house()
    assert world.gone(1)


# ---------------------------------------------------------------- a dry run


def test_a_dry_run_changes_nothing_and_names_what_then_goes(world: World) -> None:
    for number in range(1, 6):
        world.version(number)
    world.released(3)
    world.put("bundles/lost/model.ubj", NOW - 91 * DAY)
    before = dict(world.store.files)
    told = world.keep_house(dry_run=True)
    assert world.store.files == before
    assert world.ledger.leases.get("m") is None
    gone = [file.key for _, _, file in told.files]
    assert gone
    done = world.keep_house()
    assert [file.key for _, _, file in done.files] == gone
    assert sorted(set(before) - set(world.store.files)) == sorted(gone)
    assert done.kept == told.kept == {"m": {5: "among the newest 1 (retention.versions)", 3: "live"}}
    assert by_model(done)["m", "bundles"] == (9, 45)
    assert by_model(done)["", "bundles"] == (1, 5)


def test_a_dry_run_tells_of_a_run_at_work_and_leaves_it_its_lease(world: World) -> None:
    world.version(1)
    lease = world.ledger.leases.acquire("m", "request-9", DAY, NOW)
    assert world.keep_house(dry_run=True).left_alone == {"m": "a run is at work"}
    assert world.ledger.leases.get("m") == lease
    assert world.keep_house(dry_run=True, now=NOW + 2 * DAY).left_alone == {}  # it has run out


def test_only_one_model_is_kept_house_of(world: World) -> None:
    world.version(1)
    world.version(2)
    for key in ("snapshots/other/1.parquet", "bundles/lost/model.ubj"):
        world.put(key, NOW - 91 * DAY)
    world.keep_house(only="m")
    assert world.gone(1)
    assert {"snapshots/other/1.parquet", "bundles/lost/model.ubj"} <= set(world.store.files)


# ---------------------------------------------------------------- on a disk, with a run beside it


@pytest.fixture
def snapshots(tmp_path: Path) -> Callable[[], tuple[FileStore, ParquetSnapshots]]:
    def opened() -> tuple[FileStore, ParquetSnapshots]:
        store = FileStore(str(tmp_path / "store"))
        return store, ParquetSnapshots(store)

    return opened


def test_a_run_that_pulls_the_same_days_again_makes_their_parts_young(
    tmp_path: Path, snapshots: Callable[[], tuple[FileStore, ParquetSnapshots]]
) -> None:
    """No candidate holds the parts: a snapshot that is pulled anew and not yet trained on leans on old files."""
    import os

    import polars as pl

    store, written = snapshots()
    rows = pl.DataFrame({"id": ["a"], "at": [datetime(2025, 1, 1, tzinfo=UTC)]})
    (part,) = written.write("m", rows, "at", "id")
    long_ago = (datetime.now(UTC) - 200 * DAY).timestamp()
    os.utime(tmp_path / "store" / part.key, (long_ago, long_ago))
    ledger = in_memory_ledger()
    written.write("m", rows, "at", "id")
    assert housekeep(ledger, store, {"m": SHORT}, now=datetime.now(UTC)).removed == {}
    os.utime(tmp_path / "store" / part.key, (long_ago, long_ago))
    assert housekeep(ledger, store, {"m": SHORT}, now=datetime.now(UTC)).removed["snapshots"][0] == 1
    assert written.write("m", rows, "at", "id") == (part,)
    assert written.read([part]).height == 1


def test_the_lease_is_taken_for_each_model_and_given_back(world: World) -> None:
    world.version(1)
    world.version(2)
    holders: list[str] = []
    remove = world.store.remove

    def seen(key: str) -> None:
        lease = world.ledger.leases.get("m")
        holders.append(lease.holder if lease else "nobody")
        remove(key)

    world.store.remove = seen  # type: ignore[method-assign]
    world.keep_house()
    assert set(holders) == {HOLDER}
    assert world.ledger.leases.get("m") is None


def test_models_are_found_by_what_they_have_in_the_store() -> None:
    keys = ["snapshots/a/1.parquet", "evidence/b/1/x.svg", "quarantine/c/1", "bundles/d/model.ubj", "snapshots/stray"]
    assert rt.models_in(keys) == {"a", "b", "c"}


def test_logged_answers_go_by_their_own_day_and_only_those(world: World) -> None:
    for kind in ("predictions", "ground-truth"):
        for day, age in (("2025-05-21", 0), ("2025-05-22", 100), ("2025-06-01", 100)):  # a part may be rewritten
            for model in ("m", "mm"):
                world.put(f"log/{kind}/{model}/{day}/{'0' * 32}.parquet", NOW - age * DAY)
    world.put("log/predictions/m/nothing/of-ours.parquet", NOW - 100 * DAY)
    world.put("log/forgotten/0-old.json", NOW - 91 * DAY)
    world.put("log/forgotten/0-young.json", NOW - 89 * DAY)
    assert world.keep_house(dry_run=True).removed == {
        "predictions": (1, 5),
        "ground-truth": (1, 5),
        "forgotten": (1, 5),
    }
    done = world.keep_house()
    assert sorted(file.key for _, _, file in done.files) == [
        "log/forgotten/0-old.json",
        f"log/ground-truth/m/2025-05-21/{'0' * 32}.parquet",
        f"log/predictions/m/2025-05-21/{'0' * 32}.parquet",
    ]
    assert len(world.store.keys("log/")) == 12
    housekeep(world.ledger, world.store, {"m": SHORT, "mm": SHORT}, now=NOW, leave=["mm"])
    assert len(world.store.keys("log/")) == 12


def test_logged_answers_of_a_model_without_a_spec_are_kept_by_the_defaults() -> None:
    world = World()
    for day in ("2025-03-02", "2025-03-03"):  # 90 days before is 2025-03-03
        world.put(f"log/predictions/lost/{day}/{'0' * 32}.parquet", NOW)
    assert world.keep_house().removed == {"predictions": (1, 5)}
    assert len(world.store.keys("log/predictions/lost/2025-03-03")) == 1


def test_values_of_metrics_go_with_the_rest_and_those_of_rules_and_of_quality_after_two_years(world: World) -> None:
    names = ("volume.rows", "drift.psi.max", "quality.realised.auc", "qualityless")
    ages = (9, 11, 729, 731)
    points = [
        MetricPoint("m", 1, name, "", NOW - DAY * (age + 1), NOW - DAY * age, 1.0, 9, NOW)
        for age in ages
        for name in names
    ]
    world.ledger.points.put(points)
    corrected = [replace(one, value=2.0) for one in points if one.name == "quality.realised.auc"]
    world.ledger.points.put(corrected)
    rule = {"watched": {"m": {"drift.psi.max"}}}
    told = world.keep_house(dry_run=True, **rule)
    assert len(world.ledger.points.latest("m")) == len(points)
    assert world.keep_house(**rule).points == told.points == {"m": 2 * 3 + 1 + 2 + 2}
    left = world.ledger.points.latest("m")
    assert {(one.name, (NOW - one.end).days) for one in left} == {
        *((name, 9) for name in names),
        *((name, age) for name in names[1:3] for age in (11, 729)),
    }
    assert [one.value for one in left if one.name == "quality.realised.auc"] == [2.0, 2.0, 2.0]
    assert world.keep_house(**rule).points == {}
    kept = world.ledger.points.history("m", "quality.realised.auc", "", NOW - DAY * 10)
    assert [one.value for one in kept] == [1.0, 2.0]


def test_a_model_that_keeps_more_than_two_years_keeps_all_of_them(world: World) -> None:
    point = MetricPoint("m", 1, "volume.rows", "", NOW - DAY * 801, NOW - DAY * 800, 1.0, 9, NOW)
    world.ledger.points.put([point])
    assert world.keep_house(Retention(keep=900 * DAY)).points == {}
    assert world.keep_house(Retention(keep=799 * DAY)).points == {"m": 1}


def test_values_of_metrics_of_a_model_that_is_left_alone_stay(world: World) -> None:
    point = MetricPoint("m", 1, "volume.rows", "", NOW - DAY * 801, NOW - DAY * 800, 1.0, 9, NOW)
    world.ledger.points.put([point])
    world.ledger.leases.acquire("m", "run-1", DAY, NOW)
    done = world.keep_house()
    assert (done.points, done.left_alone) == ({}, {"m": "a run is at work"})
    assert world.ledger.points.latest("m") == [point]


def test_what_the_monitor_counted_goes_with_the_answers_of_its_day() -> None:
    world = World()
    for model in ("m", "lost"):
        for day in ("2025-03-02", "2025-03-03"):
            world.put(f"monitor/{model}/{day}.tally", NOW)
        world.put(f"monitor/{model}/notes.txt", NOW - 100 * DAY)
    assert world.keep_house().removed == {"monitor": (3, 15)}  # of m what is older than 10 days, of lost than 90
    assert len(world.store.keys("monitor/")) == 3
