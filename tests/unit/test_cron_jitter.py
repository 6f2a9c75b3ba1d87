"""H in a cron line: the name's own value, the same for ever, or a refusal that says what is allowed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from croniter import croniter  # type: ignore[import-untyped]

from evergreen.core.catalog import load_catalog
from evergreen.core.cron_jitter import ALLOWED, BadJitter, resolve
from spec_project import make_project, write_spec

NAMES = [f"model-{at}" for at in range(1000)]


@pytest.mark.parametrize(
    ("line", "resolved"),
    [
        ("H 3 * * *", "6 3 * * *"),
        ("H H * * *", "6 23 * * *"),
        ("H(0-29) 3 * * *", "6 3 * * *"),
        ("H/15 * * * *", "6-59/15 * * * *"),
        ("H(30-59)/10 * * * *", "36-59/10 * * * *"),
        ("0 0 H H H", "0 0 20 9 6"),
        ("0 3 * MAR FRI", "0 3 * MAR FRI"),
        ("0 3 * * THU", "0 3 * * THU"),
        ("not a cron line", "not a cron line"),
    ],
)
def test_a_name_has_this_line_for_ever(line: str, resolved: str) -> None:
    """A change of these values would move the schedules of all who use H."""
    assert resolve(line, "flight-delay") == resolved


@pytest.mark.parametrize(
    "line", ["H * * * *", "H(0-29) 3 * * *", "H/7 * * * *", "H H(1-5)/2 H H H", "H(5-9)/4 * * * *"]
)
def test_airflow_takes_what_every_name_makes_of_it(line: str) -> None:
    for name in NAMES:
        assert croniter.is_valid(resolve(line, name))


def test_a_thousand_models_are_spread_over_the_hour() -> None:
    starts = Counter(resolve("H 3 * * *", name) for name in NAMES)
    assert len(starts) == 60
    assert max(starts.values()) < 40


def test_minute_and_hour_of_a_name_have_nothing_to_do_with_each_other() -> None:
    assert len({resolve("H H * * *", name) for name in NAMES}) > 600


def test_a_step_leaves_no_gap_longer_than_itself_within_the_hour() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for name in NAMES[:50]:
        times = croniter(resolve("H/20 * * * *", name), start - timedelta(seconds=1))
        found = [times.get_next(datetime) for _ in range(6)]
        assert {b - a for a, b in pairwise(found)} == {timedelta(minutes=20)}


@pytest.mark.parametrize(
    "line",
    ["H(0-70) 3 * * *", "H(9-3) 3 * * *", "H/0 * * * *", "H/60 * * * *", "H,30 3 * * *", "H-5 * * * *",
     "H(a-b) * * * *", "0 0 H(29-31) * *", "h 3 * * *", "R 3 * * *", "H 3 * *", "5H * * * *", "0 H(0-24) * * *"],
)  # fmt: skip
def test_what_cannot_be_resolved_is_refused_with_what_is_allowed(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadJitter):
        resolve(line, "a")
    root = make_project(tmp_path, "a")
    write_spec(root, "a", ('"0 3 * * *"', f'"{line}"'))
    [problem] = load_catalog(root).problems
    assert (problem.field, problem.allowed) == ("triggers[1].schedule", ALLOWED)
    assert line in problem.found
    assert problem.line


def test_the_model_has_its_own_line_and_another_name_another_one(tmp_path: Path) -> None:
    root = make_project(tmp_path, "a", "b")
    for name in ("a", "b"):
        write_spec(root, name, ('"0 3 * * *"', '"H 3 * * *"'))
    found = load_catalog(root)
    assert found.problems == ()
    lines = [spec.schedule for spec in found.specs.values()]
    assert lines == [[resolve("H 3 * * *", "a")], [resolve("H 3 * * *", "b")]]
    assert lines[0] != lines[1]
