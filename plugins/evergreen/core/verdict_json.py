"""A verdict as JSON and back, exactly, for the ledger and for artifacts. JSON knows no NaN and no infinity."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evergreen.core.records import GateResult, GateState, SliceResult, Verdict

_NUMBERS = ("candidate", "champion", "low", "high")


def to_json(verdict: Verdict) -> dict[str, Any]:
    """JSON values only. A number that is not finite becomes none, and is left out of the metrics."""
    told = {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
    return {
        **told,
        "judged": bool(verdict.judged),
        "passed": bool(verdict.passed),
        "rows": int(verdict.rows),
        "gates": [_gate(gate) for gate in verdict.gates],
        "metrics": finite(verdict.metrics),
        "champion_metrics": finite(verdict.champion_metrics),
    }


def from_json(plain: Mapping[str, Any]) -> Verdict:
    """What `to_json` wrote. Raises TypeError for a name that a verdict does not have, ValueError for a state."""
    return Verdict(**{**plain, "gates": tuple(_read_gate(gate) for gate in plain["gates"])})


def digest(verdict: Verdict | None) -> str:
    """The sha256 of all that a verdict says: two are the same where this is, whichever request asked. '' for none."""
    if verdict is None:
        return ""
    said = {name: value for name, value in to_json(verdict).items() if name != "request_id"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are numbers, as floats of Python."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _gate(gate: GateResult) -> dict[str, Any]:
    return {**_plain(gate), "slices": [_plain(part) for part in gate.slices]}


def _plain(result: GateResult | SliceResult) -> dict[str, Any]:
    numbers = {name: _number(getattr(result, name)) for name in _NUMBERS}
    return {**asdict(result), **numbers, "state": result.state.value, "rows": int(result.rows)}


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _read_gate(plain: Mapping[str, Any]) -> GateResult:
    slices = tuple(SliceResult(**{**part, "state": GateState(part["state"])}) for part in plain["slices"])
    return GateResult(**{**plain, "state": GateState(plain["state"]), "slices": slices})
