"""Keys that stand twice in parts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import polars as pl
import pytest

from evergreen.core.unique_keys import Keys, twice


def parts(lists: Sequence[Sequence[str | int]]) -> list[Keys]:
    series = [pl.Series("id", keys) for keys in lists]
    return [Keys(len(keys), partial(pl.Series, keys), lambda keys=keys: keys.hash().to_numpy()) for keys in series]


def found(new: list[list[str | int]], old: list[list[str | int]], **changes: int) -> list[str | int]:
    again = twice(parts(new), parts(old), **changes)
    return [] if again is None else again.to_list()


@pytest.mark.parametrize(
    ("new", "old", "again"),
    [
        ([], [], []),
        ([], [["a"], ["b"]], []),
        ([["a", "b"], ["c"]], [["d"], ["e"]], []),
        ([["a", "b", "a"]], [], ["a"]),
        ([["b", "a"], ["a"], ["b", "c"]], [["d"]], ["a", "b"]),
        ([["a"], ["b"]], [["c", "b"], ["x"]], ["b"]),
        ([[1, 2], [3]], [[4, 2]], [2]),
        ([[1]], [[1], [2]], [1]),
    ],
)
def test_keys_are_found_within_new_parts_and_between_these_and_old_ones(
    new: list[list[str | int]], old: list[list[str | int]], again: list[str | int]
) -> None:
    assert found(new, old) == again
    assert found(new, old, at_once=1) == again


def test_of_many_keys_all_are_found_and_no_other() -> None:
    chance = random.Random(3)
    keys = [f"k{n}" for n in range(20_000)]
    copies = sorted(chance.sample(keys, 40))
    rows = keys + copies
    chance.shuffle(rows)
    lists = [rows[at : at + 1_500] for at in range(0, len(rows), 1_500)]
    assert found(lists, []) == copies
    assert found(lists, [], at_once=3_000) == copies
