"""forget: rows of one person leave the log, stay away, and the ledger knows of it without knowing who."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.logged import answer, asked, loaded, predictions_in, truth_in

from evergreen.adapters.logged_predictions import LoggedPredictions
from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core.errors import LeaseBusy
from evergreen.core.forgotten import hash_of
from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET, Truth
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.store import InMemoryStore
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.log.shipper import Shipper
from evergreen.serving.metrics import Metrics
from evergreen.serving.state import Settings
from evergreen.steps.forget import Done, forget


class Died(BaseException):
    """As if the process had been killed."""


class World:
    """Two models that have answered ann and bob, in a store; ground truth of each answer."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, InMemoryStore()
        self.ledger: Ledger = in_memory_ledger()
        (folder / "pool").mkdir()
        self.log = PredictionLog(folder / "pool", lambda name: Settings(), Metrics())
        self.models = [loaded(folder / "m", name="m"), loaded(folder / "n", name="n")]
        self.ids: dict[tuple[str, str], list[str]] = {}

    def answer(self, *, ship: bool = True) -> None:
        for model in self.models:
            for key in ("ann", "bob", ""):
                ids = answer(self.log, model, asked(2, key=key))
                self.ids.setdefault((model.name, key), []).extend(ids)
                self.log.add_truth(model.name, [Truth(one, 1, 0) for one in ids])
        if ship:
            self.ship()

    def ship(self) -> None:
        self.log.close()
        assert Shipper(self.folder / "pool", lambda: self.store, ArrowParts).ship_all()

    def forget(self, key: str = "ann", model: str = "", *, now: datetime | None = None) -> Done:
        now = now or datetime.now(UTC) + timedelta(seconds=1)
        predictions = LoggedPredictions(self.store)
        return forget(self.ledger, self.store, predictions, key, model=model, by="ada", reason="ticket 17", now=now)

    def check(self, gone: set[tuple[str, str]]) -> None:
        kept = sorted(one for who, ids in self.ids.items() if who not in gone for one in ids)
        assert sorted(predictions_in(self.store)["inference_id"]) == kept
        assert sorted(truth_in(self.store)["inference_id"]) == kept


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.answer()
    return made


ANN = {("m", "ann"), ("n", "ann")}


def test_rows_of_the_key_go_with_their_truth_from_all_models(world: World) -> None:
    done = world.forget()
    assert {name: (one.predictions, one.truths, len(one.parts)) for name, one in done.removed.items()} == {
        "m": (2, 2, 2),
        "n": (2, 2, 2),
    }
    world.check(ANN)
    world.forget()
    world.check(ANN)


def test_or_from_one_model_alone(world: World) -> None:
    assert list(world.forget(model="n").removed) == ["n"]
    world.check({("n", "ann")})


def test_the_ledger_tells_who_why_and_how_many_and_not_of_whom(world: World) -> None:
    world.forget()
    (event,) = world.ledger.events.history("m")
    assert (event.what, event.by) == ("forgotten", "ada")
    told = "2 answers and 2 of ground truth in 2 parts. ticket 17"
    assert event.detail == f"removed of the request key with sha256 {hash_of('ann')}: {told}"
    stored = b"".join(data for key, data in world.store.files.items() if key.startswith("log/forgotten/"))
    assert b"ann" not in stored
    world.forget("nobody")
    (event,) = world.ledger.events.history(FLEET)
    assert "0 answers" in event.detail


def test_rows_that_are_not_shipped_yet_do_not_come_and_later_ones_do(world: World) -> None:
    world.answer(ship=False)
    world.forget(now=datetime.now(UTC) + timedelta(milliseconds=1))
    world.ship()
    world.check(ANN)
    until = datetime.now(UTC) + timedelta(milliseconds=2)
    while datetime.now(UTC) < until:  # an answer of the same millisecond goes too
        pass
    later = answer(world.log, world.models[0], asked(key="ann"))
    world.ship()
    assert set(later) <= set(predictions_in(world.store)["inference_id"])


def test_ground_truth_that_is_told_later_does_not_come(world: World) -> None:
    world.forget()
    world.log.add_truth("m", [Truth(one, 1, 9) for one in world.ids["m", "ann"]])
    world.ship()
    world.check(ANN)


def test_killed_anywhere_it_may_be_run_again(tmp_path: Path) -> None:
    """At each write and each removal of the store, before and after it."""
    moments = 0
    while True:
        (tmp_path / str(moments)).mkdir()
        world = World(tmp_path / str(moments))
        world.answer()
        struck = _strike(world.store, moments)
        try:
            world.forget()
        except Died:
            assert struck()
        else:
            break
        world.forget()
        world.check(ANN)
        moments += 1
    world.check(ANN)
    assert moments >= 12


def _strike(store: InMemoryStore, at: int):  # type: ignore[no-untyped-def]
    calls = [0]
    for name in ("put", "remove"):
        real = getattr(store, name)

        def dying(*arguments: object, real=real) -> None:  # type: ignore[no-untyped-def]
            for moment in ("before", "after"):
                if calls[0] == at:
                    calls[0] += 1
                    raise Died
                calls[0] += 1
                if moment == "before":
                    real(*arguments)

        setattr(store, name, dying)
    return lambda: calls[0] == at + 1


def test_two_persons_are_not_forgotten_at_the_same_time(world: World) -> None:
    now = datetime.now(UTC)
    world.ledger.leases.acquire("log/forgotten", "forget another", timedelta(minutes=1), now)
    with pytest.raises(LeaseBusy, match="forget another"):
        world.forget(now=now)
    world.check(set())
    world.forget(now=now + timedelta(minutes=2))
    world.check(ANN)
