"""A verdict's gates as a Markdown table, and any text inside Markdown: for the approval's page and for MLflow's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evergreen.core.gate_texts import name_of, number
from evergreen.core.records import GateResult

NONE = "–"
_MARKS = re.compile(r"([\\`*\[\]<>])")


def table(gates: Sequence[GateResult]) -> list[str]:
    """Its lines. The interval is that of the candidate's value, or of its improvement in a gate against the champion.

    What stops the candidate is in bold.
    """
    head = ("gate", "limit", "candidate", "champion", "interval", "rows", "")
    return [_line(head), "|---" * len(head) + "|", *(_line(_cells(gate)) for gate in gates)]


def plain(text: str) -> str:
    """The text on one line, with no meaning as Markdown: values from data must not become a link or end a cell."""
    return _MARKS.sub(r"\\\1", " ".join(text.replace("|", "/").split()))


def _cells(gate: GateResult) -> list[str]:
    interval = NONE if gate.low is None or gate.high is None else f"{number(gate.low)} to {number(gate.high)}"
    state = f"**{gate.state}**" if gate.vetoes else str(gate.state)
    note = f": {plain(gate.note)}" if gate.note else ""
    rows = f"{gate.rows:,}" if gate.rows else NONE
    values = (_number(gate.candidate), _number(gate.champion), interval, rows)
    return [plain(name_of(gate)), plain(gate.limit), *values, f"{state}{note}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return NONE if value is None else number(value)
