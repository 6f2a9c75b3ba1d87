"""The pulse of a worker: silence is counted, but not time in which nobody looked."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from evergreen.serving import pulse as pulses
from evergreen.serving.pulse import Pulse, beat


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEAT": 0.02, "HANGS_AFTER": 0.3, "STARTS_WITHIN": 0.8, "_LOOK": 0.05}.items():
        monkeypatch.setattr(pulses, name, seconds)


def looked_at(pulse: Pulse, seconds: float) -> bool:
    """Whether it hangs at any look, a hundred a second."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if pulse.hangs():
            return True
        time.sleep(0.01)
    return False


def hangs_within(pulse: Pulse, looks: int) -> bool:
    """Whether it hangs at one of so many looks, a hundred a second: counted, as a look of any length counts little."""
    for _ in range(looks):
        if pulse.hangs():
            return True
        time.sleep(0.01)
    return False


async def alive(pulse: Pulse, seconds: float) -> bool:
    beating = asyncio.create_task(beat(pulse.write_end))
    hung = await asyncio.to_thread(looked_at, pulse, seconds)
    beating.cancel()
    return not hung


def test_a_loop_that_ticks_lives_and_one_that_stops_hangs() -> None:
    pulse = Pulse()
    assert asyncio.run(alive(pulse, 0.6))
    assert not looked_at(pulse, 0.2)
    assert hangs_within(pulse, 50)
    os.write(pulse.write_end, b".")
    assert not pulse.hangs()
    pulse.handed_over()
    assert hangs_within(pulse, 60)  # the other end is closed: silence too
    pulse.close()


def test_a_start_may_take_longer_than_a_hang() -> None:
    pulse = Pulse()
    assert not looked_at(pulse, 0.5)
    assert hangs_within(pulse, 60)


def test_time_in_which_nobody_looked_is_no_silence() -> None:
    pulse = Pulse()
    os.write(pulse.write_end, b".")
    assert not pulse.hangs()
    time.sleep(0.6)  # as a container that was paused: nobody looked, nobody ticked
    assert not pulse.hangs()
    assert hangs_within(pulse, 50)


def test_a_beat_that_nobody_reads_or_hears_stops_nothing() -> None:
    pulse = Pulse()
    os.set_blocking(pulse.write_end, False)
    while True:  # fill the pipe
        try:
            os.write(pulse.write_end, bytes(4096))
        except BlockingIOError:
            break

    async def beats() -> None:
        beating = asyncio.create_task(beat(pulse.write_end))
        await asyncio.sleep(0.1)
        pulse.close()
        await asyncio.sleep(0.1)
        assert not beating.done()
        beating.cancel()

    asyncio.run(beats())
