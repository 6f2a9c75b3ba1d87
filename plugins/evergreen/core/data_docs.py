"""Data docs: the library's own page on a validation result. Where results and pages lie, and what they say in a line.

Results are artifacts of the request's run. A page lies beside its result, and in the store for the Models pages, where
validation stopped the run; of any other result `evergreen data-docs` makes one when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergreen.core.retention import QUARANTINE

RESULT, RESULT_AFTER = "validation/result.json", "validation/result_after_quarantine.json"


def page_of(result: str) -> str:
    """The artifact beside a result's: 'validation/result.html'."""
    return f"{result.removesuffix('.json')}.html"


def key(model: str, request_id: str) -> str:
    """Where a page lies in the store: with the rows that were set aside, whose values it shows; it goes as they do."""
    return f"{QUARANTINE}{model}/{request_id}.html"


def request_of(stored: str) -> str:
    """The request whose page lies there; empty where it is no page."""
    name = stored.rpartition("/")[2]
    return name.removesuffix(".html") if name.endswith(".html") else ""


def counted(full: Mapping[str, Any]) -> tuple[int, int]:
    """How many expectations were met, and of how many."""
    results = full["results"]
    return sum(1 for found in results if found["success"]), len(results)
