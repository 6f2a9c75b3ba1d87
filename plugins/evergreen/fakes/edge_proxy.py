"""The edge in memory: as much of HAProxy as a roll needs."""

from __future__ import annotations

from collections.abc import Callable

from evergreen.core.errors import EdgeUnavailable
from evergreen.core.ports import Door, EdgeServer


class InMemoryEdge:
    """Twin of adapters.edge_proxy.HAProxyEdge. `ready` says whether a colour's readiness check passes now.

    `requests` is what callers have open, by colour; `doors` what was set. A restart forgets the doors.
    """

    def __init__(self, *colours: str, ready: Callable[[str], bool]) -> None:
        self.doors = dict.fromkeys(colours, Door.READY)
        self.requests = dict.fromkeys(colours, 0)
        self._ready = ready

    def restart(self) -> None:
        """As HAProxy after its death."""
        self.doors = dict.fromkeys(self.doors, Door.READY)

    def servers(self) -> dict[str, EdgeServer]:
        """Both colours, by name."""
        return {
            colour: EdgeServer(colour, door, door is Door.READY and self._ready(colour), self.requests[colour])
            for colour, door in self.doors.items()
        }

    def set(self, colour: str, door: Door) -> None:
        """Set a colour's door; twice is once. Raises EdgeUnavailable where there is no such colour."""
        if colour not in self.doors:
            raise EdgeUnavailable(f"the edge refuses to set {colour} to {door}: No such server.")
        self.doors[colour] = door
