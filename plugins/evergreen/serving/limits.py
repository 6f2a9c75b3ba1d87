"""What one worker takes on at a time, and the refusals of more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from evergreen.serving.refusals import RequestRefused, refuse
from evergreen.serving.state import Settings

RETRY_AFTER = ((b"retry-after", b"1"),)


@dataclass(frozen=True)
class Limits:
    """Bytes of a body, rows of a request; requests in flight in one worker, its connections and bytes of models.

    `seconds` for an answer, `arrival` for a request to arrive and for an answer to be taken.
    """

    max_body: int = 1_000_000
    max_rows: int = 10_000
    max_queue: int = 512
    seconds: float = 10.0
    arrival: float = 10.0
    max_connections: int = 2_000
    model_memory: int = 256_000_000


@dataclass(frozen=True)
class LogLimits:
    """Seconds after which logged rows can be shipped, and bytes that may wait for the store on the local disk."""

    seconds: float = 10.0
    backlog: int = 1_000_000_000


class InFlight:
    """Counts the requests under way, in all and by model. For the event loop's thread alone."""

    def __init__(self, limits: Limits, settings_of: Callable[[str], Settings]) -> None:
        self.total = self.peak = 0
        self._limits, self._settings_of = limits, settings_of
        self._by_model: dict[str, int] = defaultdict(int)

    def full(self, name: str) -> bool:
        """Whether one more request for this model is to be refused."""
        if self.total >= self._limits.max_queue:
            return True
        mine = self._by_model.get(name, 0)
        return mine > 0 and mine >= self._settings_of(name).max_concurrent

    def busy(self, name: str) -> bool:
        """Whether requests for this model are under way."""
        return name in self._by_model

    def enter(self, name: str) -> None:
        """Count a request in; the caller has asked `full` first, and calls `leave` whatever happens."""
        self.total += 1
        if self.total > self.peak:
            self.peak = self.total
        self._by_model[name] += 1

    def leave(self, name: str) -> None:
        """Count it out."""
        self.total -= 1
        self._by_model[name] -= 1
        if not self._by_model[name]:
            del self._by_model[name]  # names that callers make up must not stay


def overloaded(name: str) -> RequestRefused:
    """The refusal of one request too many."""
    return refuse(
        429,
        f"model '{name[:60]}'",
        found="more requests at a time than this worker takes on",
        allowed="as many as --max-queue, and the model's serving.max_concurrent",
        do="Ask again after a second, or run more replicas.",
        headers=RETRY_AFTER,
    )


def too_many_rows(rows: int, limit: int) -> RequestRefused:
    """The refusal of a request over --max-rows."""
    return refuse(
        413,
        "body",
        found=f"{rows} rows",
        allowed=f"at most {limit} rows",
        do="Send fewer rows a request, or start serving with a higher --max-rows.",
    )


def too_late(seconds: float) -> RequestRefused:
    """The refusal of a request that took too long to answer."""
    return refuse(
        504,
        "request",
        found=f"no answer within {seconds:g} s",
        allowed=f"at most {seconds:g} s",
        do="Ask again, with fewer rows where there are many.",
    )


def too_slow(seconds: float) -> RequestRefused:
    """The refusal of a request that does not arrive."""
    return refuse(
        408,
        "request",
        found=f"it has not arrived within {seconds:g} s",
        allowed="a whole request by then",
        do="Send it anew, on a connection that carries it.",
    )
