"""What validation found in a part is found once, and a damaged note of it is made anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.gx_validator import GxValidator, workers
from evergreen.core.ports import PartRows, ValidationReport
from evergreen.core.retention import VALIDATED, outdated_findings
from evergreen.fakes.store import InMemoryStore

KEYS = [f"snapshots/m/2013-01-0{day}-{'a' * 32}.parquet" for day in (1, 2, 3)]
FRAMES = [
    pl.DataFrame(
        {
            "hour": [1, day, None, 99 if day == 2 else 5],
            "id": [f"{day}-1", f"{day}-2", None, f"{day}-4"],
            "again": [day, day + 10, None, 12 if day == 3 else day + 20],  # 12 stands in the second part too
        }
    )
    for day in (1, 2, 3)
]
BETWEEN = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "max_value": 23}}


class World:
    """Three parts, and which of them were read whole."""

    def __init__(self) -> None:
        self.store, self.read = InMemoryStore(), []  # type: ignore[var-annotated]

    def validate(self, *expectations: dict[str, Any], keys: list[str] = KEYS) -> ValidationReport:
        self.read.clear()
        parts = [self._part(key) for key in keys]
        suite = {"name": "s", "expectations": list(expectations or [BETWEEN])}
        return GxValidator(self.store, DuckdbWindow()).validate(parts, suite)

    def _part(self, key: str) -> PartRows:
        frame = FRAMES[KEYS.index(key)]

        def read() -> pl.DataFrame:
            self.read.append(key)
            return frame

        return replace(PartRows.of(frame, key), read=read)


@pytest.fixture
def world() -> World:
    return World()


def test_only_a_new_part_is_read_whole(world: World) -> None:
    world.validate(keys=KEYS[:2])
    report = world.validate()
    assert world.read == KEYS[2:]
    assert [list(result.rows or ()) for result in report.results] == [[7]]
    assert world.validate(keys=KEYS[1:]).results[0].rows is not None
    assert world.read == []


def test_another_suite_finds_for_itself(world: World) -> None:
    world.validate()
    world.validate({**BETWEEN, "kwargs": {"column": "hour", "max_value": 3}})
    assert world.read == KEYS


@pytest.mark.parametrize("damage", [lambda data: data[:-2], lambda data: b"", lambda data: data.replace(b"99", b"98")])
def test_a_damaged_finding_is_made_anew(world: World, damage: Any) -> None:
    first = world.validate().full
    hurt = [key for key in world.store.files if KEYS[1].split("/")[2].removesuffix(".parquet") in key]
    world.store.files[hurt[0]] = damage(world.store.files[hurt[0]])
    assert world.validate().full["results"] == first["results"]
    assert world.read == [KEYS[1]]


def test_what_could_not_be_judged_is_not_kept(world: World) -> None:
    text = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "hour", "value_set": [1]}}
    world.validate(
        text, {"type": "expect_column_values_to_match_json_schema", "kwargs": {"column": "hour", "json_schema": {}}}
    )
    assert not world.store.keys(VALIDATED)


@pytest.mark.parametrize("damage", [None, b"", b"[1", b"{}", b'["gone"]'])
def test_a_new_part_is_compared_with_those_known_to_have_no_value_twice(world: World, damage: bytes | None) -> None:
    unique = [{"type": "expect_column_values_to_be_unique", "kwargs": {"column": name}} for name in ("id", "again")]
    assert [r.status for r in world.validate(*unique, keys=KEYS[:2]).results] == ["passed", "passed"]
    assert world.store.keys(VALIDATED), "it is known of two parts"
    for key in world.store.keys(VALIDATED) if damage is not None else []:
        world.store.files[key] = damage
    for _ in range(2):
        good, bad = world.validate(*unique).results
        assert (good.status, list(good.rows or ())) == ("passed", [])
        assert (bad.status, list(bad.rows or ())) == ("failed", [5, 11])


def test_findings_go_with_their_part(world: World) -> None:
    world.validate()
    files = world.store.listing(VALIDATED)
    young = min(file.modified for file in files)
    assert {file.key.split("/")[2] for file in outdated_findings(files, KEYS[1:], young)} == {f"2013-01-01-{'a' * 32}"}
    assert outdated_findings(files, KEYS, young) == []


def test_too_many_rows_for_an_expectation_on_all_of_them_are_refused_with_the_numbers(world: World) -> None:
    median = {"type": "expect_column_median_to_be_between", "kwargs": {"column": "hour", "min_value": 0}}
    parts = [PartRows.of(frame) for frame in FRAMES]
    report = GxValidator(world.store, DuckdbWindow(), memory_mb=0.001).validate(
        parts, {"name": "s", "expectations": [median]}
    )
    assert report.results[0].status == "errored"
    assert "needs all 12 rows of 1 columns at once" in report.results[0].detail


def test_where_polars_is_at_work_nothing_is_forked() -> None:
    pl.DataFrame({"a": [1, 2, 3]}).group_by("a").len()
    assert workers.uses_polars()
    with workers.shared([1, 2], lambda task: task * 2, fork=True) as answers:
        assert list(answers) == [(1, 2), (2, 4)]
