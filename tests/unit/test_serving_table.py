"""Many models in one worker: what is loaded, what is evicted, what is acknowledged, and what a request waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.bundles import make_bundle
from tests.serving_process import wait_for

from evergreen.serving.metrics import Metrics
from evergreen.serving.models import residents
from evergreen.serving.models.loaded_model import LoadedModel, load
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.models.recent import MOST
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.state import BUNDLES, STATE, WORKERS, PoolState, Released, Settings, WorkerReport, read, write

ROOM = 1_000_000_000


class Pool:
    """A table over a folder as a supervisor keeps it, with small models of one size."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, PoolState()
        (folder / WORKERS).mkdir(parents=True)
        self.table = self.new(ROOM)

    def new(self, memory: int) -> ModelTable:
        """A worker that has just been started."""
        self.metrics = Metrics()
        self.table = ModelTable(self.folder, "0", self.metrics, memory=memory)
        return self.table

    def release(self, *names: str, version: int = 1, pinned: bool = False) -> None:
        models, settings = dict(self.state.models), dict(self.state.settings)
        for name in names:
            bundle = self.keep(name, version)
            before = models.get(name)
            models[name] = Released(version, f"{name}-{version}", bundle, version, before)
            settings[name] = Settings(pinned=pinned)
        self.write(PoolState(self.state.revision + 1, models, {}, settings))

    def write(self, state: PoolState) -> None:
        self.state = state
        write(self.folder / STATE, state)

    def keep(self, name: str, version: int) -> str:
        bundle, files = sealed_for(name, version)
        (self.folder / BUNDLES / bundle).mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (self.folder / BUNDLES / bundle / file).write_bytes(data)
        return bundle

    def damage(self, name: str) -> None:
        (self.folder / BUNDLES / self.state.models[name].bundle / "model.ubj").write_bytes(b"")

    def follow(self) -> None:
        asyncio.run(self.table.follow_once(False))

    def awake(self, name: str) -> LoadedModel:
        return asyncio.run(self.table.awake(name))

    def acknowledged(self) -> dict[str, int]:
        report = read(self.folder / WORKERS / "0.json", WorkerReport)
        assert report is not None
        return {name: release.version for name, release in report.loaded.items()}

    def counted(self, family: str) -> float:
        return sum(self.metrics._values[family].values())


@cache
def sealed_for(name: str, version: int) -> tuple[str, dict[str, bytes]]:
    return make_bundle(name, seed=version)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path)


@pytest.fixture
def size(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What one of the models takes."""
    other = Pool(tmp_path_factory.mktemp("one"))
    other.release("a")
    other.follow()
    return other.table.models["a"].usage.memory


def test_what_has_no_room_is_proven_acknowledged_and_loaded_when_asked(pool: Pool, size: int) -> None:
    pool.new(2 * size)
    pool.release("a", "b", "c")
    pool.follow()
    assert set(pool.table.models) == {"a", "b"}
    assert pool.acknowledged() == {"a": 1, "b": 1, "c": 1}
    assert pool.awake("c").name == "c"
    assert len(pool.table.models) == 2
    assert pool.table.own_reasons() == []
    assert pool.counted("evergreen_evictions_total") == 1
    assert pool.counted("evergreen_loaded_models") == 2
    assert pool.counted("evergreen_model_loads_total") == 4
    assert pool.counted("evergreen_model_memory_bytes") == 2 * size


def test_the_one_asked_longest_ago_makes_room(pool: Pool, size: int) -> None:
    pool.new(2 * size)
    pool.release("a", "b", "c")
    pool.follow()
    pool.table.models["a"].usage.asked_at = 2.0
    pool.table.models["b"].usage.asked_at = 1.0
    pool.awake("c")
    assert set(pool.table.models) == {"a", "c"}


def test_pinned_models_and_those_with_requests_under_way_stay(pool: Pool, size: int) -> None:
    pool.new(2 * size)
    pool.release("pinned", pinned=True)
    pool.release("a", "b")
    pool.table.keep_while(lambda name: name == "a")
    pool.follow()
    assert set(pool.table.models) == {"pinned", "a"}
    pool.awake("b")
    assert set(pool.table.models) == {"pinned", "a", "b"}  # over the budget rather than without an answer
    pool.table.keep_while(lambda name: False)
    pool.release("c", version=1)
    pool.follow()
    pool.awake("c")
    assert set(pool.table.models) == {"pinned", "c"}


def test_a_model_that_is_pinned_later_is_loaded_then(pool: Pool, size: int) -> None:
    pool.new(size)
    pool.release("a", "b")
    pool.follow()
    assert set(pool.table.models) == {"a"}
    pool.release("b", pinned=True)
    pool.follow()
    assert set(pool.table.models) == {"b"}
    assert pool.table.own_reasons() == []


def test_a_new_release_of_a_model_that_is_not_loaded_is_proven_and_loads_nothing_else(pool: Pool, size: int) -> None:
    pool.new(size)
    pool.release("a", "b")
    pool.follow()
    pool.release("b", version=2)
    pool.follow()
    assert set(pool.table.models) == {"a"}
    assert pool.acknowledged() == {"a": 1, "b": 2}
    assert pool.counted("evergreen_model_loads_total") == 3
    assert pool.awake("b").release.version == 2


def test_a_refused_release_of_a_model_that_is_not_loaded_leaves_the_one_before(pool: Pool, size: int) -> None:
    pool.new(size)
    pool.release("a", "b")
    pool.follow()
    pool.release("b", version=2)
    pool.damage("b")
    pool.follow()
    assert pool.acknowledged() == {"a": 1, "b": 1}
    assert pool.awake("b").release.version == 1
    (reason,) = pool.table.own_reasons()
    assert (reason.model, reason.blocks, reason.refused) == ("b", True, True)


def test_one_damaged_since_it_was_proven_is_told_and_mended_and_never_stood_in_for(pool: Pool, size: int) -> None:
    pool.new(size)
    pool.release("a", "b")
    pool.release("b", version=2)
    pool.follow()
    pool.damage("b")
    for _ in range(2):
        with pytest.raises(RequestRefused, match=r"model\.ubj: found sha256") as refused:
            pool.awake("b")
        assert refused.value.status == 503
    assert pool.counted("evergreen_load_failures_total") == 1  # and not once a request
    pool.follow()
    assert pool.acknowledged() == {"a": 1}
    pool.keep("b", 2)
    pool.write(PoolState(pool.state.revision + 1, pool.state.models))
    assert pool.acknowledged() == {"a": 1}
    pool.follow()
    assert pool.acknowledged() == {"a": 1, "b": 2}
    assert pool.awake("b").release.version == 2


def test_an_unknown_model_is_404_and_one_without_an_answer_503(pool: Pool) -> None:
    pool.release("flight-delay")
    pool.follow()
    with pytest.raises(RequestRefused, match="Did you mean 'flight-delay'") as refused:
        pool.awake("flight-dely")
    assert refused.value.status == 404


class Slow:
    """`load`, which waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        monkeypatch.setattr(residents, "load", self)

    def __call__(self, folder: Path, name: str, release: Released) -> LoadedModel:
        self.calls.append(f"{name} {release.version}")
        self.begun.release()
        assert self.go.acquire(timeout=20)
        return load(folder, name, release)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.001)


def test_one_load_serves_all_who_ask_and_outlives_those_who_give_up(
    pool: Pool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.new(size)
    pool.release("a", "b")
    pool.follow()
    slow = Slow(monkeypatch)

    async def ask() -> list[LoadedModel]:
        first = asyncio.create_task(pool.table.awake("b"))
        others = [asyncio.create_task(pool.table.awake("b")) for _ in range(20)]
        await until(lambda: slow.begun.acquire(blocking=False))
        first.cancel()
        slow.go.release()
        return await asyncio.gather(*others)

    answered = asyncio.run(ask())
    assert slow.calls == ["b 1"]
    assert {id(model) for model in answered} == {id(pool.table.models["b"])}


def test_what_is_released_while_it_loads_is_what_answers(
    pool: Pool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.new(size)
    pool.release("a", "b")
    pool.follow()
    slow = Slow(monkeypatch)

    async def ask() -> LoadedModel:
        asked = asyncio.create_task(pool.table.awake("b"))
        await until(lambda: slow.begun.acquire(blocking=False))
        pool.release("b", version=2)
        following = asyncio.create_task(pool.table.follow_once(False))
        await until(lambda: pool.table.state == pool.state)
        slow.go.release(2)
        await following
        return await asked

    assert asyncio.run(ask()).release.version == 2
    assert slow.calls == ["b 1", "b 2"]
    assert pool.acknowledged() == {"a": 1, "b": 2}


def test_a_swap_does_not_wait_for_models_that_requests_wait_for(
    pool: Pool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.new(size)
    pool.release("a", "b", "c")
    pool.follow()
    slow = Slow(monkeypatch)

    async def swap() -> None:
        asked = [asyncio.create_task(pool.table.awake(name)) for name in "bc"]
        await until(lambda: slow.begun.acquire(blocking=False))
        pool.release("a", version=2)
        following = asyncio.create_task(pool.table.follow_once(False))
        await until(lambda: slow.begun.acquire(blocking=False))
        assert slow.calls == ["b 1", "a 2"]
        slow.go.release(10)
        await asyncio.gather(following, *asked)

    asyncio.run(swap())
    assert pool.acknowledged() == {"a": 2, "b": 1, "c": 1}


def test_a_failure_that_is_not_the_bundles_is_tried_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.serving.models.refused.AGAIN", 0.3)
    failing = iter([MemoryError("no room")])

    def load_later(folder: Path, name: str, release: Released) -> LoadedModel:
        for error in failing:
            raise error
        return load(folder, name, release)

    monkeypatch.setattr(residents, "load", load_later)
    pool.release("a")
    pool.follow()
    assert [reason.text for reason in pool.table.own_reasons()] == ["no room"]
    wait_for(lambda: pool.follow() or pool.acknowledged() == {"a": 1}, 10)
    assert pool.table.own_reasons() == []


def test_of_many_models_a_start_loads_those_asked_last_before_it_answers(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"m{number:03}" for number in range(MOST + 20)]
    pool.release(*names)
    pool.follow()
    while len(pool.table.answering) < len(names):
        pool.follow()
    for at, name in enumerate(reversed(names)):
        pool.table.models[name].usage.asked_at = float(at)
    pool.table._recent._next = 0.0
    pool.follow()
    restarted = pool.new(ROOM)
    monkeypatch.setattr("evergreen.serving.models.model_table._SLICE", 0.0)
    asyncio.run(restarted.refresh())
    assert list(restarted.models)[:MOST] == names[:MOST]
    assert len(restarted.models) == MOST
    monkeypatch.undo()
    pool.follow()
    while len(restarted.answering) < len(names):
        pool.follow()
    assert restarted.own_reasons() == []


def test_a_pinned_model_that_is_missing_blocks_and_others_do_not(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.release("pinned", pinned=True)
    pool.release(*"abcdefgh")
    monkeypatch.setattr(residents.Residents, "bring", _nothing)
    monkeypatch.setattr("evergreen.serving.models.model_table.MOST", 0)
    monkeypatch.setattr("evergreen.serving.models.model_table._SOON", (0, 0))
    monkeypatch.setattr("evergreen.serving.models.model_table._SLICE", 0.0)
    asyncio.run(pool.table.refresh())
    told = pool.table.own_reasons()
    assert [reason.blocks for reason in told] == [True, False, False, False, False, False]
    assert told[0].text == "pinned is being loaded."
    assert told[-1].text == "… and 4 more of this kind."
    assert [reason.text for reason in pool.table.reasons_of("h")] == ["h is being loaded."]


async def _nothing(self: object, name: str) -> None:
    """A load that does not come."""


def test_a_state_file_that_cannot_be_read_is_told_and_changes_nothing(pool: Pool) -> None:
    pool.release("a", pinned=True)
    pool.follow()
    (pool.folder / STATE).write_text("{")
    pool.follow()
    (reason,) = pool.table.own_reasons()
    assert (reason.text.startswith("state.json cannot be read"), reason.blocks) == (True, False)
    assert pool.table.settings_of("a") == Settings(pinned=True)
    assert pool.awake("a").release.version == 1
    pool.write(pool.state)
    pool.follow()
    assert pool.table.own_reasons() == []


def test_a_model_that_is_released_and_not_yet_read_here_is_no_unknown_one(pool: Pool) -> None:
    """The supervisor says that all has come as soon as the state file has it, up to a tenth of a second before."""
    pool.release("a")
    pool.follow()
    pool.release("b")
    (reason,) = pool.table.own_reasons()
    assert (reason.model, reason.blocks) == ("b", True)
    for name, status in (("b", 503), ("c", 404)):
        with pytest.raises(RequestRefused) as refused:
            pool.awake(name)
        assert refused.value.status == status
    pool.release("a", version=2)  # another version of what answers blocks nothing
    assert [one.model for one in pool.table.own_reasons()] == ["b"]
    pool.follow()
    assert pool.table.own_reasons() == []
    assert pool.awake("b").name == "b"
    (pool.folder / STATE).write_text("{")
    assert pool.table.own_reasons() == []
