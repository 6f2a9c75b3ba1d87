"""Following releases: what reaches the state file, what stays, and what is told."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from tests.bundles import make_bundle, release_bundle

from evergreen.core import bundle as bundles
from evergreen.core.errors import ServiceFailed
from evergreen.core.records import ServingSettings
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.serving.replica import follower, listening
from evergreen.serving.state import (
    BUNDLES,
    STATE,
    STATUS,
    WORKERS,
    PoolState,
    Settings,
    Status,
    WorkerReport,
    read,
    write,
)
from replicas import Replica


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path / "default")


def test_every_release_of_the_pool_is_served_and_no_other(replica: Replica) -> None:
    replica.follower.poll()
    assert replica.served() == {}
    replica.release(1)
    replica.release(4, model="fares")
    replica.release(9, model="elsewhere", pool="other")
    replica.follower.poll()
    assert replica.served() == {"flight-delay": 1, "fares": 4}
    assert replica.reasons() == []


@pytest.fixture
def only_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first poll no other is due."""
    monkeypatch.setattr(follower, "POLL", 1000.0)
    monkeypatch.setattr(follower, "LOOK", 0.0)


@pytest.mark.usefixtures("only_looks")
def test_a_release_is_here_before_the_next_poll_is_due(replica: Replica) -> None:
    replica.release(1)
    replica.follower.tick(10)
    assert replica.served() == {"flight-delay": 1}
    replica.release(2)
    replica.follower.tick(10)
    assert replica.served() == {"flight-delay": 2}


@pytest.mark.usefixtures("only_looks")
def test_between_two_polls_all_is_read_only_where_a_release_changed(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all = []
    live = replica.ledger.releases.live
    monkeypatch.setattr(replica.ledger.releases, "live", lambda pool: read_all.append(pool) or live(pool))
    replica.release(1)
    replica.follower.tick(10)
    replica.follower.tick(10)  # its first look
    read_all.clear()
    for _ in range(5):
        replica.follower.tick(10)
    assert read_all == []
    replica.release(2)
    replica.follower.tick(10)
    replica.follower.tick(10)
    assert read_all == ["default"]


@pytest.mark.usefixtures("only_looks")
def test_a_look_that_fails_is_not_repeated_until_the_ledger_is_opened_anew(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def away() -> int:
        looks.append(1)
        raise ConnectionError("could not connect to server")

    replica.release(1)
    replica.follower.tick(10)
    with monkeypatch.context() as patch:
        patch.setattr(replica.ledger.releases, "changes", away)
        for _ in range(5):
            replica.follower.tick(10)
    assert looks == [1]
    assert replica.served() == {"flight-delay": 1}
    replica.follower.poll()
    replica.release(2)
    replica.follower.tick(10)
    assert replica.served() == {"flight-delay": 2}


def test_an_unreachable_ledger_leaves_the_last_state(replica: Replica) -> None:
    replica.release(1)
    replica.follower.poll()
    replica.ledger_down = True
    replica.follower = replica.new()
    replica.follower.tick()
    assert replica.served() == {"flight-delay": 1}
    (reason,) = replica.reasons()
    assert "could not connect to server)" in reason.text
    assert not reason.blocks
    replica.ledger_down = False
    replica.follower.poll()
    assert replica.reasons() == []


def test_an_unreachable_store_blocks_only_a_model_that_has_nothing_to_answer_with(replica: Replica) -> None:
    replica.release(1)
    replica.follower.poll()
    replica.release(2)
    replica.release(1, model="fares")
    replica.store_down = True
    replica.follower = replica.new()
    replica.follower.poll()
    assert replica.served() == {"flight-delay": 1}
    assert {(reason.model, reason.blocks) for reason in replica.reasons()} == {("flight-delay", False), ("fares", True)}
    assert "bucket does not answer" in replica.reasons()[0].text


def test_a_bundle_that_the_store_has_not_is_named(replica: Replica) -> None:
    made, _ = make_bundle(seed=1)
    release_bundle(replica.ledger, made, version=1)
    replica.follower.poll()
    assert f"the store has no 'bundles/{made}/manifest.json'" in replica.reasons()[0].text


def test_a_manifest_with_a_path_in_it_is_refused(replica: Replica) -> None:
    made, files = bundles.seal({"../outside": b"x"}, model="flight-delay")
    for name, data in files.items():
        replica.store.files[bundles.key(made, name)] = data
    release_bundle(replica.ledger, made, version=1)
    replica.follower.poll()
    assert "plain file names" in replica.reasons()[0].text
    assert not list(replica.folder.parent.glob("**/outside"))


def test_a_ledger_that_lost_a_model_does_not_take_it_away(replica: Replica) -> None:
    replica.release(1)
    replica.follower.poll()
    replica.ledger = in_memory_ledger()
    replica.follower = replica.new()
    replica.follower.poll()
    assert replica.served() == {"flight-delay": 1}
    assert "knows no release of flight-delay" in replica.reasons()[0].text


def test_a_model_that_moved_to_another_pool_is_dropped(replica: Replica) -> None:
    replica.release(1)
    replica.follower.poll()
    replica.release(2, pool="other")
    replica.follower.poll()
    assert replica.served() == {}
    assert replica.reasons() == []
    assert not list((replica.folder / BUNDLES).iterdir())


def test_the_version_to_fall_back_on_is_one_that_the_workers_took(replica: Replica) -> None:
    replica.release(1)
    replica.follower.poll()
    first = replica.entry()
    replica.acknowledge(first)
    replica.release(2)
    replica.follower.poll()
    assert replica.entry().previous == first
    replica.acknowledge(first, **{"flight-delay": "golden row 0"})  # version 2 was refused
    replica.release(3)
    replica.follower.poll()
    assert replica.entry().previous == first
    kept = {folder.name for folder in (replica.folder / BUNDLES).iterdir()}
    assert kept == {replica.entry().bundle, first.bundle}


def test_heartbeats_name_what_all_workers_answer_with(replica: Replica) -> None:
    def beaten() -> list[dict[str, int]]:
        alive = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=9))
        return [found.versions for found in alive]

    replica.release(1)
    replica.follower.poll()  # which waits for the bundle
    replica.follower.tick()
    assert beaten() == [{}]
    replica.acknowledge(replica.entry())
    replica.follower.tick()
    assert beaten() == [{"flight-delay": 1}]
    write(replica.folder / WORKERS / "0.json", WorkerReport(1, 1, {"flight-delay": replica.entry()}, {}))
    replica.follower.tick()  # the report of a worker that is no more
    assert beaten() == [{}]


def test_a_state_file_of_another_form_is_written_anew(replica: Replica) -> None:
    replica.release(1)
    (replica.folder / STATE).write_text("{")
    replica.follower = replica.new()
    replica.follower.poll()
    assert replica.served() == {"flight-delay": 1}


def test_a_refused_bundle_is_not_fetched_at_every_poll(replica: Replica) -> None:
    made, files = make_bundle(seed=1)
    replica.store.put(bundles.key(made, bundles.MANIFEST), files[bundles.MANIFEST] + b" ")
    release_bundle(replica.ledger, made, version=1)
    begun = time.monotonic()
    replica.follower.poll()
    for name, data in files.items():
        replica.store.put(bundles.key(made, name), data)
    replica.follower.poll()
    assert time.monotonic() - begun < 4  # else this test proves nothing
    assert read(replica.folder / STATE, PoolState) == PoolState()


def test_a_port_in_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "BIND_PATIENCE", 0.1)
    with listening.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceFailed, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address already in use\)"):
            listening.bind("127.0.0.1", port)


def test_a_rollback_waits_for_no_fetch_and_other_models_are_awaited_aloud(replica: Replica) -> None:
    replica.release(1)
    replica.follower.poll()
    first = replica.entry().bundle
    replica.release(2)
    replica.follower.poll()
    hangs, get = Event(), replica.store.get

    def slow(key: str) -> bytes:
        assert hangs.wait(20)
        return get(key)

    replica.store.get = slow  # type: ignore[method-assign]
    names = [f"m{number}" for number in range(8)]
    for name in names:
        replica.release(1, model=name)
    replica.follower.poll(0.01)
    status = read(replica.folder / STATUS, Status)
    assert status is not None
    assert sorted(status.awaited) == names
    release_bundle(replica.ledger, first, version=3)
    replica.follower.poll(0.01)
    assert replica.served() == {"flight-delay": 3}
    hangs.set()
    replica.follower.poll()
    assert replica.served() == {"flight-delay": 3, **dict.fromkeys(names, 1)}
    assert read(replica.folder / STATUS, Status).awaited == []  # type: ignore[union-attr]


def test_settings_reach_the_state_file_and_outlive_the_ledger(replica: Replica) -> None:
    replica.release(1)
    replica.ledger.settings.put(ServingSettings("flight-delay", "default", pinned=True, max_concurrent=3))
    replica.follower.poll()
    replica.ledger_down = True
    replica.follower = replica.new()
    replica.follower.poll()
    state = read(replica.folder / STATE, PoolState)
    assert state is not None
    assert state.settings == {"flight-delay": Settings(pinned=True, max_concurrent=3)}
