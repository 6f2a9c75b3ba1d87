"""Gates on the holdout's metrics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from evergreen.core.gates import judge_gates
from training_data import make_spec

TWO = [{"metric": "auc", "min": 0.6}, {"metric": "logloss", "max": 0.45}]


def verdict(gates: list[dict[str, Any]], metrics: dict[str, float], rows: int = 100) -> Any:
    return judge_gates(make_spec(gates=gates), metrics, rows)


def test_every_gate_kept_is_a_pass() -> None:
    found = verdict(TWO, {"auc": 0.61, "logloss": 0.41})
    assert (found.judged, found.passed, found.rows) == (True, True, 100)
    assert found.reason == "auc 0.61 keeps ≥ 0.6; logloss 0.41 keeps ≤ 0.45"
    assert [gate.limit for gate in found.gates] == ["≥ 0.6", "≤ 0.45"]


def test_one_gate_missed_is_no_pass() -> None:
    found = verdict(TWO, {"auc": 0.58, "logloss": 0.41})
    assert (found.judged, found.passed) == (True, False)
    assert [gate.passed for gate in found.gates] == [False, True]
    assert found.reason == "auc 0.58 is below 0.6; logloss 0.41 keeps ≤ 0.45"


@pytest.mark.parametrize(
    ("value", "passed", "reason"),
    [
        (0.6, True, "auc 0.6 keeps ≥ 0.6 and ≤ 0.8"),
        (0.8, True, "auc 0.8 keeps ≥ 0.6 and ≤ 0.8"),
        (0.81, False, "auc 0.81 is above 0.8"),
        (0.59999, False, "auc 0.59999 is below 0.6"),  # not "0.6 is below 0.6"
    ],
)
def test_a_limit_itself_is_kept(value: float, passed: bool, reason: str) -> None:
    found = verdict([{"metric": "auc", "min": 0.6, "max": 0.8}], {"auc": value})
    assert (found.passed, found.reason) == (passed, reason)


@pytest.mark.parametrize(("rows", "judged"), [(49, False), (50, True)])
def test_fewer_rows_than_asked_for_are_not_judged(rows: int, judged: bool) -> None:
    found = verdict(TWO, {"auc": 0.9, "logloss": 0.1}, rows)
    assert (found.judged, found.passed) == (judged, judged)
    assert ("49 fresh rows" in found.reason) is not judged


@pytest.mark.parametrize("metrics", [{"logloss": 0.41}, {"auc": math.nan, "logloss": 0.41}])
def test_a_metric_that_the_rows_do_not_give_vetoes_and_blocks_nothing(metrics: dict[str, float]) -> None:
    found = verdict(TWO, metrics)
    assert (found.judged, found.passed) == (False, False)
    assert found.gates[0].value is None
    assert "not judged" in found.gates[0].note


def test_a_gate_missed_counts_though_another_could_not_be_judged() -> None:
    found = verdict(TWO, {"logloss": 0.9})
    assert (found.judged, found.passed) == (True, False)
