"""Rehearsal slots that need no Docker: a process, and the one in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slot_contract import ContainersContract, Engine, Rig, SlotContract

from evergreen.adapters.child_slots import ChildSlots
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.serving_client import HttpServingClient
from evergreen.adapters.slot_readiness import wait_until_ready
from evergreen.core.slot_health import SlotFacts
from evergreen.fakes.serving_client import InMemoryServingClient, Serve
from evergreen.fakes.slot_containers import InMemorySlotContainers
from evergreen.fakes.slots import InMemorySlots
from evergreen.fakes.store import InMemoryStore


@pytest.fixture(params=["child", "fake", "one fake"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    if request.param == "child":
        store = FileStore(str(tmp_path / "store"))
        slots = ChildSlots(tmp_path, tmp_path, str(tmp_path / "store"), wait_until_ready, memory_limit_mb=2000)
        return Rig(slots, HttpServingClient(), store)
    network: dict[str, Serve] = {}
    memory = InMemoryStore()
    slots = InMemorySlots(memory, network, beside=request.param == "fake")
    return Rig(slots, InMemoryServingClient(network), memory)


class TestSlots(SlotContract):
    """In `make test`."""


@pytest.fixture
def engine() -> Engine:
    return Engine(InMemorySlotContainers(SlotFacts("slot", "created", None, None)), "slot")


class TestContainers(ContainersContract):
    """In `make test`: the twin in memory."""
