"""New data starts a run: one watcher for each source, shared by all models that read it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from evergreen import wiring
from evergreen.core.ports import Ledger, Source
from evergreen.core.records import Cause
from evergreen.core.spec import Source as SourceSpec
from evergreen.orchestration.connections import airflow_connection_url_async

DEFAULT_SECONDS = 1.0  # between two looks at a source that answers at once
SHARE = 20  # a slow source is looked at for a twentieth of the time …
LONGEST = 60.0  # … and at least every minute


def asset_of(source: SourceSpec) -> Asset:
    """The source as an Airflow asset that has an event whenever its watermark has moved on."""
    trigger = SourceWatcher(**source.model_dump(exclude_none=True))
    name = asset_name(source)
    return Asset(name=name, watchers=[AssetWatcher(name=f"{name} watermark", trigger=trigger)])


def asset_name(source: SourceSpec) -> str:
    """Readable, and the same for the same source; a query and files are told apart by a hash."""
    return source.short_id


class SourceWatcher(BaseEventTrigger):
    """Polls a source's watermark, see `pause_after`, and fires when it is newer than any known one.

    Known is the newest watermark of any new_data request in the ledger, so that a restart neither repeats nor loses
    an event, and what this watcher has sent since. A source that does not answer is asked again at the next poll.
    """

    def __init__(self, **described: Any) -> None:
        super().__init__()
        self._described = SourceSpec(**described)
        self._took = 0.0  # seconds that the source needed for its last answer
        self._source: Source | None = None  # of files: it knows those that it has seen, and asks for new ones only

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments: what makes two watchers the same."""
        return f"{__name__}.SourceWatcher", self._described.model_dump(exclude_none=True)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each new watermark, for ever."""
        sent: datetime | None = None
        complaint = ""
        while True:
            try:
                watermark = await self._unknown_watermark(sent)
                complaint = ""
            except Exception as error:
                watermark = None
                if str(error) != complaint:  # once, not at every poll
                    complaint = str(error)
                    logging.getLogger(__name__).warning("Watching %s: %s", self._described.id, error)
            if watermark is not None:
                sent = watermark
                yield TriggerEvent({"source": self._described.id, "watermark": watermark.isoformat()})
            await asyncio.sleep(pause_after(self._took))

    async def _unknown_watermark(self, sent: datetime | None) -> datetime | None:
        found = await self._airflow_connection()
        return await asyncio.to_thread(self._newer_watermark, found, sent)

    async def _airflow_connection(self) -> str | None:
        name = self._described.connection
        if name is None or f"EVERGREEN_CONN_{name.upper()}" in os.environ:
            return None
        return await airflow_connection_url_async(name)

    def _newer_watermark(self, found: str | None, sent: datetime | None) -> datetime | None:
        """The source's watermark where it is newer than every known one. Blocking: it reads source and ledger."""
        source = self._source or wiring.source(self._described, lambda _: found)
        if self._described.files is not None:
            self._source = source
        began = time.monotonic()
        try:
            watermark = source.watermark()
        finally:
            self._took = time.monotonic() - began
        return unknown(watermark, wiring.ledger(wiring.Settings.load()), self._described.id, sent)


def pause_after(took: float) -> float:
    """Seconds until the next look: EVERGREEN_WATCH_SECONDS, or longer after a look that took long."""
    shortest = float(os.environ.get("EVERGREEN_WATCH_SECONDS", DEFAULT_SECONDS))
    return max(shortest, min(took * SHARE, LONGEST))


def unknown(watermark: datetime | None, ledger: Ledger, source_id: str, sent: datetime | None) -> datetime | None:
    """The watermark, none where it is known: it must be newer than the newest in the ledger and than what was sent.

    Only requests that new data caused count: one model's cron run must not hide the data from the source's others.
    """
    asked = ledger.requests.newest_watermark(source=source_id, cause=Cause.NEW_DATA)
    known = [time for time in (asked, sent) if time is not None]
    return watermark if watermark is not None and all(watermark > time for time in known) else None
