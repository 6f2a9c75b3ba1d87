"""Great Expectations' own list of expectations and their arguments, as `gx_expectations.json` keeps it.

So that suites can be checked without importing the library (3 s). After a new version of it:

    python -m evergreen.adapters.gx_list

A test compares the file with the installed version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Expectation:
    """One expectation type. `arguments`: name → kinds of value (or the texts it may be, after '='; empty: any).

    `bounded`: it needs min_value, max_value or both. `needs_database`: it cannot judge a snapshot.
    """

    arguments: dict[str, list[str]]
    required: list[str]
    bounded: bool
    needs_database: bool


@cache
def known() -> dict[str, Expectation]:
    """Every expectation type by name."""
    types = json.loads(FILE.read_text(encoding="utf-8"))["expectations"]
    return {name: Expectation(**facts) for name, facts in types.items()}
