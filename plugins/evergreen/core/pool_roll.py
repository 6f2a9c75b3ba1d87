"""A roll of a serving pool: which colour is the active one, and what the edge's doors should be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evergreen.core.ports import Door, EdgeServer
from evergreen.core.records import PoolChange, PoolEvent
from evergreen.core.slot_health import COLOURS

POOL = "default"  # the one that has slots
ENDED = frozenset({PoolChange.DONE, PoolChange.BACK})


def other(colour: str) -> str:
    """The colour beside this one."""
    return COLOURS[1 - COLOURS.index(colour)]


def active_colour(newest: PoolEvent | None, up: Iterable[str], edge: Mapping[str, EdgeServer]) -> str | None:
    """The colour that callers depend on; none where neither is `up`.

    What runs counts before what the ledger says: a person may have stopped one colour and started the other.
    """
    running = [colour for colour in COLOURS if colour in set(up)]
    if len(running) < len(COLOURS):
        return running[0] if running else None
    if newest:
        return newest.active
    return next((colour for colour in COLOURS if edge[colour].answering), COLOURS[0])


def doors(newest: PoolEvent, edge: Mapping[str, EdgeServer]) -> dict[str, Door]:
    """What the doors should be, of those that the ledger decides.

    The idle colour is shut while the active one answers; else whichever answers is better than none. While a roll
    changes over, it shuts the colour before itself, once the new one has answered for a while.
    """
    wanted = {newest.active: Door.READY}
    if newest.change is not PoolChange.SWITCHED:
        wanted[other(newest.active)] = Door.MAINT if edge[newest.active].answering else Door.READY
    return wanted
