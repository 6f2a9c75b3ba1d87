"""What the control ledger knows of the platform, for this replica's metrics page: Prometheus needs no other target.

Read in a thread of the serving supervisor, so that no release waits for it. A ledger that does not answer leaves what
was read last, with its time; workers stop showing it once it is old (serving.web.pages).
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, get_native_id
from typing import TYPE_CHECKING

from evergreen.core.heartbeats import MONITOR, RECONCILER, SCHEDULER
from evergreen.core.records import ALL, ANY_VERSION, RequestState
from evergreen.serving import state as files
from evergreen.serving.metrics import gauge
from evergreen.serving.reasons import first_line
from evergreen.serving.state import Platform

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Alert

EVERY, LONGEST = 15.0, 60.0  # seconds between two reads
SHARE = 20  # a read that takes long is made more seldom: it takes a twentieth of the time
NEWEST = timedelta(hours=1)  # values of periods that ended longer ago are not shown
PARTS = (RECONCILER, MONITOR)  # shown with 0 where they were never heard of; Airflow's scheduler only where it is known
STATES = (RequestState.OPEN.value, RequestState.CLAIMED.value, QUEUED := "queued")
_NICE = 10
_log = logging.getLogger(__name__)
Sample = tuple[str, dict[str, str], float]  # family, labels, value


class PlatformGauges:
    """Keeps the file of one pool's folder up to date."""

    def __init__(self, pool: str, folder: Path, open_ledger: Callable[[], Ledger]) -> None:
        self._pool, self._folder, self._open_ledger = pool, folder, open_ledger
        self._ledger: Ledger | None = None
        self._trouble = ""

    def run(self, stop: Event) -> None:
        """Read after read until stopped, in the background: no answer waits for it."""
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)  # of this thread alone, on Linux
        wait = 0.0
        while not stop.wait(wait):
            began = time.monotonic()
            self.read(datetime.now(UTC))
            wait = min(max(EVERY, (time.monotonic() - began) * SHARE), LONGEST)

    def read(self, now: datetime) -> None:
        """Read the ledger and write the file. Never raises: what was written before stays."""
        try:
            self._ledger = self._ledger or self._open_ledger()
            samples: dict[str, list[str]] = {}
            for family, labels, value in samples_of(self._ledger, self._pool, now):
                samples.setdefault(family, []).extend(gauge(family, value, **labels)[family])
            files.write(self._folder / files.PLATFORM, Platform(now.timestamp(), samples))
            self._trouble = ""
        except Exception as error:
            self._ledger = None
            if (told := first_line(error)) != self._trouble:
                _log.warning("what the ledger knows of the platform is not on the metrics page: %s", told)
            self._trouble = told


def samples_of(ledger: Ledger, pool: str, now: datetime) -> Iterator[Sample]:
    """All samples: of the whole platform, and of the models that this pool serves."""
    yield from _alerts(ledger.alerts.open_ones())
    yield from _heartbeats(ledger)
    yield from _approvals(ledger)
    waiting = Counter(QUEUED if one.queued else one.state.value for one in ledger.requests.unfinished())
    for state in STATES:
        yield "evergreen_trigger_requests_open", {"state": state}, waiting[state]
    yield from _models(ledger, pool, now)


def _alerts(alerts: list[Alert]) -> Iterator[Sample]:
    """How many are open of each rule: those of a rule by slice together, so that no value becomes a label."""
    count = Counter((alert.model, _rule(alert), alert.severity.value) for alert in alerts)
    for (model, rule, severity), number in sorted(count.items()):
        yield "evergreen_alerts_open", {"model": model, "rule": rule, "severity": severity}, number


def _rule(alert: Alert) -> str:
    """'drift.psi.max>0.2', 'quality.realised.auc<0.62[carrier]': as core.monitoring.rules.key_of, without the value."""
    sign, feature = ">" if alert.direction == "above" else "<", alert.slice.partition("=")[0]
    text = f"{alert.metric}{sign}{str(alert.limit).removesuffix('.0')}"
    return text if alert.slice == ALL else f"{text}[{feature}]"


def _heartbeats(ledger: Ledger) -> Iterator[Sample]:
    for part in (*PARTS, SCHEDULER):
        beat = ledger.heartbeats.last(part)
        if beat or part in PARTS:
            yield "evergreen_heartbeat_timestamp_seconds", {"part": part}, beat.at.timestamp() if beat else 0


def _approvals(ledger: Ledger) -> Iterator[Sample]:
    asked: dict[str, list[float]] = {}
    for approval in ledger.approvals.open_ones():
        asked.setdefault(approval.model, []).append(approval.asked_at.timestamp())
    for model, times in sorted(asked.items()):
        yield "evergreen_approvals_open", {"model": model}, len(times)
        yield "evergreen_approval_asked_timestamp_seconds", {"model": model}, min(times)


def _models(ledger: Ledger, pool: str, now: datetime) -> Iterator[Sample]:
    """Of the models that the pool serves; a read for all of them, of each kind."""
    settings, watermarks = ledger.settings.of(pool), ledger.requests.watermarks()
    versions: dict[str, int] = {}
    for release in ledger.releases.live(pool):
        labels, versions[release.model] = {"model": release.model}, release.version
        yield "evergreen_model_released_timestamp_seconds", labels, release.released_at.timestamp()
        if newest := watermarks.get(release.model):
            yield "evergreen_model_data_timestamp_seconds", labels, newest.timestamp()
        if (known := settings.get(release.model)) and known.fresh_within:
            yield "evergreen_model_fresh_within_seconds", labels, known.fresh_within
    rules = {model: known.rule_metrics for model, known in settings.items() if model in versions and known.rule_metrics}
    if names := {name for metrics in rules.values() for name in metrics}:
        for point in ledger.points.newest(rules.keys(), names, now - NEWEST):
            if point.name in rules[point.model] and point.version in (versions[point.model], ANY_VERSION):
                yield "evergreen_monitor_value", {"model": point.model, "metric": point.name}, point.value
