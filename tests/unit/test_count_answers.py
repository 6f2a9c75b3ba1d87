"""Counting part by part gives what one look at all rows gives: whatever comes when, twice or late."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from evergreen.core.bundle import SCHEMA
from evergreen.core.metrics import Task
from evergreen.core.monitoring.day import Cell, Day, from_bytes, key_of, merged, to_bytes
from evergreen.core.monitoring.reference import LOSS
from evergreen.core.monitoring.tally import DELAYS, LABELLED, PREDICTIONS, ROWS, Layout
from evergreen.steps.count_answers import count_day, load_day
from evergreen.steps.counting import Counting
from evergreen.steps.layouts import Layouts
from watched import DAY, NOON, World, id_at, put_bundle, reference_of, watched_spec

HOUR = timedelta(hours=1)
START = int(NOON.timestamp())


def counted(world: World) -> Day:
    """The day, brought up to date and kept."""
    counting = world.counting()
    day = load_day(world.store, counting, DAY)
    if count_day(day, counting).changed:
        world.store.put(key_of("m", DAY), to_bytes(day))
    return day


def anew(world: World) -> Day:
    """The day, counted from nothing at once."""
    counting = world.counting()
    day = Day("m", DAY, 3600, tuple(world.spec.monitoring.slices))
    count_day(day, counting)
    return day


def vector_of(world: World, day: Day, cell: Cell) -> np.ndarray:
    layout = world.counting().layout(day, cell.version)
    assert layout is not None
    found = np.zeros(layout.size)
    indices, values = day.cells[cell]
    found[indices] = values
    return found


def part(world: World, day: Day, name: str, cell: Cell | None = None) -> list[float]:
    layout = world.counting().layout(day, 1)
    assert layout is not None
    vectors = merged([day], 1, ("champion",), layout.size, lambda start: True) if cell is None else {}
    vector = vectors[""] if cell is None else vector_of(world, day, cell)
    return layout.part(vector, name).tolist()


def equal(one: Day, other: Day) -> None:
    """The same counts; sums as far as floats go."""
    plain = [(d.told, d.matched, d.wrong, d.predictions.keys(), d.truths.keys()) for d in (one, other)]
    assert plain[0] == plain[1]
    for cell in one.cells.keys() | other.cells.keys():
        sums = []
        for day in (one, other):
            vector = np.zeros(10_000)
            if cell in day.cells:
                indices, values = day.cells[cell]
                vector[indices] = values
            sums.append(vector)
        np.testing.assert_allclose(sums[0], sums[1], atol=1e-9, err_msg=str(cell))


def test_each_part_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.answers([0.1, 0.2])
    day = counted(world)
    assert part(world, day, ROWS) == [2]
    world.answers([0.3], at=NOON + HOUR)
    read: list[str] = []
    of = world.log.part
    monkeypatch.setattr(world.log, "part", lambda key, *rest: read.append(key) or of(key, *rest))  # type: ignore
    day = counted(world)
    assert part(world, day, ROWS) == [3]
    assert len(read) == 1
    assert sorted(cell.start for cell in day.cells) == [START, START + 3600]
    before = world.store.modified[key_of("m", DAY)]
    counted(world)
    assert world.store.modified[key_of("m", DAY)] == before, "nothing came, and nothing is written"


def test_features_predictions_unseen_and_missing_values_are_in_their_bins() -> None:
    world = World()
    world.answers([0.5], distance=np.inf)
    world.answers([0.5], distance=np.nan, carrier=None)
    world.answers([0.5, 0.5], distance=1000.0, unseen="ZZ")
    world.answers([0.5], carrier="UA")
    day = counted(world)
    layout = Layout(reference_of())
    vector = vector_of(world, day, Cell(1, "champion", START))
    distance, carrier = layout.feature(vector, 0), layout.feature(vector, 1)
    assert distance[-1] == 1, "missing"
    assert distance[-2] == 1, "infinite: above all that training saw"
    assert distance.sum() == 5
    assert carrier.tolist() == [0, 1, 1, 2, 1]
    assert layout.part(vector, PREDICTIONS).sum() == 5


def test_versions_and_arms_are_apart_and_shadows_are_left_out() -> None:
    world = World(None, 1, 2)
    world.answers([0.1] * 3)
    world.answers([0.1] * 2, version=2, arm="canary")
    ids = world.answers([0.1] * 4, version=2, arm="shadow")
    world.truths(dict.fromkeys(ids, 1.0))
    day = counted(world)
    rows = {cell: vector_of(world, day, cell)[0] for cell in day.cells}
    assert rows == {Cell(1, "champion", START): 3, Cell(2, "canary", START): 2}
    assert (day.told, day.unknown) == (4, 4)


def test_values_of_a_slice_have_tallies_of_their_own() -> None:
    world = World(watched_spec(monitoring={"slices": ["carrier"]}))
    ids = world.answers([0.1] * 3, carrier="UA") + world.answers([0.9] * 2, carrier="AA")
    world.answers([0.5], unseen="ZZ")
    world.truths(dict.fromkeys(ids[:4], 1.0))
    day = counted(world)
    rows = {cell.slice: vector_of(world, day, cell)[0] for cell in day.cells}
    assert rows == {"": 6, "carrier=UA": 3, "carrier=AA": 2}
    assert part(world, day, LABELLED, Cell(1, "champion", START, "carrier=UA")) == [3]
    assert part(world, day, LABELLED, Cell(1, "champion", START, "carrier=AA")) == [1]


def test_a_version_without_a_reference_or_that_nobody_knows_has_its_volume_and_its_quality() -> None:
    world = World(None, 1, bare=[1])
    ids = world.answers([0.9, 0.2])
    world.answers([0.3], version=99)
    world.truths({ids[0]: 1.0})
    day = counted(world)
    assert part(world, day, ROWS) == [2]
    assert part(world, day, LABELLED) == [1]
    assert vector_of(world, day, Cell(99, "champion", START))[0] == 1


def test_a_damaged_day_and_one_of_other_slices_are_counted_anew() -> None:
    world = World()
    world.answers([0.1] * 3)
    counted(world)
    world.store.put(key_of("m", DAY), b"damaged")
    assert part(world, counted(world), ROWS) == [3]
    world.spec = watched_spec(monitoring={"slices": ["carrier"]})
    assert len(counted(world).cells) == 2
    world.spec = watched_spec(monitoring={"slices": ["carrier"], "window": "2h"})
    assert {cell.start % 60 for cell in counted(world).cells} == {0}
    assert from_bytes(world.store.get(key_of("m", DAY))).seconds == 60


def test_a_bundle_that_is_removed_takes_nothing_of_what_was_counted_with_it() -> None:
    world = World()
    world.answers([0.1] * 3)
    before = counted(world)
    for key in world.store.keys("bundles/"):
        world.store.remove(key)
    world.answers([0.1])
    after = counted(world)
    assert after.cells.keys() == before.cells.keys()
    assert len(after.predictions) == 2


# ---------------------------------------------------------------- labels


def test_labels_are_joined_by_id_with_their_delay_from_the_answer() -> None:
    world = World()
    ids = world.answers([0.9, 0.2, 0.4])
    world.truths({ids[0]: 1.0, ids[1]: 0.0}, told=NOON + 6 * HOUR)
    day = counted(world)
    assert part(world, day, LABELLED) == [2]
    assert part(world, day, DELAYS)[5] == 2, "between 4 and 8 hours"
    assert (day.told, day.matched, day.unknown, day.wrong) == (2, 2, 0, 0)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_the_label_told_last_counts_whichever_comes_first(turned: bool, apart: bool) -> None:
    world = World()
    ids = world.answers([0.9, 0.2])
    told = [({ids[0]: 0.0, ids[1]: 1.0}, NOON + HOUR), ({ids[0]: 1.0}, NOON + 2 * HOUR)]
    for labels, at in reversed(told) if turned else told:
        world.truths(labels, told=at)  # type: ignore[arg-type]
        if apart:
            counted(world)
    day = counted(world)
    once = World()
    same = once.answers([0.9, 0.2])
    once.truths({same[0]: 1.0}, told=NOON + 2 * HOUR)
    once.truths({same[1]: 1.0}, told=NOON + HOUR)
    expected = counted(once)
    cell = Cell(1, "champion", START)
    np.testing.assert_allclose(vector_of(world, day, cell), vector_of(once, expected, cell), atol=1e-12)
    assert (day.told, day.matched) == (2, 2)


def test_labels_that_come_before_their_answers_are_counted_once_these_are_there() -> None:
    world = World()
    ids = [id_at(NOON, 0), id_at(NOON + timedelta(seconds=1), 1)]
    world.truths(dict.fromkeys(ids, 1.0))
    assert counted(world).unknown == 2
    assert world.answers([0.9, 0.2]) == ids
    day = counted(world)
    assert (day.unknown, part(world, day, LABELLED)) == (0, [2])


def test_unknown_ids_and_labels_of_a_wrong_type_are_counted_as_such() -> None:
    world = World()
    ids = world.answers([0.9, 0.2, 0.3, 0.4])
    world.truths({ids[0]: "late", ids[1]: 0.5, ids[2]: 2.0, ids[3]: 1.0, id_at(NOON, 999): 1.0})
    day = counted(world)
    assert (day.told, day.matched, day.unknown, day.wrong) == (5, 4, 1, 3)
    assert part(world, day, LABELLED) == [1]
    world.truths({ids[0]: 1.0, ids[3]: "oops"}, told=NOON + 7 * HOUR)  # the one put right, the other wrong now
    day = counted(world)
    assert (day.told, day.matched, day.unknown, day.wrong) == (5, 4, 1, 3)
    assert part(world, day, LABELLED) == [1]


def test_labels_of_a_rolled_back_version_count_for_it() -> None:
    world = World(None, 1, 2)
    ids = world.answers([0.9], version=2)
    world.answers([0.9], version=1)
    world.truths({ids[0]: 1.0})
    day = counted(world)
    layout = world.counting().layout(day, 2)
    assert layout is not None
    assert layout.part(vector_of(world, day, Cell(2, "champion", START)), LABELLED).tolist() == [1]
    assert part(world, day, LABELLED) == [0]


def test_a_label_that_another_clock_tells_before_its_answer_counts_and_has_waited_for_nothing() -> None:
    world = World()
    ids = world.answers([0.9, 0.2])
    world.truths({ids[0]: 1.0}, told=NOON - HOUR)
    day = counted(world)
    assert part(world, day, LABELLED) == [1]
    assert part(world, day, DELAYS)[0] == 1
    assert sum(part(world, day, DELAYS)) == 1


def test_an_infinite_label_or_prediction_is_no_quality_and_is_counted_as_such() -> None:
    world = World()
    ids = world.answers([0.9, np.inf, 0.2])
    world.truths({ids[0]: float("inf"), ids[1]: 1.0, ids[2]: 0.0})
    day = counted(world)
    assert (part(world, day, LABELLED), day.matched, day.wrong) == ([1], 3, 1)
    assert part(world, day, "realised.brier")[0] == 1
    assert np.isfinite(vector_of(world, day, Cell(1, "champion", START))).all()


def test_labels_are_joined_only_with_answers_of_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    early, late = world.answers([0.1] * 3), world.answers([0.1] * 3, at=NOON + 2 * HOUR)
    counted(world)
    world.truths({late[0]: 1.0})
    read: list[str] = []
    of = world.log.part
    monkeypatch.setattr(world.log, "part", lambda key, *rest: read.append(key) or of(key, *rest))  # type: ignore
    counted(world)
    assert [key for key in read if "predictions" in key] == [sorted(world.store.keys("log/predictions/"))[1]]
    assert early


@pytest.mark.parametrize("seed", range(20))
def test_any_order_in_any_steps_gives_what_one_count_of_all_gives(seed: int) -> None:
    """Answers and labels, twice and corrected, in a random order; passes in between; a file lost in one of them."""
    chance = random.Random(seed)
    world = World(watched_spec(monitoring={"slices": ["carrier"]}), 1, 2)
    ids = [id_at(NOON + timedelta(seconds=at * 90), at) for at in range(60)]
    acts = []
    for begin in range(0, 60, 12):
        arm, version = chance.choice([("champion", 1), ("champion", 2), ("canary", 2), ("shadow", 2)])
        acts.append(lambda begin=begin, arm=arm, version=version: _answer(world, begin, arm, version))
    for _ in range(12):
        labels = {one: chance.choice([0.0, 1.0, 1.0, 7.0, "x"]) for one in chance.sample(ids, chance.randint(1, 30))}
        labels = dict(sorted(labels.items()))
        told = NOON + HOUR * chance.randint(1, 5)
        acts.append(lambda labels=labels, told=told: world.truths(labels, told=told))  # type: ignore[misc]
    chance.shuffle(acts)
    for act in acts:
        act()
        if chance.random() < 0.6:
            counted(world)
        if chance.random() < 0.1:
            world.store.remove(key_of("m", DAY))
    equal(counted(world), anew(world))


def _answer(world: World, begin: int, arm: str, version: int) -> None:
    world.numbers = begin
    carrier = ("AA", "DL", "UA")[begin % 3]
    said = [0.05 + 0.015 * (begin + at) for at in range(12)]
    world.answers(
        said, at=NOON + timedelta(seconds=begin * 90), arm=arm, version=version, carrier=carrier,
        step=timedelta(seconds=90),
    )  # fmt: skip


def test_the_labels_of_classes_are_their_numbers() -> None:
    world = World(watched_spec(task="multiclass_classification", gates=[{"metric": "accuracy", "min": 0.6}]))
    ids = world.answers([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]])
    world.truths({ids[0]: 0.0, ids[1]: 2.0, ids[2]: 3.0, ids[3]: 2.0})
    day = counted(world)
    assert (part(world, day, LABELLED), day.wrong) == ([3], 1)
    assert part(world, day, "realised.accuracy")[:2] == [3, 2]
    assert sum(part(world, day, PREDICTIONS)) == 4


def test_a_regression_is_estimated_by_the_losses_that_its_bundle_says() -> None:
    world = World(watched_spec(task="regression", gates=[{"metric": "mae", "max": 9}]))
    files = {LOSS: b"loss", SCHEMA: b"{}"}
    bundle = put_bundle(world.store, reference_of(Task.REGRESSION), "with losses", **files)
    world.add_version(world.ledger, 7, bundle)
    asked: list[Any] = []

    def expected(found: Any, rows: pl.DataFrame, prediction: np.ndarray) -> np.ndarray:
        asked.append((dict(found), rows.columns, prediction.tolist()))
        return np.column_stack([prediction * 2, prediction * 4])

    counting = Counting(world.spec, world.log, Layouts(world.ledger, world.store, expected))
    world.answers([1.0, 3.0], version=7)
    ids = world.answers([5.0], version=1)
    world.truths({ids[0]: -2.5})
    day = load_day(world.store, counting, DAY)
    count_day(day, counting)
    assert asked == [(files, ["distance", "carrier"], [1.0, 3.0])], "version 1 has no losses to ask"
    layout = counting.layout(day, 7)
    assert layout is not None
    vector = merged([day], 7, ("champion",), layout.size, lambda start: True)[""]
    assert layout.part(vector, "estimated.mae")[:2].tolist() == [2, 8]
    assert part(world, day, "realised.mae")[:2] == [1, 7.5]
    assert day.wrong == 0


def test_a_part_that_is_gone_when_it_is_read_has_no_rows() -> None:
    world = World()
    world.answers([0.1])
    (key,) = world.store.keys("log/predictions/")
    get = world.store.get

    def gone(one: str) -> bytes:
        if one == key:
            raise KeyError(one)
        return get(one)

    world.store.get = gone  # type: ignore[method-assign]
    day = counted(world)
    assert day.cells == {}
    assert day.predictions[key].rows == 0


def test_a_day_of_many_buckets_is_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from evergreen.steps import counting

    world = World(watched_spec(monitoring={"window": "1h", "slices": ["carrier"]}))
    ids = world.answers([0.1] * 600, step=timedelta(seconds=30))
    world.truths(dict.fromkeys(ids, 1.0))
    whole = anew_minutes(world)
    monkeypatch.setattr(counting, "LARGEST", 20_000)
    equal(anew_minutes(world), whole)
    assert len({cell.start for cell in whole.cells}) == 300


def anew_minutes(world: World) -> Day:
    day = Day("m", DAY, 60, ("carrier",))
    count_day(day, world.counting())
    return day
