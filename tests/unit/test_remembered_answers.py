"""What the library said of a value is not asked again, and every row has the answer that it would have got."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.gx_validator import GxValidator, answers, rowwise, witnesses
from evergreen.core.ports import PartRows
from evergreen.core.retention import VALIDATED
from evergreen.fakes.store import InMemoryStore

IN_SET = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "carrier", "value_set": ["AA", "UA"]}}
BETWEEN = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "wind", "min_value": -40}}
THERE = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "carrier"}}
DAYS = [
    pl.DataFrame({"carrier": ["AA", "UA"] * 8, "wind": [float(n) for n in range(16)]}),
    pl.DataFrame({"carrier": ["ZZ", *["AA"] * 14, None], "wind": [1.5 + n / 2 for n in range(16)]}),
    pl.DataFrame({"carrier": ["UA", "ZZ"] * 8, "wind": [None, *(3.0 + n / 5 for n in range(14)), -99.0]}),
]


class World:
    """A store, and what the library was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.asked = InMemoryStore(), []  # type: ignore[var-annotated]
        run = witnesses._run

        def watched(columns: dict[str, pl.Series], configs: Any, nullable: Any) -> Any:
            self.asked.append({name: values.to_list() for name, values in columns.items()})
            return run(columns, configs, nullable)

        monkeypatch.setattr(witnesses, "_run", watched)
        monkeypatch.setattr(rowwise, "ROWS", 16)  # each part by itself

    def rows(self, days: int) -> list[list[int]]:
        """Of each expectation those that were unexpected; a validator of its own."""
        self.asked.clear()
        parts = [PartRows.of(day, f"snapshots/m/2013-01-0{at}-a.parquet") for at, day in enumerate(DAYS[:days], 1)]
        suite = {"name": "s", "expectations": [IN_SET, BETWEEN, THERE]}
        report = GxValidator(self.store, DuckdbWindow()).validate(parts, suite)
        return [list(result.rows or ()) for result in report.results]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


ALL = [[16, *range(33, 48, 2)], [47], [31]]


def test_a_value_is_asked_for_once_whatever_run_its_part_comes_in(world: World) -> None:
    assert world.rows(1) == [[], [], []]
    assert world.rows(2) == [[16], [], [31]]
    carriers = [value for asked in world.asked for value in asked.get("carrier", [])]
    assert set(carriers) == {"ZZ", None}, "the others were asked for in the first run"
    assert not any("wind" in asked for asked in world.asked), "all lie between two that were fine"
    assert world.rows(3) == ALL
    assert not any("carrier" in asked for asked in world.asked)


@pytest.mark.parametrize("damage", [b"", b"[]", b"gone"])
def test_damaged_answers_are_asked_for_again(world: World, damage: bytes) -> None:
    world.rows(2)
    for key in world.store.keys(VALIDATED):
        world.store.files[key] = damage
    assert world.rows(3) == ALL
    assert any("carrier" in asked for asked in world.asked)


def test_what_is_too_much_to_remember_is_asked_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "REMEMBERED", 2)
    assert world.rows(3) == ALL
    assert world.rows(3) == ALL
