"""Holds, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.records import FLEET
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.records import Hold


def held(hold: Hold) -> str:
    """'held since 2025-03-01 12:00 UTC by alice: wrong fares in June'; a hold on all models says so."""
    what = "all models are held" if hold.model == FLEET else "held"
    return f"{what} since {readable_time(hold.since)} by {hold.by}: {hold.reason}"


def how_to_lift(hold: Hold) -> str:
    """The command that ends it."""
    return f"evergreen release-hold {'--all' if hold.model == FLEET else hold.model}"
