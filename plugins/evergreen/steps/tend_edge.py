"""tend_edge: the edge forgets at its restart which colour callers are sent to; it is told again, as the ledger says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.pool_roll import POOL, doors

if TYPE_CHECKING:
    from evergreen.core.ports import EdgeProxy, Ledger


def tend_edge(ledger: Ledger, edge: EdgeProxy, *, pool: str = POOL) -> list[str]:
    """Set the doors that are not as they should be; what was set. A pool that was never rolled has none to set.

    Raises EdgeUnavailable.
    """
    history = ledger.pools.history(pool)
    if not history:
        return []
    servers, done = edge.servers(), []
    for colour, door in doors(history[-1], servers).items():
        if servers[colour].door is not door:
            edge.set(colour, door)
            done.append(f"the edge: {colour} was {servers[colour].door}, and is {door}")
    return done
