"""Waits in the triggerer until a release has come to all callers or to its end: no worker is held meanwhile.

It only looks. The reconciler advances the release, and goes on where this is killed; another triggerer then waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from evergreen import wiring
from evergreen.steps.roll_out import over

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Release

LOOK_EVERY = 3.0  # seconds
log = logging.getLogger(__name__)


class ReleaseTrigger(BaseTrigger):
    """Fires {"release", "state"} once the release waits for nothing any more. A ledger that is away is asked again."""

    def __init__(self, release_id: str) -> None:
        super().__init__()
        self._release_id = release_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return f"{__name__}.ReleaseTrigger", {"release_id": self._release_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        loop, complaint = asyncio.get_running_loop(), ""
        while True:
            try:
                release, complaint = await loop.run_in_executor(_thread(), _look, self._release_id), ""
                if over(release):
                    yield TriggerEvent({"release": release.id, "state": release.state.value})
                    return
            except Exception as error:  # the ledger is away
                if str(error) != complaint:  # once, not at every look
                    complaint = str(error)
                    log.warning("Looking after release %s: %s", self._release_id, error)
            await asyncio.sleep(LOOK_EVERY)


@cache
def _thread() -> ThreadPoolExecutor:
    """For all that wait in this process: those that triggers share may all be waiting for a source."""
    return ThreadPoolExecutor(1, "releases")


@cache
def _ledger() -> Ledger:
    return wiring.ledger(wiring.Settings.load())


def _look(release_id: str) -> Release:
    return _ledger().releases.get(release_id)
