"""Gates: the limits that a candidate's metrics must keep on the holdout. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evergreen.core.records import GateResult, Verdict

if TYPE_CHECKING:
    from evergreen.core.spec import Gate, ModelSpec


def judge_gates(spec: ModelSpec, metrics: Mapping[str, float], rows: int) -> Verdict:
    """The verdict on metrics of `rows` fresh rows.

    Not judged, and so neither passed nor rejected: fewer rows than `holdout.min_rows`, or a metric that these
    rows cannot give (auc of one class) while no other gate is missed.
    """
    if rows < spec.window.holdout.min_rows:
        return _too_few(spec, rows)
    gates = tuple(_judge(gate, metrics.get(gate.metric)) for gate in spec.gates)
    missed = any(not gate.passed and gate.value is not None for gate in gates)
    unknown = any(gate.value is None for gate in gates)
    return Verdict(
        judged=missed or not unknown,
        passed=bool(gates) and all(gate.passed for gate in gates),
        rows=rows,
        gates=gates,
        reason="; ".join(_sentence(spec_gate, gate) for spec_gate, gate in zip(spec.gates, gates, strict=True)),
    )


def _too_few(spec: ModelSpec, rows: int) -> Verdict:
    needed = spec.window.holdout.min_rows
    reason = (
        f"not judged: {rows:,} fresh rows with a label, window.holdout.min_rows asks for {needed:,}; "
        "the next trigger judges on newer rows"
    )
    gates = (GateResult(gate.metric, limit(gate), None, False, "too few rows") for gate in spec.gates)
    return Verdict(judged=False, passed=False, rows=rows, gates=tuple(gates), reason=reason)


def limit(gate: Gate) -> str:
    """A gate's limit as ops read it: '≥ 0.6'."""
    low = f"≥ {gate.min:g}" if gate.min is not None else ""
    high = f"≤ {gate.max:g}" if gate.max is not None else ""
    return " and ".join(part for part in (low, high) if part)


def _judge(gate: Gate, value: float | None) -> GateResult:
    if value is None or math.isnan(value):
        return GateResult(gate.metric, limit(gate), None, False, "not judged: these rows do not give it")
    kept = (gate.min is None or value >= gate.min) and (gate.max is None or value <= gate.max)
    return GateResult(gate.metric, limit(gate), float(value), kept)


def _sentence(gate: Gate, result: GateResult) -> str:
    if result.value is None:
        return f"{gate.metric} could not be judged on these rows (limit {result.limit})"
    if result.passed:
        return f"{gate.metric} {result.value:.4g} keeps {result.limit}"
    below = gate.min is not None and result.value < gate.min
    bound = gate.min if below else gate.max
    return f"{gate.metric} {_apart(result.value, bound)} is {'below' if below else 'above'} {bound:g}"


def _apart(value: float, bound: float | None) -> str:
    """Four digits, or all where four would read the same as the bound."""
    short = f"{value:.4g}"
    return repr(value) if short == f"{bound:.4g}" else short
