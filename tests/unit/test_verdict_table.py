"""A verdict in Markdown: a table that no text can break, and text that is nothing but text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evergreen.core.records import GateState
from evergreen.core.verdict_table import plain, table
from records import make_verdict

(GATE,) = make_verdict().gates


def test_every_gate_is_a_row() -> None:
    gates = (
        replace(GATE, metric="mae", limit="≤ 20000", candidate=12345.6, champion=98.76543, low=-0.5, high=12.25),
        replace(GATE, slice="carrier", rows=0, state=GateState.NOT_JUDGED, candidate=None, note="no row"),
        replace(GATE, state=GateState.FAILED, note="0.5 is below 0.6"),
    )
    assert table(gates) == [
        "| gate | limit | candidate | champion | interval | rows |  |",
        "|---|---|---|---|---|---|---|",
        "| mae | ≤ 20000 | 12,346 | 98.77 | -0.5 to 12.25 | 2,000 | passed |",
        "| auc by carrier | ≥ 0.6 | – | – | – | – | not judged: no row |",
        "| auc | ≥ 0.6 | 0.7 | – | – | 2,000 | **failed**: 0.5 is below 0.6 |",
    ]


def test_no_text_breaks_the_table() -> None:
    row = table((replace(GATE, slice="a|b", note="x|y\n| z\r\n"),))[-1]
    assert row.count("|") == 8
    assert "\n" not in row


@pytest.mark.parametrize(
    "text",
    ["[approve here](http://elsewhere)", "![](http://elsewhere/1.png)", "<b>late</b>", "**late**", "`late`", "\\"],
)
def test_text_is_nothing_but_text(text: str) -> None:
    """CommonMark: a backslash takes the meaning from the mark that follows it."""
    made = plain(text)
    assert made != text
    for at, mark in enumerate(made):
        assert mark not in "`*[]<>" or made[at - 1] == "\\"
    assert made.replace("\\", "") == text.replace("\\", "")


def test_text_is_on_one_line() -> None:
    assert plain("a|b\n\n# c \t d") == "a/b # c d"
