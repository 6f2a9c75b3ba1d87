"""The DAG `platform` of the compose shape: it runs when something happened to a container slot, and only then.

A watcher in the triggerer looks at the slots every few seconds, which holds no worker and leaves no run. What it finds
is done by a run, so that the list of runs is the list of incidents.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetWatcher, get_current_context, task
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from evergreen import wiring
from evergreen.core import notices
from evergreen.core.records import FLEET
from evergreen.orchestration.pages import page
from evergreen.orchestration.run_notes import tell
from evergreen.steps.watch_slots import look, watch_slots

if TYPE_CHECKING:
    from evergreen.core.slot_health import Finding

log = logging.getLogger(__name__)

PAUSE = 10.0  # seconds between two looks
AGAIN = 60.0  # seconds after which the same findings are sent again: the run that they started did not end well
NOTHING = "nothing new: all is done that was to be done"
ABOUT = """\
### Platform: the container slots

Runs when something happened to `serving-blue`, `serving-green` or `serving-rehearsal`: **each run is an incident**, and
says in its note what it was and what was done. Started by hand, it looks and does the same.

| what | means | what was done | what to do |
|---|---|---|---|
| **died** | The container ended by itself, or ran out of memory. | Docker starts it again (a rehearsal ends its candidate's run instead). | `docker logs <slot>`; out of memory: fewer or smaller models, or a larger limit in `docker-compose.yml`. |
| **keeps dying** | It ends each time that Docker starts it. | Docker goes on trying, ever more slowly. | `docker logs <slot>`; roll back if a version is the cause. |
| **restarted** | It ran and did not answer its health check. | It was restarted. | Nothing, if it stays single. |
| **not restarted** | It was restarted three times within 15 minutes and still does not answer. | Left alone for a while. | `docker logs <slot>`; roll back if a version is the cause. |
| **stopped** | A rehearsal was killed on its way, and its container still ran. | It was stopped. | Nothing. |
| **none runs** | Both colours are stopped: callers get no answer. | Nothing: who stopped them may have meant it. | `make up`. |

A colour that somebody stopped is never started.
"""  # noqa: E501 -- a table


def platform_dag() -> DAG | None:
    """The DAG where EVERGREEN_SLOTS_URL names docker-slots; none where serving does not run in slots."""
    url = os.environ.get("EVERGREEN_SLOTS_URL")
    return build_platform_dag(url) if url else None


def build_platform_dag(slots_url: str) -> DAG:
    """The DAG, for the slots behind the docker-slots of this URL."""
    watcher = AssetWatcher(name="slots watched", trigger=SlotsWatcher(slots_url))
    with DAG(
        dag_id="platform",
        description="Restarts container slots that do not answer, and says what happened to slots",
        doc_md=ABOUT,
        schedule=[Asset(name="slots", watchers=[watcher])],
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["evergreen"],
    ) as dag:
        _watch_slots()
    return dag


def _watch_slots() -> None:
    @task(task_id="watch_slots", doc_md=ABOUT, retries=2, retry_delay=timedelta(seconds=15))
    def run_watch_slots() -> str:
        context, settings, now = get_current_context(), wiring.Settings.load(), datetime.now(UTC)
        ledger = wiring.ledger(settings)
        new: list[Finding] = []
        watch_slots(wiring.slot_containers(settings), ledger, new.append, now)
        reason = "; ".join(map(str, new)) or NOTHING
        tell(context, reason)
        if new:
            run = context["dag_run"]
            notices.reported(ledger, FLEET, reason, run.run_id, page(run.dag_id, run.run_id), now)
        return reason

    run_watch_slots()


class SlotsWatcher(BaseEventTrigger):
    """Looks at the slots, and fires where something is new or to be done. It changes nothing itself.

    What cannot be looked at now (docker-slots or the ledger is away) is looked at the next time.
    """

    def __init__(self, slots_url: str) -> None:
        super().__init__()
        self._slots_url = slots_url

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments: what makes two watchers the same."""
        return f"{__name__}.SlotsWatcher", {"slots_url": self._slots_url}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each set of findings, for ever."""
        sent, sent_at, complaint = "", 0.0, ""
        while True:
            try:
                found, complaint = await asyncio.to_thread(_found), ""
            except Exception as error:
                found = ""
                if str(error) != complaint:  # once, not at every look
                    complaint = str(error)
                    log.warning("Watching the slots: %s", error)
            if found and (found != sent or time.monotonic() - sent_at > AGAIN):
                sent, sent_at = found, time.monotonic()
                yield TriggerEvent({"found": found})
            await asyncio.sleep(PAUSE)


def _found() -> str:
    """The findings' keys, empty where there are none. Blocking: it asks docker-slots and the ledger."""
    settings = wiring.Settings.load()
    found = look(wiring.slot_containers(settings), wiring.ledger(settings), datetime.now(UTC))
    return ", ".join(f"{one.slot} {one.key}" for one in found)
