"""Serving is killed in the embedded shape, whose supervisor starts it again."""

from __future__ import annotations

import os
import signal

from airflow_world import World, within
from evergreen.supervisor import stack as stacks
from evergreen.supervisor.health import healthy


def test_serving_that_was_killed_answers_again_within_five_seconds(world: World) -> None:
    began = starts(world)
    os.kill(record_of(world).sessions["serving"].sid, signal.SIGKILL)
    within(5, lambda: (starts(world) == began + 1 and healthy(record_of(world), ["serving"])) or None)


def starts(world: World) -> int:
    """How often serving was started."""
    return record_of(world).starts["serving"]


def record_of(world: World) -> stacks.Record:
    record = stacks.read(world.settings.home)
    assert record is not None
    return record
