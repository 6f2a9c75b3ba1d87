"""Gates in words: a limit as a table shows it, why it was missed, and the sentence that on-call reads first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen.core.records import GateResult, GateState, SliceResult

if TYPE_CHECKING:
    from evergreen.core.resample import Improvement
    from evergreen.core.spec import Gate

KINDS = ("min", "max", "min_delta", "min_point_delta", "max_ratio", "max_drop")  # in the order of a verdict
NOT_JUDGED = "not judged: "  # how the reason of a verdict on too few rows begins
NOT_GIVEN = "these rows do not give it"
NO_CHAMPION_YET = "no champion yet"
_MOST_TOLD = 4


@dataclass(frozen=True)
class Limit:
    """One limit of a gate of the spec. `kind` is its key there."""

    gate: Gate
    kind: str
    bound: float

    @property
    def relative(self) -> bool:
        """Whether it compares with the champion."""
        return self.kind not in ("min", "max")

    @property
    def text(self) -> str:
        """As ops read it: '≥ 0.6'."""
        bound = number(self.bound)
        return {
            "min": f"≥ {bound}",
            "max": f"≤ {bound}",
            "min_delta": f"improvement ≥ {bound} with {percent(self.gate.confidence)} confidence",
            "min_point_delta": f"improvement ≥ {bound}",
            "max_ratio": f"≤ {bound} × the champion's",
            "max_drop": f"drop ≤ {bound}",
        }[self.kind]

    def result(self, state: GateState, **facts: Any) -> GateResult:
        """A result of this limit; `facts` are the other fields of GateResult."""
        return GateResult(self.gate.of.label, self.text, state, slice=self.gate.slice or "", **facts)


def limits(gate: Gate) -> list[Limit]:
    """The limits of a gate of the spec, each of which gives one result."""
    return [Limit(gate, kind, bound) for kind in KINDS if (bound := getattr(gate, kind)) is not None]


def compares(gate: GateResult) -> bool:
    """Whether its limit is one against the champion, by its text."""
    return gate.limit.startswith(("improvement ≥", "drop ≤")) or gate.limit.endswith("the champion's")


# ---------------------------------------------------------------- why a limit was missed


def miss_of_value(limit: Limit, value: float) -> str:
    """'0.58 is below 0.6'."""
    side = "below" if limit.kind == "min" else "above"
    return f"{apart(value, limit.bound)} is {side} {number(limit.bound)}"


def miss_of_ratio(limit: Limit, candidate: float, champion: float) -> str:
    """'31 is above 22.5, 1.5 × the champion's 15'."""
    most = limit.bound * champion
    return (
        f"{apart(candidate, most)} is above {number(most)}, {number(limit.bound)} × the champion's {number(champion)}"
    )


def miss_of_improvement(limit: Limit, candidate: float, champion: float, found: Improvement) -> str:
    """'10.1 against the champion's 9: improvement -1.1 (at least -1.6 with 95 % confidence) is below -0.2'.

    Where the improvement itself reaches the limit, it 'is not certain to reach' it.
    """
    bound = limit.bound
    shown = f"{number(candidate)} against the champion's {number(champion)}: improvement {apart(found.point, bound)}"
    if limit.kind == "min_delta":
        shown += f" (at least {apart(found.low, bound)} with {percent(limit.gate.confidence)} confidence)"
    short = found.point < bound
    return f"{shown} {'is below' if short else 'is not certain to reach'} {number(bound)}"


def miss_of_slice(limit: Limit, told: SliceResult) -> str:
    """'0.61 against the champion's 0.68 is certainly worse by more than 0.03'."""
    candidate = number(told.candidate or 0.0)
    if limit.kind == "max_drop":
        champion = number(told.champion or 0.0)
        return f"{candidate} against the champion's {champion} is certainly worse by more than {number(limit.bound)}"
    return f"{candidate} is certainly {'below' if limit.kind == 'min' else 'above'} {number(limit.bound)}"


# ---------------------------------------------------------------- the sentence of the verdict


def reason(gates: Sequence[GateResult]) -> str:
    """Failed gates first, then those that were not judged; kept ones in full only where none vetoes."""
    failed = [_miss(gate) for gate in gates if gate.state is GateState.FAILED]
    unjudged = [gate for gate in gates if gate.vetoes and gate.state is GateState.NOT_JUDGED]
    told = [*failed, *(f"{', '.join(names)} not judged: {note}" for note, names in _by_note(unjudged).items())]
    kept = [gate for gate in gates if gate.passed]
    more = [f"{_counted(len(kept), 'other ')} kept"] if told and kept else _kept(kept)
    return "; ".join([*told, *more, *_left_out(gates)])


def _miss(gate: GateResult) -> str:
    note = gate.note or f"misses {gate.limit}"
    return f"{name_of(gate)}{'' if note[0] in '-0123456789' else ':'} {note}"


def _by_note(gates: Sequence[GateResult]) -> dict[str, list[str]]:
    """The gates' names by what they say, each name once."""
    found: dict[str, list[str]] = {}
    for gate in gates:
        names = found.setdefault(gate.note or "no reason given", [])
        names.extend([name_of(gate)] if name_of(gate) not in names else [])
    return found


def _kept(gates: Sequence[GateResult]) -> list[str]:
    """One sentence a metric."""
    found: dict[str, list[GateResult]] = {}
    for gate in gates:
        found.setdefault(name_of(gate), []).append(gate)
    told = [_keeps(name, limits) for name, limits in list(found.items())[:_MOST_TOLD]]
    more = sum(len(limits) for limits in list(found.values())[_MOST_TOLD:])
    return [*told, f"{_counted(more, 'other ')} kept"] if more else told


def _keeps(name: str, gates: Sequence[GateResult]) -> str:
    """'auc 0.66 (champion 0.65) keeps ≥ 0.6, improvement ≥ 0'; without a value 'rehearsal: loads, and answers'."""
    limits = ", ".join(gate.limit for gate in gates)
    candidate, champion = gates[0].candidate, next((gate.champion for gate in gates if gate.champion is not None), None)
    if candidate is None:
        return f"{name}: {limits}"
    if gates[0].slice:  # the values are those of its worst slice
        return f"{name} keeps {limits}"
    against = f" (champion {number(champion)})" if champion is not None else ""
    return f"{name} {number(candidate)}{against} keeps {limits}"


def _counted(count: int, other: str = "") -> str:
    return f"{count} {other}{'gate' if count == 1 else 'gates'}"


def _left_out(gates: Sequence[GateResult]) -> list[str]:
    """One sentence for all gates that say the same."""
    notes = [gate.note for gate in gates if gate.state in (GateState.NO_CHAMPION, GateState.NOT_COMPARABLE)]
    return [
        f"{_counted(notes.count(note))} against the champion left out: {note or 'it could not be compared'}"
        for note in dict.fromkeys(notes)
    ]


def name_of(gate: GateResult) -> str:
    """'auc', 'auc by carrier'."""
    return f"{gate.metric} by {gate.slice}" if gate.slice else gate.metric


# ---------------------------------------------------------------- numbers


def number(value: float) -> str:
    """Four digits, whole from 10,000 on."""
    value = round(value, 12) + 0.0  # no -0
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"


def percent(share: float) -> str:
    """'95 %'."""
    return f"{100 * share:g} %"


def apart(value: float, bound: float) -> str:
    """Four digits, or all where four would read the same as the bound."""
    return repr(value) if number(value) == number(bound) else number(value)
