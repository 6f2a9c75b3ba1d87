"""What every rehearsal slot does, a process and the one in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bundles import make_bundle, put

from evergreen.adapters.child_slots import ChildSlots
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.serving_client import HttpServingClient
from evergreen.adapters.slot_readiness import wait_until_ready
from evergreen.core import bundle as bundles
from evergreen.core.errors import RehearsalFailed, ServingFailed
from evergreen.core.ports import RehearsalSlots, ServingClient, Store
from evergreen.fakes.serving_client import InMemoryServingClient, Serve
from evergreen.fakes.slots import InMemorySlots
from evergreen.fakes.store import InMemoryStore

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


@pytest.fixture(params=["child", "fake"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    if request.param == "child":
        store = FileStore(str(tmp_path / "store"))
        slots = ChildSlots(tmp_path, tmp_path, str(tmp_path / "store"), wait_until_ready, memory_limit_mb=2000)
        return Rig(slots, HttpServingClient(), store)
    network: dict[str, Serve] = {}
    memory = InMemoryStore()
    return Rig(InMemorySlots(memory, network), InMemoryServingClient(network), memory)


def test_two_versions_are_up_beside_each_other_and_each_is_gone_with_its_context(rig: Rig) -> None:
    first, second = rig.bundle(1), rig.bundle(2)
    rows, expected = rig.golden(first)
    with rig.slots.start(MODEL, 1, first) as old:
        with rig.slots.start(MODEL, 2, second) as new:
            assert rig.answers(old.url, rows) == (1, pytest.approx(expected, rel=1e-6, abs=1e-6))
            version, answers = rig.answers(new.url, rig.golden(second)[0])
            assert (version, answers) == (2, pytest.approx(rig.golden(second)[1], rel=1e-6, abs=1e-6))
            assert 10 < new.memory_mb() < 2000
        with pytest.raises(ServingFailed):
            rig.answers(new.url, rows)
        assert rig.answers(old.url, rows)[0] == 1
    with pytest.raises(ServingFailed):
        rig.answers(old.url, rows)


def test_an_exception_passes_through_and_the_slot_is_gone(rig: Rig) -> None:
    made, seen = rig.bundle(1), []

    def broken_off() -> None:
        with rig.slots.start(MODEL, 1, made) as slot:
            seen.append(slot.url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    with pytest.raises(ServingFailed):
        rig.answers(seen[0], rig.golden(made)[0])


def test_a_bundle_with_another_hash_is_refused_with_the_reason(rig: Rig) -> None:
    made, name = rig.bundle(1), bundles.MODEL
    rig.store.put(bundles.key(made, name), rig.store.get(bundles.key(made, name)) + b" ")
    with (
        pytest.raises(RehearsalFailed, match=rf"{MODEL} version 7.*{name}: found sha256"),
        rig.slots.start(MODEL, 7, made),
    ):
        pass


def test_a_bundle_that_the_store_has_not_is_refused(rig: Rig) -> None:
    with pytest.raises(RehearsalFailed, match=f"bundles/{'a' * 64}/manifest"), rig.slots.start(MODEL, 1, "a" * 64):
        pass
