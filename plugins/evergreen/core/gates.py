"""Gates: the limits that a candidate must keep on fresh rows, alone and against the champion. Pure.

A gate of the spec with two limits gives two results. Every result says in `note` why it is not a pass. What a sliced
gate does with each slice is core.gate_slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from evergreen.core.gate_evidence import Evidence
from evergreen.core.gate_slices import judge_slices
from evergreen.core.gate_texts import (
    NO_CHAMPION_YET,
    NOT_GIVEN,
    NOT_JUDGED,
    Limit,
    limits,
    miss_of_improvement,
    miss_of_ratio,
    miss_of_value,
    reason,
)
from evergreen.core.metrics import MEASURED
from evergreen.core.records import GateResult, GateState, Verdict

if TYPE_CHECKING:
    from evergreen.core.scored import Scored
    from evergreen.core.spec import ModelSpec

Measured = tuple[float | None, float | None]  # the candidate's and the champion's value


def judge_quality(
    spec: ModelSpec, scored: Scored, *, has_champion: bool, not_comparable: str = ""
) -> tuple[GateResult, ...]:
    """Every gate on a metric of the task, in the spec's order.

    Without a champion the gates against it say so; with one that has no predictions for these rows they are not
    comparable, for the reason `not_comparable`. Neither passes, neither vetoes.
    """
    evidence = Evidence(scored)
    why = "" if scored.champion is not None else not_comparable or "the champion could not be scored on these rows"
    return tuple(
        _left_out(limit, scored.rows, why if has_champion else "")
        if limit.relative and (why or not has_champion)
        else _judge(limit, evidence)
        for gate in spec.gates
        if gate.metric not in MEASURED
        for limit in limits(gate)
    )


def judge_measured(
    spec: ModelSpec, measured: Mapping[str, Measured], *, has_champion: bool, note: str = ""
) -> tuple[GateResult, ...]:
    """Every gate on a metric in `measured` (of core.metrics.MEASURED): the candidate's and the champion's value.

    A value that is none was not measured, for the reason `note`: without the candidate's the gate is not judged,
    without the champion's one against it is not comparable.
    """
    return tuple(
        _judge_measured(limit, *measured[gate.metric], has_champion=has_champion, note=note or "it was not measured")
        for gate in spec.gates
        if gate.metric in measured
        for limit in limits(gate)
    )


def verdict_of(
    spec: ModelSpec,
    gates: tuple[GateResult, ...],
    rows: int,
    *,
    champion_version: int | None,
    metrics: Mapping[str, float],
    champion_metrics: Mapping[str, float],
    ask_why: str = "",
) -> Verdict:
    """Passed: at least one gate passed and none vetoes. Judged: passed, or a gate failed (which blocks the train key).

    A gate that is not comparable asks a person, if the caller does not already say why.
    """
    failed = any(gate.state is GateState.FAILED for gate in gates)
    passed = any(gate.passed for gate in gates) and not any(gate.vetoes for gate in gates)
    apart = next((gate for gate in gates if gate.state is GateState.NOT_COMPARABLE), None)
    why = f"{apart.metric} could not be compared with the champion's: {apart.note}" if apart else ""
    return Verdict(
        judged=passed or failed,
        passed=passed,
        rows=rows,
        gates=gates,
        reason=reason(gates) or f"{spec.name}: no gate was judged",
        champion_version=champion_version,
        metrics=dict(metrics),
        champion_metrics=dict(champion_metrics),
        ask_why=ask_why or why,
    )


def too_few(spec: ModelSpec, rows: int, why: str = "") -> Verdict:
    """Not judged, and so neither passed nor rejected: fewer rows than `holdout.min_rows`. `why` there are so few."""
    needed = spec.window.holdout.min_rows
    told = (
        f"{NOT_JUDGED}{rows:,} fresh rows with a label, window.holdout.min_rows asks for {needed:,}"
        f"{f' ({why})' if why else ''}; the next trigger judges on newer rows"
    )
    return Verdict(judged=False, passed=False, rows=rows, gates=tuple(_unjudged(spec, rows)), reason=told)


def _unjudged(spec: ModelSpec, rows: int) -> Iterator[GateResult]:
    for gate in spec.gates:
        for limit in limits(gate):
            yield limit.result(GateState.NOT_JUDGED, rows=rows, note="too few rows")


def _left_out(limit: Limit, rows: int, not_comparable: str) -> GateResult:
    state = GateState.NOT_COMPARABLE if not_comparable else GateState.NO_CHAMPION
    return limit.result(state, rows=rows, note=not_comparable or NO_CHAMPION_YET)


def _judge(limit: Limit, evidence: Evidence) -> GateResult:
    if limit.gate.slice:
        return judge_slices(limit, evidence)
    return _judge_relative(limit, evidence) if limit.relative else _judge_value(limit, evidence)


def _judge_value(limit: Limit, evidence: Evidence) -> GateResult:
    found = evidence.estimate(limit.gate.of, limit.gate.confidence)
    if math.isnan(found.point):
        return limit.result(GateState.NOT_JUDGED, rows=evidence.rows, note=NOT_GIVEN)
    kept = found.point >= limit.bound if limit.kind == "min" else found.point <= limit.bound
    return limit.result(
        GateState.PASSED if kept else GateState.FAILED,
        candidate=found.point,
        low=_number(found.low),
        high=_number(found.high),
        rows=evidence.rows,
        note="" if kept else miss_of_value(limit, found.point),
    )


def _judge_relative(limit: Limit, evidence: Evidence) -> GateResult:
    candidate, champion = evidence.values(limit.gate.of)
    found = evidence.improvement(limit.gate.of, limit.gate.confidence)
    certain = limit.kind == "min_delta"
    known = found.low if certain else found.point
    if math.isnan(known):
        note = NOT_GIVEN if math.isnan(found.point) else "how certain the improvement is cannot be told from these rows"
        return limit.result(GateState.NOT_JUDGED, rows=evidence.rows, note=note)
    ratio = limit.kind == "max_ratio"
    kept = candidate <= limit.bound * champion if ratio else known >= limit.bound
    miss = (
        miss_of_ratio(limit, candidate, champion) if ratio else miss_of_improvement(limit, candidate, champion, found)
    )
    return limit.result(
        GateState.PASSED if kept else GateState.FAILED,
        candidate=candidate,
        champion=champion,
        low=_number(found.low),
        high=_number(found.high),
        rows=evidence.rows,
        note="" if kept else miss,
    )


def _judge_measured(
    limit: Limit, candidate: float | None, champion: float | None, *, has_champion: bool, note: str
) -> GateResult:
    if limit.relative and not has_champion:
        return limit.result(GateState.NO_CHAMPION, candidate=candidate, note=NO_CHAMPION_YET)
    if candidate is None:
        return limit.result(GateState.NOT_JUDGED, champion=champion, note=note)
    if limit.relative and champion is None:
        return limit.result(GateState.NOT_COMPARABLE, candidate=candidate, note=note)
    most = limit.bound * (champion or 0.0) if limit.relative else limit.bound
    kept = candidate <= most
    miss = miss_of_ratio(limit, candidate, champion or 0.0) if limit.relative else miss_of_value(limit, candidate)
    state = GateState.PASSED if kept else GateState.FAILED
    return limit.result(state, candidate=candidate, champion=champion, note="" if kept else miss)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
