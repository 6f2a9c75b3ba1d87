"""What a loaded model takes and how it is used: where memory is short, the one asked longest ago makes room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

# Measured as the growth of VmRSS over hundreds of copies: a booster takes 1.4 times its UBJ (20 trees) to 1.5 times
# (500 trees of depth 8). Taken from the size, not from VmRSS at each load: memory that an evicted model gave back is
# used again without growth, and requests beside the load grow it too.
_TIMES_UBJ = 1.5
_BESIDE = 10_000  # bytes: schema, encoder, decoder and the rest, whatever the booster's size


@dataclass(slots=True)
class Usage:
    """Of one loaded model: bytes it takes, and when it was asked last (time.monotonic), as kept by who asks it."""

    memory: int = 0
    asked_at: float = 0.0


class Used(Protocol):
    """A loaded model, as far as this module cares."""

    @property
    def usage(self) -> Usage:
        """Its own."""


def memory_of(ubj: int) -> int:
    """The bytes that a model takes in a worker, from those of its UBJ."""
    return int(_TIMES_UBJ * ubj) + _BESIDE


def taken(models: Mapping[str, Used]) -> int:
    """The bytes that all of them take."""
    return sum(model.usage.memory for model in models.values())


def surplus(models: Mapping[str, Used], budget: int, kept: Callable[[str], bool]) -> list[str]:
    """The models to evict until the rest fits, asked longest ago first; fewer, where it would take `kept` ones."""
    over = taken(models) - budget
    if over <= 0:
        return []
    evicted = []
    for name, model in sorted(models.items(), key=lambda item: item[1].usage.asked_at):
        if over <= 0:
            break
        if not kept(name):
            evicted.append(name)
            over -= model.usage.memory
    return evicted
