"""Why a request was refused: every problem at once, up to a bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, ParamSpec

from evergreen.core.errors import EvergreenError

ResponseHeaders = tuple[tuple[bytes, bytes], ...]
LISTED = 10  # problems told in one answer; the rest are counted
_P = ParamSpec("_P")
_SHOWN = 60  # characters of a value repeated in an error


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request."""

    where: str
    found: str
    allowed: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; allowed: {self.allowed}. {self.do}"


class RequestRefused(EvergreenError):
    """Raised for a request that cannot be answered; `status` is the HTTP status, `headers` go with the answer."""

    def __init__(
        self, status: int, problems: list[Problem], total: int | None = None, headers: ResponseHeaders = ()
    ) -> None:
        self.status, self.problems, self.total, self.headers = status, problems, total or len(problems), headers
        more = f"\n… and {self.total - len(problems)} more" if self.total > len(problems) else ""
        super().__init__("\n".join(map(str, problems)) + more)

    def as_json(self) -> dict[str, Any]:
        """The error of the records endpoint."""
        return {"message": str(self), "problems": [asdict(p) for p in self.problems], "total": self.total}


class Problems:
    """Collects problems. One is only put into words while there is room for it."""

    def __init__(self) -> None:
        self._listed: list[Problem] = []
        self._total = 0

    def add(self, problem: Callable[_P, Problem], *given: _P.args, **named: _P.kwargs) -> None:
        """Count a problem, and keep what `problem` makes of the rest if it is among the first."""
        self._total += 1
        if len(self._listed) < LISTED:
            self._listed.append(problem(*given, **named))

    def raise_if_any(self) -> None:
        """Raise RequestRefused (422) if a problem was added."""
        if self._total:
            raise RequestRefused(422, self._listed, self._total)


def refuse(
    status: int, where: str, *, found: str, allowed: str, do: str, headers: ResponseHeaders = ()
) -> RequestRefused:
    """A refusal for one reason."""
    return RequestRefused(status, [Problem(where, found, allowed, do)], headers=headers)


def shown(value: Any) -> str:
    """A value of the request as an error repeats it: its type in JSON's words, and its beginning."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "a very long number"
    if len(text) > _SHOWN:
        text = text[:_SHOWN] + "…"
    return f"{_JSON_NAMES.get(type(value), 'a value')} {text}".removesuffix(" None")


_JSON_NAMES: dict[type, str] = {
    str: "the string",
    bool: "the boolean",
    int: "the number",
    float: "the number",
    list: "the array",
    dict: "the object",
    type(None): "null",
}


def did_you_mean(name: str, names: tuple[str, ...]) -> str:
    """'Did you mean …?' for a near miss, else an empty string."""
    near = get_close_matches(name[:200], names, n=1)
    return f"Did you mean '{near[0]}'? " if near else ""


def some(names: tuple[str, ...] | list[str]) -> str:
    """The first names of a list, for an error."""
    listed = ", ".join(f"'{name}'" for name in names[:8])
    return listed + (f" and {len(names) - 8} more" if len(names) > 8 else "")
