"""What callers post to be kept, as a list of records: labels (ground_truth) and values of metrics (user_metrics).

Posting changes something. Where tokens are asked for, it wants one like all else. Where none are, requests are taken on
loopback alone, and such that a page in somebody's browser cannot send: JSON by its content type, which the browser asks
about first, to a host that is named as this machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard, TypeVar

from evergreen.serving.protocols.endpoint import Headers
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, shown, some

TIME, SAY_THE_ZONE = "a time such as 2013-06-01T12:00:00Z", "Say the time zone, or leave the field out for now."
_OWN_HOST = re.compile(r"(localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[::1\])(:[0-9]+)?", re.IGNORECASE)

Kept = TypeVar("Kept")


def allow(headers: Headers, *, asks_for_tokens: bool, on_loopback: bool, what: str) -> None:
    """Raises RequestRefused: 403 for who may not, 415 for another content type. The token is checked elsewhere."""
    if not asks_for_tokens:
        _only_from_here(headers, on_loopback, what)
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise refuse(
            415,
            "header Content-Type",
            found=shown(given) if given else "no such header",
            allowed="application/json",
            do="Send the header Content-Type: application/json.",
        )


def _only_from_here(headers: Headers, on_loopback: bool, what: str) -> None:
    host = headers.get(b"host", b"").decode("latin-1")
    if on_loopback and _OWN_HOST.fullmatch(host):
        return
    raise refuse(
        403,
        what,
        found="a server without tokens" + (f", asked as host {shown(host)}" if on_loopback else " on a network"),
        allowed="callers with a token, or a server on loopback asked as localhost",
        do="Start serving with EVERGREEN_SERVING_AUTH=tokens, so that it is known who tells the truth.",
    )


@dataclass(frozen=True)
class Posted:
    """One record of a request; what is wrong with it is told in `problems`."""

    name: str  # such as 'record 3'
    fields: dict[str, Any]
    problems: Problems

    def wrong(self, field: str, allowed: str, do: str) -> None:
        """The field's value is none of those that are allowed."""
        self.problems.add(_wrong, self, field, allowed, do)

    def milliseconds(self, field: str, now: datetime) -> int | None:
        """A time in Unix ms, now where nothing is said; what is no time with a zone is told, and none."""
        value = self.fields.get(field)
        try:
            at = now if value is None else datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return int(at.astimezone(UTC).timestamp() * 1000)
        except (TypeError, ValueError, OverflowError):
            pass
        self.wrong(field, TIME, SAY_THE_ZONE)
        return None


def read_all(
    records: Sequence[dict[str, Any]],
    what: str,
    allowed: tuple[str, ...],
    read: Callable[[Posted], Kept],
    key: Callable[[Kept], Hashable],
    twice: tuple[str, str, str, str],
) -> list[Kept]:
    """What `read` makes of each record. Raises RequestRefused, 422, naming each record and field that is wrong.

    `key`: what no two records may share, empty for one that is wrong already; `twice` is said of the second of two: the
    field that it is about, if any, what was found, what is allowed, what to do.
    """
    problems, seen, kept = Problems(), set[Hashable](), list[Kept]()
    for row, fields in enumerate(records):
        posted = Posted(f"{what} {row}", fields, problems)
        for name in fields.keys() - set(allowed):
            problems.add(_unknown, posted, name, allowed)
        kept.append(read(posted))
    for row, one in enumerate(kept):
        if (mark := key(one)) and mark in seen:
            problems.add(Problem, f"{what} {row}{twice[0]}", *twice[1:])
        seen.add(mark)
    problems.raise_if_any()
    return kept


def _wrong(posted: Posted, field: str, allowed: str, do: str) -> Problem:
    value = posted.fields.get(field)
    found = "no such field, or null" if value is None else shown(value)
    return Problem(f"{posted.name}, field '{field}'", found, allowed, do)


def _unknown(posted: Posted, name: str, allowed: tuple[str, ...]) -> Problem:
    do = f"{did_you_mean(name, allowed)}Leave it out."
    return Problem(f"{posted.name}, field '{name[:60]}'", "no such field", some(allowed), do)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether it is a number, and a finite float64."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False
