"""The verdict: limits on fresh rows, against the champion and in the rehearsal; what vetoes and what does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from evergreen.core.gates import judge_measured, judge_quality, too_few, verdict_of
from evergreen.core.metrics import Task
from evergreen.core.records import GateResult, GateState, Verdict
from evergreen.core.scored import Scored
from records import make_spec

START = np.datetime64("2013-01-01", "us")
ABSOLUTE = {"metric": "auc", "min": 0.6}
AGAINST = {"metric": "auc", "against": "champion"}
PASSED, FAILED, NOT_JUDGED = GateState.PASSED, GateState.FAILED, GateState.NOT_JUDGED
NO_CHAMPION, NOT_COMPARABLE = GateState.NO_CHAMPION, GateState.NOT_COMPARABLE


def scored(rows: int = 4000, *, better: float = 0.0, champion: bool = True, seed: int = 1) -> Scored:
    """Two weeks of rows; the candidate knows more of the signal than the champion by `better`, or less."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    label = (signal + rng.normal(size=rows) > 0.8).astype(np.float64)
    noises = [noise + own * rng.normal(size=rows) for noise, own in ((rng.normal(size=rows), 0.2) for _ in range(2))]
    chances = [
        1 / (1 + np.exp(0.8 - signal - (1 - gain) * noise)) for gain, noise in zip((better, 0), noises, strict=True)
    ]
    at = START + (np.arange(rows) * (14 * 86_400e6 / rows)).astype("timedelta64[us]")
    return Scored(Task.BINARY, label, chances[0], chances[1] if champion else None, at)


def regression(candidate: float, champion: float, rows: int = 1400) -> Scored:
    """Models whose errors are, on average, of these sizes; the same in all of 14 days but for a little."""
    rng = np.random.default_rng(2)
    label = 100 + rng.normal(size=rows)
    sign = rng.choice([-1.0, 1.0], size=rows)
    at = START + (np.arange(rows) * (14 * 86_400e6 / rows)).astype("timedelta64[us]")
    off = [size * sign * (1 + 0.1 * rng.normal(size=rows)) for size in (candidate, champion)]
    return Scored(Task.REGRESSION, label, label + off[0], label + off[1], at)


def verdict(gates: list[dict[str, Any]], rows: Scored, *, has_champion: bool = True, **more: Any) -> Verdict:
    task = {Task.REGRESSION: "regression", Task.BINARY: "binary_classification"}[rows.task]
    spec = make_spec(gates=gates, task=task)
    found = judge_quality(spec, rows, has_champion=has_champion, **more)
    return verdict_of(spec, found, rows.rows, champion_version=3, metrics={"auc": 0.7}, champion_metrics={})


def states(found: Verdict) -> list[GateState]:
    return [gate.state for gate in found.gates]


# ---------------------------------------------------------------- alone


def test_every_gate_kept_is_a_pass_and_the_interval_is_told() -> None:
    found = verdict([ABSOLUTE, {"metric": "logloss", "max": 0.6}], scored())
    assert (found.judged, found.passed, found.rows, found.champion_version) == (True, True, 4000, 3)
    auc, logloss = found.gates
    assert (auc.metric, auc.limit, auc.rows, auc.note, logloss.limit) == ("auc", "≥ 0.6", 4000, "", "≤ 0.6")
    assert auc.low < auc.candidate < auc.high
    assert found.reason == f"auc {auc.candidate:.4g} keeps ≥ 0.6; logloss {logloss.candidate:.4g} keeps ≤ 0.6"


def test_one_gate_missed_is_no_pass_and_is_told_first() -> None:
    found = verdict([ABSOLUTE, {"metric": "auc", "min": 0.95}, {"metric": "logloss", "max": 0.6}], scored())
    assert (found.judged, found.passed) == (True, False)
    assert states(found) == [PASSED, FAILED, PASSED]
    assert found.reason == f"auc {found.gates[1].candidate:.4g} is below 0.95; 2 other gates kept"


@pytest.mark.parametrize(
    ("size", "note"),
    [
        (2.0, ""),
        (2.00001, "2.00001 is above 2"),  # not "2 is above 2"
        (3.5, "3.5 is above 2"),
        (12_345.0, "12,345 is above 2"),
    ],
)
def test_a_limit_itself_is_kept_and_numbers_are_told_apart(size: float, note: str) -> None:
    spec = make_spec(gates=[ABSOLUTE, {"metric": "size_mb", "max": 2.0}])
    (found,) = judge_measured(spec, {"size_mb": (size, None)}, has_champion=False)
    assert (found.note, found.passed) == (note, not note)


@pytest.mark.parametrize(("least", "state"), [(0.6, PASSED), (0.6000001, FAILED)])
def test_the_lowest_value_itself_passes(least: float, state: GateState) -> None:
    label = np.ones(10)
    rows = Scored(
        Task.BINARY, label, np.repeat([0.9, 0.1], [6, 4]), None, START + np.arange(10).astype("timedelta64[D]")
    )
    assert states(verdict([{"metric": "accuracy", "min": least}], rows, has_champion=False)) == [state]


def test_two_limits_of_one_gate_are_two_results() -> None:
    found = verdict([{"metric": "auc", "min": 0.6, "max": 0.65}], scored())
    assert [(gate.limit, gate.state) for gate in found.gates] == [("≥ 0.6", PASSED), ("≤ 0.65", FAILED)]


def test_a_parameter_stands_in_the_metrics_name() -> None:
    found = verdict(
        [{"metric": "accuracy", "threshold": 0.3, "min": 0.99}, {"metric": "accuracy", "min": 0.5}], scored()
    )
    assert [gate.metric for gate in found.gates] == ["accuracy@0.3", "accuracy"]
    assert found.reason.startswith("accuracy@0.3 0.")


def test_a_metric_that_the_rows_do_not_give_vetoes_and_blocks_nothing() -> None:
    one_class = scored()
    one_class.label[:] = 0
    found = verdict([ABSOLUTE, {"metric": "brier", "max": 1}], one_class)
    assert (found.judged, found.passed, states(found)) == (False, False, [NOT_JUDGED, PASSED])
    assert found.reason == "auc not judged: these rows do not give it; 1 other gate kept"
    missed = verdict([ABSOLUTE, {"metric": "brier", "max": 0.001}], one_class)
    assert (missed.judged, missed.passed) == (True, False)  # a gate missed counts though another was not judged
    assert missed.reason.startswith("brier ")


def test_too_few_rows_judge_no_gate() -> None:
    found = too_few(make_spec(gates=[ABSOLUTE, {**AGAINST, "min_delta": -0.01, "min_point_delta": 0}]), 9)
    assert (found.judged, found.passed, found.rows) == (False, False, 9)
    assert "9 fresh rows with a label, window.holdout.min_rows asks for 10" in found.reason
    assert [(gate.state, gate.note) for gate in found.gates] == [(NOT_JUDGED, "too few rows")] * 3


# ---------------------------------------------------------------- against the champion


def test_not_worse_must_be_certain_and_better_is_a_point() -> None:
    gates = [ABSOLUTE, {**AGAINST, "min_delta": -0.01, "min_point_delta": 0.0}]
    better = verdict(gates, scored(better=0.3))
    assert states(better) == [PASSED] * 3
    assert [gate.limit for gate in better.gates[1:]] == ["improvement ≥ -0.01 with 95 % confidence", "improvement ≥ 0"]
    gate = better.gates[1]
    assert gate.low < gate.candidate - gate.champion < gate.high
    assert better.reason == (
        f"auc {gate.candidate:.4g} (champion {gate.champion:.4g}) keeps ≥ 0.6, "
        "improvement ≥ -0.01 with 95 % confidence, improvement ≥ 0"
    )
    assert states(verdict(gates, scored(better=-0.3))) == [PASSED, FAILED, FAILED]


def test_few_rows_are_certain_of_little_and_more_confidence_asks_for_more() -> None:
    gate = {**AGAINST, "min_delta": -0.02}
    assert states(verdict([ABSOLUTE, gate], scored(20_000)))[1] is PASSED
    few = verdict([ABSOLUTE, gate], scored(500))
    assert states(few)[1] is FAILED
    usual, sure = verdict([ABSOLUTE, gate, {**gate, "confidence": 0.99}], scored()).gates[1:]
    assert sure.low < usual.low
    assert "99 %" in sure.limit


def test_the_reason_of_a_miss_says_both_values_the_improvement_and_how_certain_it_is() -> None:
    gates = [
        {"metric": "mae", "max": 20},
        {"metric": "mae", "against": "champion", "min_delta": -0.2, "min_point_delta": -0.5, "max_ratio": 1.05},
    ]
    found = verdict(gates, regression(10.1, 9.0))
    assert states(found) == [PASSED, FAILED, FAILED, FAILED]
    certain, point, ratio = (gate.note for gate in found.gates[1:])
    number = r"-?\d+(\.\d+)?"
    assert re.fullmatch(
        rf"10\.\d+ against the champion's (8\.9\d*|9(\.0\d*)?): improvement -1\.\d+ "
        rf"\(at least {number} with 95 % confidence\) is below -0\.2",
        certain,
    )
    assert re.fullmatch(rf"{number} against the champion's {number}: improvement {number} is below -0\.5", point)
    assert re.fullmatch(rf"10\.\d+ is above 9\.\d+, 1\.05 × the champion's {number}", ratio)
    assert found.reason.startswith(f"mae {certain}; mae {point}")
    assert found.reason.endswith("1 other gate kept")


def test_a_limit_reached_but_not_for_certain_is_told_so() -> None:
    rows = scored(600, seed=4)
    gate = verdict([ABSOLUTE, {**AGAINST, "min_delta": -0.02}], rows).gates[1]
    assert gate.candidate - gate.champion > -0.02 > gate.low
    assert "is not certain to reach -0.02" in gate.note


@pytest.mark.parametrize(("candidate", "state"), [(0.5, PASSED), (-0.5, PASSED), (1.5, FAILED), (-1.5, FAILED)])
def test_a_bias_improves_towards_zero(candidate: float, state: GateState) -> None:
    rows = regression(1.0, 1.0)
    shifted = Scored(rows.task, rows.label, rows.label + candidate, rows.label + 1.0, rows.at)
    gates = [{"metric": "mae", "max": 9}, {"metric": "bias", "against": "champion", "min_delta": 0.0}]
    assert states(verdict(gates, shifted))[1] is state


def test_without_a_champion_the_absolute_gates_decide() -> None:
    gates = [ABSOLUTE, {**AGAINST, "min_delta": -0.01, "min_point_delta": 0.0}]
    found = verdict(gates, scored(champion=False), has_champion=False)
    assert (found.judged, found.passed, found.ask_why) == (True, True, "")
    assert states(found) == [PASSED, NO_CHAMPION, NO_CHAMPION]
    assert found.reason.endswith("; 2 gates against the champion left out: no champion yet")


def test_a_champion_that_cannot_be_compared_asks_a_person() -> None:
    gates = [ABSOLUTE, {**AGAINST, "min_delta": -0.01}]
    found = verdict(gates, scored(champion=False), not_comparable="column 'wind' is gone")
    assert (found.judged, found.passed, states(found)) == (True, True, [PASSED, NOT_COMPARABLE])
    assert found.ask_why == "auc could not be compared with the champion's: column 'wind' is gone"
    assert "1 gate against the champion left out: column 'wind' is gone" in found.reason
    missed = verdict([{"metric": "auc", "min": 0.99}, *gates], scored(champion=False), not_comparable="gone")
    assert (missed.judged, missed.passed) == (True, False)


def test_what_the_caller_says_of_asking_goes_first() -> None:
    spec, left_out = make_spec(), GateResult("auc", "≥ 0", NOT_COMPARABLE, note="gone")
    found = verdict_of(spec, (left_out,), 9, champion_version=1, metrics={}, champion_metrics={}, ask_why="its type")
    assert found.ask_why == "its type"


# ---------------------------------------------------------------- measured, and put together

LATENCY = {"metric": "latency_p99_ms", "max": 20, "against": "champion", "max_ratio": 1.5}


@pytest.mark.parametrize(
    ("measured", "has_champion", "expected"),
    [
        ({"latency_p99_ms": (12.0, 10.0)}, True, [PASSED, PASSED]),
        ({"latency_p99_ms": (18.0, 10.0)}, True, [PASSED, FAILED]),
        ({"latency_p99_ms": (31.0, 30.0)}, True, [FAILED, PASSED]),
        ({"latency_p99_ms": (18.0, None)}, False, [PASSED, NO_CHAMPION]),
        ({"latency_p99_ms": (18.0, None)}, True, [PASSED, NOT_COMPARABLE]),
        ({"latency_p99_ms": (None, 10.0)}, True, [NOT_JUDGED, NOT_JUDGED]),
        ({"memory_mb": (18.0, None)}, True, []),
        ({}, True, []),
    ],
)
def test_what_was_measured_is_judged(
    measured: Mapping[str, tuple[float | None, float | None]], has_champion: bool, expected: list[GateState]
) -> None:
    spec = make_spec(gates=[ABSOLUTE, LATENCY])
    found = judge_measured(spec, measured, has_champion=has_champion, note="the slot did not start")
    assert [gate.state for gate in found] == expected
    assert all(gate.note for gate in found if not gate.passed)


def test_a_ratio_missed_says_of_what() -> None:
    found = judge_measured(make_spec(gates=[ABSOLUTE, LATENCY]), {"latency_p99_ms": (31.0, 15.0)}, has_champion=True)
    assert [gate.note for gate in found] == ["31 is above 20", "31 is above 22.5, 1.5 × the champion's 15"]


def test_quality_leaves_out_what_the_rehearsal_measures() -> None:
    assert [gate.metric for gate in verdict([ABSOLUTE, LATENCY], scored()).gates] == ["auc"]


def put_together(*gates: GateResult) -> Verdict:
    return verdict_of(make_spec(), gates, 9, champion_version=None, metrics={}, champion_metrics={})


def test_a_gate_of_another_step_is_told_like_its_own() -> None:
    good = GateResult("auc", "≥ 0.6", PASSED, candidate=0.7)
    limit = "loads, and answers its golden rows over HTTP"
    found = put_together(good, GateResult("rehearsal", limit, FAILED, note="golden row 3 is off by 1e-4"))
    assert (found.passed, found.reason) == (False, "rehearsal: golden row 3 is off by 1e-4; 1 other gate kept")
    assert put_together(GateResult("rehearsal", limit, FAILED)).reason == f"rehearsal: misses {limit}"
    assert put_together(good, GateResult("rehearsal", limit, PASSED)).reason == (
        f"auc 0.7 keeps ≥ 0.6; rehearsal: {limit}"
    )


def test_gates_not_judged_for_one_reason_are_told_together() -> None:
    why = "refused before the rehearsal"
    measured = judge_measured(
        make_spec(gates=[ABSOLUTE, LATENCY]), {"latency_p99_ms": (None, None)}, has_champion=True, note=why
    )
    rehearsal = GateResult("rehearsal", "loads", NOT_JUDGED, note=why)
    found = put_together(GateResult("auc", "≥ 0.6", FAILED, note="0.5 is below 0.6"), rehearsal, *measured)
    assert found.reason == f"auc 0.5 is below 0.6; rehearsal, latency_p99_ms not judged: {why}"


def test_a_pass_needs_a_gate_that_passed() -> None:
    found = put_together(GateResult("auc", "≥ 0", NO_CHAMPION, note="no champion yet"))
    assert (found.judged, found.passed) == (False, False)
    assert put_together().reason == "m: no gate was judged"


def test_many_kept_gates_are_counted() -> None:
    kept = [GateResult(f"m{at}", "≥ 0.6", PASSED, candidate=0.7) for at in range(6)]
    assert put_together(*kept).reason == "; ".join(f"m{at} 0.7 keeps ≥ 0.6" for at in range(4)) + "; 2 other gates kept"


def test_several_classes_are_judged_too() -> None:
    rng = np.random.default_rng(9)
    chances = rng.dirichlet(np.ones(3), 1400)
    label = np.array([rng.choice(3, p=row) for row in chances], dtype=np.float64)
    at = START + (np.arange(1400) // 100).astype("timedelta64[D]")
    rows = Scored(Task.MULTICLASS, label, chances, np.full((1400, 3), 1 / 3), at)
    gates = [{"metric": "accuracy", "min": 0.4}, {"metric": "logloss", "against": "champion", "min_delta": 0.1}]
    spec = make_spec(task="multiclass_classification", gates=gates)
    assert [gate.state for gate in judge_quality(spec, rows, has_champion=True)] == [PASSED, PASSED]
    unseen = Scored(Task.MULTICLASS, np.full(1400, 3.0), chances, chances, at)  # a class of the champion's future
    assert [gate.state for gate in judge_quality(spec, unseen, has_champion=True)] == [FAILED, NOT_JUDGED]
