"""Gates by slice: what is too small, what is certainly worse, and many slices corrected together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evergreen.core.gate_slices import MOST_TOLD, holm
from evergreen.core.gates import judge_quality, verdict_of
from evergreen.core.metrics import Task
from evergreen.core.records import GateResult, GateState
from evergreen.core.scored import Scored
from records import make_spec

START = np.datetime64("2013-01-01", "us")
PASSED, FAILED, NOT_JUDGED = GateState.PASSED, GateState.FAILED, GateState.NOT_JUDGED
DROP = {"metric": "auc", "slice": "carrier", "against": "champion", "max_drop": 0.03}


def scored(slices: dict[str, int], *, noise: dict[str, float] | None = None, rare: str = "", seed: int = 1) -> Scored:
    """So many rows of each carrier, mixed over two weeks. `noise` spoils the candidate there; `rare` has 19 late."""
    rng = np.random.default_rng(seed)
    carrier = rng.permutation(np.repeat(list(slices), list(slices.values())))
    rows = len(carrier)
    signal = rng.normal(size=rows)
    label = (signal + rng.normal(size=rows) > 0.8).astype(np.float64)
    if rare:
        label[carrier == rare] = 0
        label[np.flatnonzero(carrier == rare)[:19]] = 1
    champion = signal + 0.3 * rng.normal(size=rows)
    own = np.array([(noise or {}).get(name, 0.3) for name in carrier])
    at = START + (np.arange(rows) * (14 * 86_400e6 / rows)).astype("timedelta64[us]")
    candidate = signal + own * rng.normal(size=rows)
    chances = [1 / (1 + np.exp(0.8 - score)) for score in (candidate, champion)]
    return Scored(Task.BINARY, label, chances[0], chances[1], at, {"carrier": carrier})


def judge(rows: Scored, gate: dict[str, Any] = DROP, **more: Any) -> GateResult:
    spec = make_spec(
        features={"columns": ["x", "carrier"], "categorical": ["carrier"]},
        gates=[{"metric": "auc", "min": 0.1}, gate],
    )
    found = judge_quality(spec, rows, has_champion=True, **more)
    verdict = verdict_of(spec, found, rows.rows, champion_version=1, metrics={}, champion_metrics={})
    assert verdict.passed is not any(gate.state is FAILED for gate in found)  # a slice not judged does not veto
    return found[1]


def test_no_slice_certainly_worse_is_a_pass() -> None:
    found = judge(scored({"AA": 3000, "B6": 3000, "UA": 2000}))
    assert (found.state, found.slice, found.metric, found.limit) == (PASSED, "carrier", "auc", "drop ≤ 0.03")
    assert {one.value: one.state for one in found.slices} == dict.fromkeys(["AA", "B6", "UA"], PASSED)
    assert found.note == f"worst of 3 judged: {found.slices[0].value}"
    assert all(one.low < one.candidate - one.champion < one.high for one in found.slices)


def test_a_slice_that_is_certainly_worse_fails_the_gate_and_is_named() -> None:
    found = judge(scored({"AA": 3000, "B6": 3000, "UA": 2000, "HA": 60}, noise={"B6": 1.5}))
    worst = found.slices[0]
    assert (found.state, worst.value, worst.state) == (FAILED, "B6", FAILED)
    assert (found.candidate, found.champion, found.low, found.high, found.rows) == (
        worst.candidate, worst.champion, worst.low, worst.high, 3000
    )  # fmt: skip
    assert found.note == (
        f"B6 {worst.candidate:.4g} against the champion's {worst.champion:.4g} is certainly worse by more than 0.03 "
        "(p below 0.0001, corrected for 3 slices): 1 of 3 judged fails, 1 too small to judge"
    )
    assert [one.state for one in found.slices] == [FAILED, PASSED, PASSED, NOT_JUDGED]


def test_a_drop_that_is_allowed_is_a_pass_and_so_is_one_that_is_not_certain() -> None:
    rows = scored({"AA": 3000, "B6": 600}, noise={"B6": 0.55})
    uncertain = next(one for one in judge(rows).slices if one.value == "B6")
    assert uncertain.candidate - uncertain.champion < -0.03 < uncertain.high
    assert uncertain.state is PASSED
    allowed = judge(scored({"AA": 3000, "B6": 3000}, noise={"B6": 1.5}), {**DROP, "max_drop": 0.3})
    assert allowed.state is PASSED


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (scored({"AA": 3000, "B6": 499}, noise={"B6": 9.0}), "499 rows, 500 are needed"),
        (scored({"AA": 3000, "B6": 900}, noise={"B6": 9.0}, rare="B6"), "19 rows of class 1, 20 are needed"),
    ],
)
def test_a_slice_too_small_is_not_judged_and_does_not_veto(rows: Scored, note: str) -> None:
    found = judge(rows)
    assert found.state is PASSED
    assert [(one.value, one.state, one.note) for one in found.slices[1:]] == [("B6", NOT_JUDGED, note)]


def test_the_smallest_slices_that_are_judged() -> None:
    found = judge(scored({"AA": 3000, "B6": 500}, noise={"B6": 9.0}))
    assert (found.state, found.slices[0].value) == (FAILED, "B6")


def test_only_small_slices_are_no_veto_either() -> None:
    found = judge(scored({"AA": 400, "B6": 300}))
    assert (found.state, found.vetoes) == (NOT_JUDGED, False)
    assert found.note == "no value of carrier has enough rows: 400 rows, 500 are needed"


def test_only_the_worst_slices_are_kept_with_the_verdict() -> None:
    found = judge(scored({"AA": 600, **{f"c{at:03}": 3 for at in range(90)}}))
    assert len(found.slices) == MOST_TOLD
    assert found.note == "worst of 1 judged: AA, 90 too small to judge"


@pytest.mark.parametrize(("least", "state"), [(0.72, FAILED), (0.5, PASSED)])
def test_a_slice_may_have_a_limit_of_its_own(least: float, state: GateState) -> None:
    rows = scored({"AA": 3000, "B6": 3000}, noise={"B6": 2.5})
    found = judge(rows, {"metric": "auc", "slice": "carrier", "min": least})
    assert (found.state, found.slices[0].value, found.champion, found.limit) == (state, "B6", None, f"≥ {least:g}")
    if state is FAILED:
        assert f"B6 {found.candidate:.4g} is certainly below 0.72" in found.note


def test_a_slice_may_have_a_highest_value() -> None:
    rows = scored({"AA": 3000, "B6": 3000}, noise={"B6": 2.5})
    found = judge(rows, {"metric": "brier", "slice": "carrier", "max": 0.2})
    assert (found.state, found.slices[0].value) == (FAILED, "B6")
    assert "is certainly above 0.2" in found.note


def test_slices_against_no_champion_are_left_out() -> None:
    rows = scored({"AA": 3000})
    alone = Scored(rows.task, rows.label, rows.candidate, None, rows.at, rows.slices)
    assert judge(alone, not_comparable="gone").state is GateState.NOT_COMPARABLE


# ---------------------------------------------------------------- Holm


def test_holm_by_hand() -> None:
    """At 0.05: 0.01 ≤ 0.05/4, 0.015 ≤ 0.05/3, but 0.03 > 0.05/2, which ends it, though 0.04 ≤ 0.05/1."""
    assert holm([0.03, 0.01, 0.04, 0.015], 0.05) == [False, True, False, True]


@pytest.mark.parametrize(
    ("chances", "rejected"),
    [
        ([], []),
        ([0.05], [True]),
        ([0.051], [False]),
        ([0.026, 0.026], [False, False]),  # each alone would be rejected
        ([0.025, 0.05], [True, True]),  # Bonferroni would keep the second
        ([0.2, 0.001, 0.9], [False, True, False]),
    ],
)
def test_holm(chances: list[float], rejected: list[bool]) -> None:
    assert holm(chances, 0.05) == rejected


def test_twenty_equal_slices_seldom_fail_a_model_that_is_no_worse() -> None:
    """Without the correction about one gate in two would fail at the limit, with 20 slices at 95 %."""
    names = {f"c{at:02}": 500 for at in range(20)}
    gate = {**DROP, "metric": "brier", "max_drop": 0.0}
    failed = sum(judge(scored(names, seed=seed), gate).state is FAILED for seed in range(12))
    assert failed <= 2
