"""The reconciler in Airflow: it works in the triggerer, holds no worker and leaves no run.

The DAG `reconciler` has a run where something is to be done by a task (notices that wait, trouble that stays), and
every ten minutes, to see whether the reconciler lives: while it does not, each of these runs makes a pass in its place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, get_current_context, task
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from evergreen import wiring
from evergreen.core import notices
from evergreen.core.errors import FoundProblem
from evergreen.core.reconciling import RECONCILER, STAND_IN, WELL, persisting, readable_silence, silent
from evergreen.orchestration.connections import airflow_connection_url, airflow_connection_url_async
from evergreen.orchestration.notices import send, waiting
from evergreen.orchestration.own_thread import OwnThread
from evergreen.orchestration.pages import addresses
from evergreen.orchestration.passes import Passes
from evergreen.orchestration.run_notes import tell

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Heartbeat

log = logging.getLogger(__name__)

EVERY = "*/10 * * * *"
GRACE = 60.0  # seconds in which a reconciler that starts with everything else is heard of
ANSWER = 60.0  # seconds for Airflow to hand out a connection
ABOUT = """\
### The reconciler

It takes what waits in the control ledger to where it belongs: requests to runs, releases to live, questions that nobody
needs to answer to their end; it asks sources whether an event was lost, and puts MLflow's aliases back. It works in the
**triggerer**, every `EVERGREEN_RECONCILE_SECONDS` (2), and needs no run for that. This DAG is there to watch it, and to
send what people are to be told:

- **watch** is red where nothing was heard from the reconciler for two minutes (it has made a pass in its place, so that
  work goes on, every ten minutes), or where a part of its work fails for more than a minute. The run's note says which.
- **send_notices** sends the notices that wait, over what `notify` in the specs names. It runs whatever `watch` found.

| the note says | do |
|---|---|
| nothing heard from the reconciler | Start the triggerer: `evergreen up`, `make up`. It runs: look at its log (`.evergreen/logs/triggerer.log`, `make logs ARGS=triggerer`). This DAG must not be paused. |
| requests fails … | The message names the model: a DAG that is paused or does not load, a source that does not answer. What waits goes on waiting, and is started then. |
| watermarks fails … | A source does not answer. |
| aliases fails … | MLflow does not answer; nothing depends on its aliases. |
| edge fails … | The edge does not answer its runtime API: `make status`, `make logs ARGS=edge`. |
| rollouts, settings, approvals, upstream, recalls, people fails … | See the triggerer's log. |

A red run needs no clearing: the next one looks again.
"""  # noqa: E501 -- a table


def build_reconciler_dag() -> DAG:
    """The DAG: look after the reconciler, then send what people are to be told."""
    asset = Asset(name="reconciler", watchers=[AssetWatcher(name="reconciler", trigger=ReconcilerTrigger())])
    with DAG(
        dag_id="reconciler",
        description="Watches the reconciler, which works in the triggerer, and sends notices",
        doc_md=ABOUT,
        schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable(EVERY, timezone="UTC"), assets=[asset]),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["evergreen"],
    ) as dag:

        @task(doc_md=ABOUT, execution_timeout=timedelta(minutes=5))
        def watch() -> str:
            context = get_current_context()
            return look_after(wiring.ledger(wiring.Settings.load()), lambda reason: tell(context, reason))

        @task(doc_md=ABOUT, execution_timeout=timedelta(minutes=5))
        def send_notices() -> str:
            return send(get_current_context())

        # As a teardown it runs whatever became of the other, and the run is as red as the other.
        watch() >> send_notices().as_teardown()
    return dag


# ---------------------------------------------------------------- the watchdog


def look_after(ledger: Ledger, say: Callable[[str], None]) -> str:
    """Say that all is well, or raise FoundProblem with what is not, which is said too.

    While the reconciler is silent, a pass is made in its place.
    """
    beat, instead = ledger.heartbeats.last(RECONCILER), ""
    if silent(beat, datetime.now(UTC)):
        instead = _stand_in()
        beat = _heard(ledger)
    wrong = _what_is_wrong(ledger, beat, instead)
    say(wrong or WELL)
    if wrong:
        do = "The documentation of this DAG says what to do; so does docs/runbook.md."
        raise FoundProblem("the reconciler", found=wrong, allowed="it is heard of, and nothing fails for long", do=do)
    return WELL


def _stand_in() -> str:
    """Make a pass in the reconciler's place; what came of it."""
    try:
        report = Passes(airflow_connection_url).once(STAND_IN)
    except Exception as error:  # people must hear of the silence all the same
        log.exception("The pass in the reconciler's place failed")
        return f"a pass in its place failed: {error}"
    for told in report.done:
        log.info("%s", told)
    failed = "; ".join(f"{one.part} failed: {one.error}" for one in report.troubles.values())
    return f"a pass was made in its place{f' ({failed})' if failed else ''}"


def _heard(ledger: Ledger) -> Heartbeat | None:
    """The newest heartbeat, waited for: after a start of everything, this run may be quicker than the triggerer."""
    until = time.monotonic() + GRACE
    while True:
        beat = ledger.heartbeats.last(RECONCILER)
        if not silent(beat, datetime.now(UTC)) or time.monotonic() > until:
            return beat
        time.sleep(1)


def _what_is_wrong(ledger: Ledger, beat: Heartbeat | None, instead: str) -> str:
    now = datetime.now(UTC)
    if silent(beat, now):
        notices.silent(ledger, beat.at if beat else None, addresses().dag("reconciler"), now)
        return f"{readable_silence(beat, now)}; {instead}"
    return "; ".join(map(str, persisting(beat, now)))


# ---------------------------------------------------------------- in the triggerer


class ReconcilerTrigger(BaseEventTrigger):
    """Makes passes for ever, whatever fails, and fires where something is to be done by a task.

    Another triggerer may do the same at the same time: see steps.reconcile.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments: what makes two triggers the same."""
        return f"{__name__}.ReconcilerTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each new thing to do, for ever."""
        said, worker = set[str](), _Worker(asyncio.get_running_loop())
        with OwnThread(worker.work, log, "Reconciling") as work:
            while True:
                to_do = await work() or {}
                if fresh := [text for key, text in to_do.items() if key not in said]:
                    yield TriggerEvent({"to_do": fresh})
                said = set(to_do)
                await asyncio.sleep(pause())


def pause() -> float:
    """Seconds between two passes."""
    return wiring.Settings.load().reconcile_seconds


class _Worker:
    """Makes passes, and finds what is to be done by a task. Blocking: not for the event loop's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._passes: Passes | None = None

    def work(self) -> dict[str, str]:
        """Make a pass; then what is to be done, in words, by a key that stays the same while the thing does."""
        self._passes = self._passes or Passes(self._connection)
        for told in self._passes.once().done:
            log.info("%s", told)
        ledger, now = self._passes.ledger, datetime.now(UTC)
        to_send = waiting(ledger, self._passes.specs, now)
        failing = persisting(ledger.heartbeats.last(RECONCILER), now)
        return {
            **{f"notice {one.id}, try {one.tries}": f"to be sent: {one.title}" for one in to_send},
            **{f"{one.part} since {one.since}": str(one) for one in failing},
        }

    def _connection(self, name: str) -> str | None:
        """Airflow hands out connections in the event loop only."""
        return asyncio.run_coroutine_threadsafe(airflow_connection_url_async(name), self._loop).result(ANSWER)
