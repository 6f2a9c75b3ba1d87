"""What one worker takes on at a time, and the refusals of more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from evergreen.serving.refusals import RequestRefused, refuse
from evergreen.serving.state import Settings

RETRY_AFTER = ((b"retry-after", b"1"),)
_WINDOW = 0.1  # seconds
_OVERLOAD = 0.25  # refused for each that is answered
_LEAST = 8  # requests: as many as one call of the booster answers at the price of one


@dataclass(frozen=True)
class Limits:
    """Bytes of a body, rows of a request; requests in flight in one worker, its connections and bytes of models.

    `wait`: seconds that an answer takes at most where more come than can be answered; the rest is refused.
    `seconds` for an answer, `arrival` for a request to arrive and for an answer to be taken.
    """

    max_body: int = 1_000_000
    max_rows: int = 10_000
    max_queue: int = 512
    wait: float = 0.025
    seconds: float = 10.0
    arrival: float = 10.0
    max_connections: int = 2_000
    model_memory: int = 256_000_000


@dataclass(frozen=True)
class LogLimits:
    """Seconds after which logged rows can be shipped, and bytes that may wait for the store on the local disk."""

    seconds: float = 10.0
    backlog: int = 1_000_000_000


class _Load:
    """One model's requests under way, and since when they are counted."""

    __slots__ = ("answered", "now", "refused", "room", "since")

    def __init__(self, room: int, since: float) -> None:
        self.now, self.room = 0, room
        self.answered, self.refused, self.since = 0, 0, since


class InFlight:
    """Counts the requests under way, in all and by model. For the event loop's thread alone.

    Where more come than a worker can answer, a long queue answers nobody sooner: the room of a model whose callers are
    refused shrinks to as many as it answers within `limits.wait` seconds (Little's law), and grows again after.
    """

    def __init__(
        self, limits: Limits, settings_of: Callable[[str], Settings], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = self.peak = 0
        self._limits, self._settings_of, self._clock = limits, settings_of, clock
        self._loads: dict[str, _Load] = {}

    @property
    def limit(self) -> int:
        """The most requests under way at a time, of all models."""
        return self._limits.max_queue

    def full(self, name: str) -> bool:
        """Whether one more request for this model is to be refused; it is counted as refused then."""
        load = self._loads.get(name)
        if load is not None and load.now >= load.room:
            load.refused += 1
            return True
        return self.total >= self._limits.max_queue

    def busy(self, name: str) -> bool:
        """Whether requests for this model are under way."""
        return name in self._loads

    def enter(self, name: str) -> None:
        """Count a request in; the caller has asked `full` first, and calls `leave` whatever happens."""
        self.total += 1
        if self.total > self.peak:
            self.peak = self.total
        load = self._loads.get(name)
        if load is None:
            load = self._loads[name] = _Load(self._settings_of(name).max_concurrent, self._clock())
        load.now += 1

    def leave(self, name: str) -> None:
        """Count it out."""
        self.total -= 1
        load = self._loads[name]
        load.now -= 1
        load.answered += 1
        if not load.now:
            del self._loads[name]  # names that callers make up must not stay
        elif (seconds := self._clock() - load.since) >= _WINDOW:
            self._fit(name, load, seconds)

    def _fit(self, name: str, load: _Load, seconds: float) -> None:
        """A room for the next moment, by what was answered and refused in the last."""
        most = self._settings_of(name).max_concurrent
        if load.refused > load.answered * _OVERLOAD:
            load.room = min(max(int(load.answered / seconds * self._limits.wait), _LEAST), most)
        else:
            load.room = min(load.room * 2, most)
        load.answered, load.refused, load.since = 0, 0, load.since + seconds


def overloaded(name: str) -> RequestRefused:
    """The refusal of one request too many."""
    return refuse(
        429,
        f"model '{name[:60]}'",
        found="more requests at a time than this worker takes on",
        allowed="as many as --max-queue and the model's serving.max_concurrent, fewer while they come too fast",
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
