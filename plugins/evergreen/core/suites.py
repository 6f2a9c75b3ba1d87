"""Checks expectation suites (stock Great Expectations JSON) against the library's list, without the library.

Needed because the library drops an expectation of unknown type silently, and passes an empty suite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from evergreen.core.gx_expectations import Expectation, known
from evergreen.core.marked_yaml import BrokenYaml, Document, read
from evergreen.core.problems import Problem
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_fields import did_you_mean, shown
from evergreen.core.spec_shape import dotted

ENTRY_KEYS = ("type", "kwargs", "meta", "id", "description", "notes", "severity", "rendered_content", "windows")
SEVERITIES = ("critical", "warning", "info")
SUITE_KEYS = ("name", "id", "expectations", "meta", "notes", "suite_parameters")
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
Steps = tuple[str | int, ...]


def suite_path(name: str) -> str:
    """Where a suite lies, relative to the project's root."""
    return f"expectations/{name}.json"


def check_suite(
    root: Path, name: str, spec: ModelSpec | None = None, named_at: tuple[str, int | None] | None = None
) -> list[Problem]:
    """All that is wrong with a suite. `spec` adds the check of its columns, `named_at` is where it names the suite."""
    file = suite_path(name)
    if not (root / file).is_file():
        return [_missing(root, name, named_at or (file, None))]
    try:
        text = (root / file).read_text(encoding="utf-8")
        twice: list[str] = []
        value = json.loads(text, object_pairs_hook=partial(_noting_twice, twice))
    except UnicodeDecodeError:
        return [Problem(file, None, "", "bytes that are not UTF-8", "UTF-8 text", "Save the file as UTF-8.")]
    except json.JSONDecodeError as error:
        found, do = f"broken JSON: {error.msg}, column {error.colno}", "Correct the line, or export the suite again."
        return [Problem(file, error.lineno, "", found, "JSON as Great Expectations writes it", do)]
    return list(_Check(file, name, text, value, tuple(twice), spec).problems())


def _noting_twice(twice: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; keys that it holds twice are noted."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice += [key for at, key in enumerate(keys) if key in keys[:at]]
    return value


def _missing(root: Path, name: str, named_at: tuple[str, int | None]) -> Problem:
    there = sorted(file.stem for file in (root / "expectations").glob("*.json"))
    allowed = ", ".join(there) or "the name of a file in expectations/, which holds none"
    do = did_you_mean(name, there) or f"Write {suite_path(name)}."
    return Problem(*named_at, "validation.suite", f"'{name}', but no {suite_path(name)}", allowed, do)


@dataclass(frozen=True)
class _Check:
    file: str
    name: str
    text: str
    value: Any
    twice: tuple[str, ...]
    spec: ModelSpec | None

    @cached_property
    def marks(self) -> Document:
        """Lines, which only problems need. JSON that is no YAML (tabs, some escapes) has none."""
        try:
            return read(self.text)
        except BrokenYaml:
            return Document(None, {}, {})

    def tell(self, at: Steps, found: str, allowed: str, do: str) -> Problem:
        """A problem, with the line of the nearest part that has one."""
        line = next(
            (self.marks.lines[at[:end]] for end in range(len(at), -1, -1) if at[:end] in self.marks.lines), None
        )
        return Problem(self.file, line, dotted(at), found, allowed, do)

    def problems(self) -> Iterator[Problem]:
        """Everything, from the outside in."""
        for key in self.twice:
            path, line = next((one for one in self.marks.twice.items() if one[0][-1] == key), ((key,), None))
            found = f"'{key}' a second time"
            yield Problem(self.file, line, dotted(path), found, "each key once", "Keep one of them.")
        if not isinstance(self.value, dict):
            yield self.tell(
                (), shown(self.value), "a suite: a map with name and expectations", "Export the suite again."
            )
            return
        yield from self._unknown_keys((), self.value, SUITE_KEYS)
        if self.value.get("name") != self.name:
            do = f"Write the file's name, '{self.name}', or rename the file."
            yield self.tell(("name",), shown(self.value.get("name")), f"'{self.name}', as the file is called", do)
        yield from self._entries(self.value.get("expectations"))

    def _entries(self, entries: Any) -> Iterator[Problem]:
        if not isinstance(entries, list) or not entries:
            do = "Add expectations: a suite without any would let everything pass."
            yield self.tell(("expectations",), shown(entries), "a list of at least one expectation", do)
            return
        for at, entry in enumerate(entries):
            yield from self._entry(("expectations", at), entry)

    def _entry(self, at: Steps, entry: Any) -> Iterator[Problem]:
        if not isinstance(entry, dict):
            yield self.tell(at, shown(entry), "a map with type and kwargs", "Write the expectation as a map.")
            return
        yield from self._unknown_keys(at, entry, ENTRY_KEYS)
        if entry.get("severity") not in (None, *SEVERITIES):
            do = did_you_mean(entry["severity"], SEVERITIES) or "Choose one of these, or remove the key."
            yield self.tell((*at, "severity"), shown(entry["severity"]), ", ".join(SEVERITIES), do)
        kind, kwargs = entry.get("type"), entry.get("kwargs", {})
        expectation = known().get(kind) if isinstance(kind, str) else None
        if expectation is None:
            yield self._unknown_type(at, entry, kind)
        elif not isinstance(kwargs, dict):
            yield self.tell((*at, "kwargs"), shown(kwargs), "a map of arguments", "Write the arguments as a map.")
        else:
            yield from _Arguments(self, at, str(kind), expectation, kwargs).problems()

    def _unknown_type(self, at: Steps, entry: dict[str, Any], kind: Any) -> Problem:
        if kind is None and "expectation_type" in entry:
            do = "Export the suite again with Great Expectations 1: this one is older."
            return self.tell((*at, "expectation_type"), "'expectation_type'", "'type'", do)
        do = did_you_mean(kind, known()) or "Look the name up: Great Expectations would drop it silently."
        allowed = f"one of the {len(known())} core expectations, such as expect_column_values_to_not_be_null"
        return self.tell((*at, "type"), shown(kind), allowed, do)

    def _unknown_keys(self, at: Steps, value: dict[str, Any], allowed: tuple[str, ...]) -> Iterator[Problem]:
        for key in value.keys() - {*allowed, "expectation_type"}:
            do = did_you_mean(key, allowed) or "Remove it."
            yield self.tell((*at, key), f"unknown key '{key}'", ", ".join(allowed), do)


@dataclass(frozen=True)
class _Arguments:
    check: _Check
    at: Steps
    kind: str
    expectation: Expectation
    kwargs: dict[str, Any]

    def problems(self) -> Iterator[Problem]:
        """What is wrong with one expectation's arguments."""
        if self.expectation.needs_database:
            found, do = f"'{self.kind}', which needs a database", "Choose one that judges columns or values."
            yield self.check.tell((*self.at, "type"), found, "expectations that can judge a snapshot", do)
        yield from self._missing()
        for name, value in self.kwargs.items():
            yield from self._argument(name, value)

    def _missing(self) -> Iterator[Problem]:
        at = (*self.at, "kwargs")
        for name in self.expectation.required:
            if self.kwargs.get(name) is None:
                allowed = f"the arguments that {self.kind} needs: {', '.join(self.expectation.required)}"
                yield self.check.tell(at, f"no '{name}'", allowed, f"Add '{name}'.")
        if self.expectation.bounded and self.kwargs.get("min_value") is None and self.kwargs.get("max_value") is None:
            yield self.check.tell(at, "no limit", "min_value, max_value or both", "Add one: it could not fail.")

    def _argument(self, name: str, value: Any) -> Iterator[Problem]:
        at, kinds = (*self.at, "kwargs", name), self.expectation.arguments.get(name)
        if kinds is None:
            names = list(self.expectation.arguments)
            do = did_you_mean(name, names) or "Remove it: Great Expectations would refuse the suite."
            yield self.check.tell(at, f"unknown argument '{name}'", ", ".join(names), do)
        elif value is not None and (allowed := _not_allowed(name, value, kinds)):
            yield self.check.tell(at, shown(value), allowed, "Correct the value.")
        elif name in COLUMN_ARGUMENTS and self.check.spec:
            yield from self._columns(at, value, self.check.spec)

    def _columns(self, at: Steps, value: Any, spec: ModelSpec) -> Iterator[Problem]:
        """A column that the model does not read: the expectation could not be judged."""
        several = isinstance(value, list)
        for position, column in enumerate(value if several else [value]):
            if column is not None and column not in spec.columns:
                do = did_you_mean(column, spec.columns) or "Remove it, or name the column in the spec."
                found = f"{shown(column)}, which {spec.name} does not read"
                yield self.check.tell((*at, position) if several else at, found, ", ".join(spec.columns), do)


def _not_allowed(name: str, value: Any, kinds: list[str]) -> str:
    """What an argument may be, where the value is not that."""
    choices = [kind.removeprefix("=") for kind in kinds if kind.startswith("=")]
    if choices:
        return "" if value in choices else ", ".join(choices)
    if kinds and not any(_IS[kind](value) for kind in kinds):
        return ", ".join(_WORDS[kind] for kind in kinds)
    if name == "mostly" and not 0 <= value <= 1:
        return "a number from 0 to 1"
    return ""


def _is_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


_WORDS = {
    "text": "a text",
    "date": "a date such as '2013-01-31'",
    "number": "a number",
    "list": "a list",
    "true or false": "true or false",
}
_IS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "date": _is_date,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "true or false": lambda value: isinstance(value, bool),
}
