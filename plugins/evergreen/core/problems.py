"""What is wrong with a spec or a suite, told so that the next act is clear."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

WIDTH = 80


@dataclass(frozen=True)
class Problem:
    """One thing to repair. `file` is relative to the project's root, `line` counts from 1 (none: the whole file),
    `field` is a path such as `gates[0].metric` (empty: the whole file)."""

    file: str
    line: int | None
    field: str
    found: str
    allowed: str
    do: str

    def __str__(self) -> str:
        """One paragraph."""
        field = f" {self.field}:" if self.field else ""
        return f"{self.place}:{field} found {self.found}; allowed: {self.allowed}. {self.do}"

    @property
    def place(self) -> str:
        """File and line, as editors open it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, by file and line."""
    return tuple(sorted(set(problems), key=lambda p: (p.file, p.line or 0, p.field, p.allowed, p.found)))


def render(problems: Iterable[Problem]) -> str:
    """All problems for a terminal of 80 columns, by file; an empty text for none."""
    lines: list[str] = []
    for file, of_file in groupby(problems, key=lambda problem: problem.file):
        lines += [file]
        for problem in of_file:
            lines += [*_one(problem), ""]
    return "\n".join(lines).rstrip()


def _one(problem: Problem) -> list[str]:
    line = "" if problem.line is None else f"line {problem.line}"
    head = "  ".join(part for part in (line, problem.field) if part) or "the file"
    parts = (("found", problem.found), ("allowed", problem.allowed), ("do", problem.do))
    return [f"  {head}", *(line for word, text in parts for line in _wrapped(word, text))]


def _wrapped(word: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"    {word:<8} ", subsequent_indent=" " * 13, break_on_hyphens=False
    )
