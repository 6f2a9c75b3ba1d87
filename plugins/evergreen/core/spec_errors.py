"""Turns each of pydantic's errors on a spec into a Problem: where, found, allowed, and the next act."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evergreen.core.problems import Problem
from evergreen.core.spec_fields import did_you_mean, shown
from evergreen.core.spec_shape import Path, dotted, field_at, homes_of, keys_of, part_at

Place = Callable[[Path], tuple[str, int | None]]

_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list, one entry a line as '- …'",
    "dict_type": "a map of 'key: value' lines",
}


def problems_of(error: ValidationError, place: Place, *, partial: bool = False) -> list[Problem]:
    """One Problem for each error. `place` gives file and line of a path; `partial` leaves out missing keys."""
    details = error.errors(include_url=False)
    return [_problem(one, place) for one in details if not (partial and one["type"] == "missing")]


def _problem(error: ErrorDetails, place: Place) -> Problem:
    path = error["loc"]
    found, allowed, do = _told(error)
    file, line = place(path)
    return Problem(file, line, dotted(path), found, allowed, do)


def _told(error: ErrorDetails) -> tuple[str, str, str]:
    path, kind, value, facts = error["loc"], error["type"], error["input"], error.get("ctx", {})
    if kind == "evergreen":
        return facts["found"], facts["allowed"], facts["do"]
    if kind == "missing":
        return "nothing", _meant(path), f"Add '{path[-1]}', here or in models/_defaults.yaml."
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind in ("enum", "literal_error"):
        return _not_a_choice(value, facts)
    if kind in _KINDS or kind == "model_type":
        return shown(value), _kind(path, kind), _how_to_write(kind, value)
    return shown(value), _limit(path, kind, facts) or f"{_meant(path)} ({error['msg']})", "Correct the value."


def _unknown_key(path: Path) -> tuple[str, str, str]:
    key, part = str(path[-1]), part_at(path[:-1])
    keys = list(keys_of(part)) if part else []
    homes = [home for home in homes_of(key) if home]
    elsewhere = f"'{key}' stands under {' and '.join(homes)}." if homes else "Remove it, or correct its name."
    return f"unknown key '{key}'", ", ".join(keys), did_you_mean(key, keys) or elsewhere


def _not_a_choice(value: Any, facts: Mapping[str, Any]) -> tuple[str, str, str]:
    choices = re.findall(r"'([^']*)'", facts["expected"])
    return shown(value), ", ".join(choices), did_you_mean(value, choices) or "Choose one of these."


def _kind(path: Path, kind: str) -> str:
    part = part_at(path)
    return f"a map with {', '.join(keys_of(part))}" if kind == "model_type" and part else _KINDS.get(kind, "a map")


def _how_to_write(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, bool):
        return "Put it in quotes: YAML reads a bare yes, no, on or off as true or false."
    if kind == "string_type" and value is not None:
        return "Put it in quotes."
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return "Write the number without quotes."
    return "Write its value." if value is None else "Correct the value."


def _limit(path: Path, kind: str, facts: Mapping[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"at least {facts['ge']}"
        case "less_than_equal":
            return f"at most {facts['le']}"
        case "string_pattern_mismatch":
            return f"{_meant(path)}, matching {facts['pattern']}"
        case "too_short":
            return f"at least one entry ({_meant(path)})"
        case "string_too_short":
            return f"a text that is not empty ({_meant(path)})"
        case "string_too_long":
            return f"at most {facts['max_length']} characters"
    return ""


def _meant(path: Path) -> str:
    """What the key is for, in the words of the spec."""
    field = field_at(path) or field_at(path[:-1])  # an entry of a list: what the list is for
    return (field.description if field else None) or "see docs/model-spec.md"
