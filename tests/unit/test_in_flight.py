"""Overload: the room of a model shrinks to what it answers in time, and grows again."""

from __future__ import annotations

from evergreen.serving.limits import InFlight, Limits
from evergreen.serving.state import Settings

RATE = 1_000  # requests a second that the pretended worker answers
WAIT = 0.03  # seconds


class Busy:
    """A worker that answers in the order of arrival, a thousand a second; time is told."""

    def __init__(self, most: int = 256) -> None:
        self.now, self.refused, self.waits = 0.0, 0, list[float]()
        self.in_flight = InFlight(Limits(wait=WAIT), lambda _: Settings(max_concurrent=most), lambda: self.now)
        self._waiting: list[float] = []

    def run(self, seconds: float, times: float) -> None:
        """So many times as many callers as can be answered."""
        self.refused, self.waits = 0, []
        due = 0.0
        for _ in range(int(seconds * RATE)):
            due += times
            while due >= 1:
                due -= 1
                self._ask()
            self.now += 1 / RATE
            if self._waiting:
                self.in_flight.leave("m")
                self.waits.append(self.now - self._waiting.pop(0))

    def _ask(self) -> None:
        if self.in_flight.full("m"):
            self.refused += 1
            return
        self.in_flight.enter("m")
        self._waiting.append(self.now)


def test_who_is_taken_on_in_an_overload_is_answered_in_time_and_the_rest_is_refused() -> None:
    worker = Busy()
    worker.run(1, times=3)  # until the room has shrunk, some wait longer
    worker.run(5, times=3)
    assert max(worker.waits) < WAIT * 1.1
    assert len(worker.waits) == 5 * RATE  # and it is never idle
    assert abs(worker.refused / (worker.refused + len(worker.waits)) - 2 / 3) < 0.01


def test_the_room_comes_back_when_the_callers_are_fewer() -> None:
    worker = Busy()
    worker.run(2, times=3)
    worker.run(1, times=0.5)
    for _ in range(256):
        assert not worker.in_flight.full("m")
        worker.in_flight.enter("m")
    assert worker.in_flight.full("m")


def test_many_at_once_are_taken_on_as_long_as_hardly_anyone_is_refused() -> None:
    worker = Busy(most=64)
    worker.run(3, times=1.1)
    assert max(worker.waits) > WAIT  # a full room, and not a smaller one
    assert worker.refused / len(worker.waits) < 0.2


def test_a_slow_model_keeps_room_for_one_call_of_the_booster() -> None:
    now = 0.0
    in_flight = InFlight(Limits(wait=WAIT), lambda _: Settings(max_concurrent=10), lambda: now)
    for _ in range(10):
        in_flight.enter("m")
    for _ in range(20):  # one answer a second, five refusals each
        now += 1.0
        in_flight.leave("m")
        while not in_flight.full("m"):
            in_flight.enter("m")
        assert all(in_flight.full("m") for _ in range(5))
    assert in_flight.total == 8
    for _ in range(8):
        in_flight.leave("m")
    assert not in_flight.busy("m")
