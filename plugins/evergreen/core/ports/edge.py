"""The edge, as a roll of a serving pool sets it: which colour callers are sent to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Door(StrEnum):
    """What a colour is set to at the edge; the words are HAProxy's."""

    READY = "ready"  # callers are sent to it while its readiness check passes
    DRAIN = "drain"  # nobody new is sent to it; requests that it has are answered
    MAINT = "maint"  # nobody is sent to it, and it is not checked


@dataclass(frozen=True)
class EdgeServer:
    """A colour at the edge now: its door, whether callers are sent to it, how many requests of theirs it has."""

    colour: str
    door: Door
    answering: bool
    requests: int


class EdgeProxy(Protocol):
    """The proxy before both colours of a pool. It forgets its doors when it restarts: all are `ready` then."""

    def servers(self) -> dict[str, EdgeServer]:
        """Both colours, by name ('serving-blue'). Raises EdgeUnavailable."""

    def set(self, colour: str, door: Door) -> None:
        """Set a colour's door; twice is once. Raises EdgeUnavailable."""
