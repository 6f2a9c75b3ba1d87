"""What every rehearsal slot does: a process, a container, and the one in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from tests.bundles import make_bundle, put

from evergreen.core import bundle as bundles
from evergreen.core.errors import LeaseBusy, RehearsalFailed, ServingFailed, SlotUnavailable
from evergreen.core.ports import RehearsalSlots, ServingClient, SlotContainers, Store
from evergreen.core.slot_health import STOPPED_CODES

MODEL = "flight-delay"


@dataclass
class Rig:
    """Slots, and the client and store that belong to them."""

    slots: RehearsalSlots
    client: ServingClient
    store: Store

    def bundle(self, seed: int) -> str:
        """A stored bundle."""
        made, files = make_bundle(MODEL, seed)
        put(self.store, made, files)
        return made

    def golden(self, bundle: str) -> tuple[list[dict[str, object]], list[float]]:
        """Its golden rows, and what they are answered with."""
        found = json.loads(self.store.get(bundles.key(bundle, bundles.GOLDEN)))
        return found["rows"], found["predictions"]

    def answers(self, url: str, rows: list[dict[str, object]]) -> tuple[int, list[float]]:
        """Version and predictions."""
        with self.client.connect(url) as connection:
            answer = connection.predict(MODEL, rows)
        return answer.version, list(answer.predictions)


class SlotContract:
    """Tests of one kind of slots; a subclass has the fixture `rig`."""

    def test_two_versions_are_up_one_after_the_other_and_each_is_gone_with_its_context(self, rig: Rig) -> None:
        for version in (1, 2):
            made = rig.bundle(version)
            rows, expected = rig.golden(made)
            with rig.slots.start(MODEL, version, made) as slot:
                assert rig.answers(slot.url, rows) == (version, pytest.approx(expected, rel=1e-6, abs=1e-6))
                assert 10 < slot.memory_mb() < 500
            with pytest.raises(ServingFailed):
                rig.answers(slot.url, rows)

    def test_a_second_one_is_up_beside_the_first_or_refused_and_the_first_goes_on(self, rig: Rig) -> None:
        first, second = rig.bundle(1), rig.bundle(2)
        with rig.slots.start(MODEL, 1, first) as old:
            if rig.slots.beside:
                with rig.slots.start(MODEL, 2, second) as new:
                    assert rig.answers(new.url, rig.golden(second)[0])[0] == 2
            else:
                with pytest.raises(LeaseBusy, match="version 2"), rig.slots.start(MODEL, 2, second):
                    pass
            assert rig.answers(old.url, rig.golden(first)[0])[0] == 1

    def test_an_exception_passes_through_and_the_slot_is_gone(self, rig: Rig) -> None:
        made, seen = rig.bundle(1), []

        def broken_off() -> None:
            with rig.slots.start(MODEL, 1, made) as slot:
                seen.append(slot.url)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            broken_off()
        with pytest.raises(ServingFailed):
            rig.answers(seen[0], rig.golden(made)[0])

    def test_a_bundle_with_another_hash_is_refused_with_the_reason_and_the_next_version_is_served(
        self, rig: Rig
    ) -> None:
        made, name = rig.bundle(1), bundles.MODEL
        rig.store.put(bundles.key(made, name), rig.store.get(bundles.key(made, name)) + b" ")
        with (
            pytest.raises(RehearsalFailed, match=rf"{MODEL} version 7.*{name}: found sha256"),
            rig.slots.start(MODEL, 7, made),
        ):
            pass
        good = rig.bundle(2)
        with rig.slots.start(MODEL, 8, good) as slot:
            assert rig.answers(slot.url, rig.golden(good)[0])[0] == 8

    def test_a_bundle_that_the_store_has_not_is_refused(self, rig: Rig) -> None:
        with pytest.raises(RehearsalFailed, match=f"bundles/{'a' * 64}/manifest"), rig.slots.start(MODEL, 1, "a" * 64):
            pass


@dataclass
class Engine:
    """Containers, of which `slot` is one that was never started, and `absent` is none."""

    containers: SlotContainers
    slot: str
    absent: str = "serving-blue"


class ContainersContract:
    """Tests of whatever looks at containers and restarts them; a subclass has the fixture `engine`."""

    def test_a_container_is_started_looked_at_and_stopped(self, engine: Engine) -> None:
        containers, slot = engine.containers, engine.slot
        made = containers.look(slot)
        assert (made.state, made.up, made.started_at, made.finished_at) == ("created", False, None, None)
        containers.restart(slot)
        first = containers.look(slot)
        assert (first.state, first.up, first.restarts) == ("running", True, 0)
        containers.restart(slot)
        second = containers.look(slot)
        assert first.started_at is not None
        assert second.started_at is not None
        assert second.finished_at is not None
        assert first.started_at < second.finished_at <= second.started_at
        for _ in range(2):
            containers.stop(slot)
            ended = containers.look(slot)
            assert (ended.state, ended.up, ended.out_of_memory) == ("exited", False, False)
            assert ended.exit_code in STOPPED_CODES

    def test_one_that_stands_still_is_started_and_one_that_runs_left_alone(self, engine: Engine) -> None:
        containers, slot = engine.containers, engine.slot
        containers.start(slot)
        first = containers.look(slot)
        assert (first.state, first.up) == ("running", True)
        containers.start(slot)
        assert containers.look(slot).started_at == first.started_at
        containers.stop(slot, grace=8)
        assert containers.look(slot).exit_code in STOPPED_CODES
        containers.start(slot)
        again = containers.look(slot)
        assert again.started_at is not None
        assert first.started_at is not None
        assert (again.up, again.started_at > first.started_at) == (True, True)
        containers.stop(slot)

    def test_a_container_that_is_not_there_is_absent_and_cannot_be_started(self, engine: Engine) -> None:
        assert engine.containers.look(engine.absent).state == "absent"
        for act in (engine.containers.start, engine.containers.restart, engine.containers.stop):
            with pytest.raises(SlotUnavailable, match=f"{engine.absent}: there is no such container here"):
                act(engine.absent)
