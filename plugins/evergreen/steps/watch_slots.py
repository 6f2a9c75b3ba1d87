"""watch_slots: a container slot that dies, hangs or is left behind is noticed, restarted or stopped, and reported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.pool_roll import POOL
from evergreen.core.slot_health import REHEARSAL_LEASE, REMEMBERED, SLOTS, Act, Finding, assess

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, SlotContainers

_log = logging.getLogger(__name__)


def look(containers: SlotContainers, ledger: Ledger, now: datetime) -> list[Finding]:
    """What is new or to be done, without doing it. Raises SlotUnavailable where nobody tells of the slots."""
    lease = ledger.leases.get(REHEARSAL_LEASE)
    facts = [containers.look(slot) for slot in SLOTS]
    events = ledger.slot_events.latest(REMEMBERED)
    rolls = ledger.pools.history(POOL)
    active = rolls[-1].active if rolls else ""
    return assess(facts, events, rehearsing=lease is not None and lease.expires_at > now, now=now, active=active)


def watch_slots(
    containers: SlotContainers, ledger: Ledger, tell: Callable[[Finding], None], now: datetime
) -> list[Finding]:
    """Do what is to be done, and keep and tell each event once.

    The event is kept before the act: what is still so at the next look is done then, and counted once. Raises
    SlotUnavailable.
    """
    found = look(containers, ledger, now)
    for one in found:
        if ledger.slot_events.add(one.slot, one.what, one.detail, one.key, now):
            _log.warning("%s", one)
            tell(one)
        if one.act is Act.RESTART:
            containers.restart(one.slot)
        elif one.act is Act.STOP:
            containers.stop(one.slot)
    return found
