"""Values as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from evergreen.core.gate_texts import number as four_digits
from evergreen.core.readable import readable_age
from evergreen.core.triggers import readable_time

NONE = "–"
STATE_SIGNS = {"passed": "✓ ", "released": "✓ ", "approved": "✓ ", "failed": "✗ ", "rejected": "✗ ", "declined": "✗ "}


def number(value: Any) -> str:
    """Four digits, thousands with commas; a dash where there is none."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else four_digits(value)


def percent(share: float | None) -> str:
    """'12.3 %'."""
    return NONE if share is None else f"{100 * share:.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """'0.61 to 0.64'."""
    return NONE if low is None or high is None else f"{number(low)} to {number(high)}"


def when(value: datetime | str | None) -> str:
    """'2013-07-18 05:00 UTC'."""
    if not value:
        return NONE
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return readable_time(time)


def age(since: datetime | None, now: datetime) -> str:
    """'3 h'."""
    return NONE if since is None else readable_age(now - since)


def text(value: Any) -> str:
    """A feature's value: numbers short, 'missing' for none."""
    if value is None:
        return "missing"
    return number(value) if isinstance(value, int | float) else str(value)


def sign(state: str) -> str:
    """A mark that says the same as the colour; empty for a state that is neither good nor bad."""
    return STATE_SIGNS.get(state, "")
