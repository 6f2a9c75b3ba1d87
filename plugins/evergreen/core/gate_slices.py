"""Gates by slice: the rows of each value of a column apart. A slice fails only where it certainly misses its limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen.core.gate_evidence import Evidence
from evergreen.core.gate_texts import NOT_GIVEN, Limit, miss_of_slice
from evergreen.core.metrics import Task
from evergreen.core.records import GateResult, GateState, SliceResult

if TYPE_CHECKING:
    import numpy as np

    from evergreen.core.resample import Estimate

FEWEST_ROWS, FEWEST_OF_A_CLASS = 500, 20
MOST_TOLD = 50  # slices kept with a verdict: the failed and the worst


@dataclass(frozen=True)
class _Slice:
    """A slice and the p-value against 'it keeps its limit'; NaN: not judged."""

    told: SliceResult
    chance: float


def judge_slices(limit: Limit, evidence: Evidence) -> GateResult:
    """The gate over all slices, with the values of the worst one.

    Fails where a slice certainly misses its limit: the p-values of all judged slices together, by Holm, at the
    gate's confidence. Slices of under 500 rows, or under 20 of a class, are not judged; the gate is not where none is.
    """
    assert limit.gate.slice
    found = [_judge_slice(limit, each, value) for value, each in _apart(evidence, limit.gate.slice)]
    judged = sorted((one for one in found if not math.isnan(one.chance)), key=lambda one: one.chance)
    small = sorted((one.told for one in found if math.isnan(one.chance)), key=lambda told: -told.rows)
    misses = holm([one.chance for one in judged], 1 - limit.gate.confidence)
    told = [_told(limit, one, miss, len(judged)) for one, miss in zip(judged, misses, strict=True)]
    if not told:
        note = f"no value of {limit.gate.slice} has enough rows: {small[0].note}" if small else "no row"
        return limit.result(GateState.NOT_JUDGED, rows=evidence.rows, slices=tuple(small[:MOST_TOLD]), note=note)
    worst = told[0]
    return limit.result(
        worst.state,
        candidate=worst.candidate,
        champion=worst.champion,
        low=worst.low,
        high=worst.high,
        rows=worst.rows,
        slices=tuple([*told, *small][:MOST_TOLD]),
        note=_note(limit, told, len(small)),
    )


def holm(chances: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses to reject, so that any false rejection among all has at most the chance `level`.

    Holm, A simple sequentially rejective multiple test procedure (1979): the k-th smallest of m p-values is held
    against level / (m - k + 1), until one is above. Answers in the order of `chances`.
    """
    order = sorted(range(len(chances)), key=lambda at: chances[at])
    rejected = [False] * len(chances)
    for rank, at in enumerate(order):
        if chances[at] > level / (len(chances) - rank):
            break
        rejected[at] = True
    return rejected


def _apart(evidence: Evidence, column: str) -> Iterator[tuple[str, Evidence]]:
    import numpy as np

    values, of_row, rows = np.unique(evidence.scored.slices[column], return_inverse=True, return_counts=True)
    positions = np.split(np.argsort(of_row, kind="stable"), np.cumsum(rows)[:-1])
    for value, chosen in zip(values, positions, strict=True):
        yield str(value), Evidence(evidence.scored, chosen)


def _judge_slice(limit: Limit, rows: Evidence, value: str) -> _Slice:
    if why := _too_small(rows.scored.task, rows.label):
        return _Slice(SliceResult(value, rows.rows, GateState.NOT_JUDGED, note=why), math.nan)
    metric, confidence = limit.gate.of, limit.gate.confidence
    champion: float | None = None
    found: Estimate
    if limit.relative:
        candidate, champion = rows.values(metric)
        found = rows.improvement(metric, confidence)
        chance = found.chance_at_least(-limit.bound)
    else:
        found = rows.estimate(metric, confidence)
        candidate = found.point
        chance = (found.chance_at_least if limit.kind == "min" else found.chance_at_most)(limit.bound)
    if math.isnan(chance):
        return _Slice(SliceResult(value, rows.rows, GateState.NOT_JUDGED, note=NOT_GIVEN), math.nan)
    told = SliceResult(value, rows.rows, GateState.PASSED, candidate, champion, found.low, found.high)
    return _Slice(told, chance)


def _too_small(task: Task, label: np.ndarray) -> str:
    if len(label) < FEWEST_ROWS:
        return f"{len(label):,} rows, {FEWEST_ROWS} are needed"
    if task is Task.BINARY:
        for name in (0, 1):
            if (rows := int((label == name).sum())) < FEWEST_OF_A_CLASS:
                return f"{rows} rows of class {name}, {FEWEST_OF_A_CLASS} are needed"
    return ""


def _told(limit: Limit, one: _Slice, miss: bool, judged: int) -> SliceResult:
    if not miss:
        return one.told
    return replace(one.told, state=GateState.FAILED, note=f"{miss_of_slice(limit, one.told)} ({_sure(one, judged)})")


def _sure(one: _Slice, judged: int) -> str:
    chance = "p below 0.0001" if one.chance < 1e-4 else f"p {one.chance:.2g}"
    return f"{chance}, corrected for {judged} slices" if judged > 1 else chance


def _note(limit: Limit, told: Sequence[SliceResult], small: int) -> str:
    """'B6 0.61 against the champion's 0.68 is certainly … (p 0.004, …): 3 of 12 judged fail, 1 too small to judge'."""
    left = f", {small:,} too small to judge" if small else ""
    missed = [one for one in told if one.state is GateState.FAILED]
    if not missed:
        return f"worst of {len(told):,} judged: {told[0].value}{left}"
    fail = f"{len(missed):,} of {len(told):,} judged {'fails' if len(missed) == 1 else 'fail'}"
    return f"{missed[0].value} {missed[0].note}: {fail}{left}"
