"""Follows what concerns a pool: ledger → store → local bundles → state file, and heartbeats back.

Where callers need tokens, their list is followed too.

Runs in a thread of the serving supervisor. Whatever ledger or store do, the state file stays the last good one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Protocol

from evergreen.core.ports import Ledger, Store
from evergreen.core.records import Release, Replica, ServingSettings
from evergreen.serving import state as files
from evergreen.serving.reasons import Reasons, first_line
from evergreen.serving.replica.caller_list import CallerList
from evergreen.serving.replica.fetches import Fetches
from evergreen.serving.replica.fixed import FixedLedger
from evergreen.serving.replica.local_bundles import DiskRefused, LocalBundles
from evergreen.serving.replica.release_follower import ReleaseFollower
from evergreen.serving.replica.state_file import StateFile
from evergreen.serving.replica.trial_follower import TrialFollower
from evergreen.serving.replica.worker_reports import WorkerReports
from evergreen.serving.state import Reason, Settings, Status, Trial

TICK, LOOK, POLL, BEAT = 0.1, 0.4, 1.0, 2.0  # seconds
_BEATEN_REASONS = 5  # told in a heartbeat
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """Who follows: the pool's name, this replica's name and URL, and its folder."""

    name: str
    replica: str
    url: str
    folder: Path


class Team(Protocol):
    """The workers, as far as the follower cares."""

    def pids(self) -> Mapping[str, int]:
        """Slot → process id of the living ones."""

    def restarts(self) -> dict[str, int]:
        """How many were started again, by why the one before ended."""

    def worker_reasons(self) -> list[Reason]:
        """What ops should know of them."""


class Follower:
    """Keeps the state file equal to the ledger, and the list of callers if there is one."""

    def __init__(
        self,
        pool: Pool,
        open_ledger: Callable[[], Ledger | FixedLedger],
        open_store: Callable[[], Store],
        team: Team,
        callers: CallerList | None = None,
    ) -> None:
        self._pool, self._team, self._callers, self._open_ledger = pool, team, callers, open_ledger
        self._ledger: Ledger | FixedLedger | None = None
        self._reasons, self._reports = Reasons(), WorkerReports(pool.folder, team.pids)
        bundles = LocalBundles(pool.folder / files.BUNDLES)
        self._fetches = Fetches(bundles, open_store)
        self._file = StateFile(pool.folder, bundles, self._coming)
        self._releases = ReleaseFollower(self._file, bundles, self._fetches, self._reports, self._reasons)
        self._trials = TrialFollower(pool.folder, pool.replica, self._fetch, self._reasons)
        self._on_trial: dict[str, Trial] = self._file.trials
        self._settings: dict[str, Settings] = {}
        self._tried: set[str] = set()  # bundles of trials
        self._patience, self._disk_refuses = TICK, False
        self._heard_at = 0.0
        self._next_poll = self._next_look = self._next_beat = 0.0
        self._changes = 0  # of releases, as the ledger counts them
        self._beaten: tuple[dict[str, int], tuple[str, ...]] = ({}, ())

    def run(self, stop: Event) -> None:
        """Tick until stopped."""
        failed = ""
        while not stop.wait(TICK):
            try:
                self.tick()
                failed = ""
            except Exception as error:
                if repr(error) != failed:  # once, not every second
                    _log.exception("following releases failed; trying again, answers go on")
                failed = repr(error)
                stop.wait(POLL)

    def tick(self, patience: float = TICK) -> None:
        """Poll when due or a release has changed; beat when due or the workers answer with something new."""
        now = time.monotonic()
        if now >= self._next_poll or self._has_changed(now):
            self.poll(patience)
            self._next_poll = time.monotonic() + POLL
        elif self._releases.is_waiting() and not self._disk_refuses:
            self._bring(patience)  # what has come from the store meanwhile
        if self._report_trips():
            self._next_poll = 0.0  # so that the state file says it too
        told = tuple(reason.text for reason in self._all_reasons()[:_BEATEN_REASONS])
        beat = (self._reports.acknowledged(), told)
        if self._ledger and (now >= self._next_beat or beat != self._beaten):
            self._beat(*beat)
            self._next_beat = time.monotonic() + BEAT

    def poll(self, patience: float = 10.0) -> None:
        """Read what is released and who may ask, and bring what is new into the local files.

        What has not come from the store within `patience` seconds is on its way, and brought at a later call.
        """
        self._patience = patience
        released = self._heard()
        if released is not None:
            self._releases.aim(released)
        self._bring(patience, {release.model for release in released} if released is not None else None)

    def _bring(self, patience: float, listed: set[str] | None = None) -> None:
        """Write what is here into the state file; before, what is not, so that nobody takes a part for the whole.

        `listed` are all models of the pool, where the ledger has just told them.
        """
        if self._releases.awaited():
            self._write_status()
        try:
            if self._heard_at:
                # A trip and settings must not wait for a bundle.
                self._file.change(trials={**self._file.trials, **self._on_trial}, settings=self._settings)
                self._releases.bring(patience)
                if listed is not None:
                    self._drop_moved(listed)
                # One that has ended goes after its version has come as champion.
                self._file.change(trials=self._on_trial)
                self._file.write_first()
            self._releases.mend(patience)
        except DiskRefused as error:
            self._disk_refuses = True
            self._reasons.tell("disk", Reason(f"{error} What is live here goes on answering."))
        else:
            self._disk_refuses = False
            self._reasons.clear("disk")
        self._fetches.only(self._releases.bundles() | self._tried)
        self._write_status()

    def _coming(self) -> set[str]:
        """Bundles that are not in the state file yet, and soon will be."""
        on_trial = {trial.release.bundle for trial in self._on_trial.values()}
        return self._releases.bundles() | on_trial | self._fetches.known()

    def _fetch(self, bundle: str) -> bool:
        """For a trial: whether its bundle is here; else it is on its way. Raises what its fetch raised."""
        self._tried.add(bundle)
        fetches = self._fetches
        return fetches.have(bundle) or (fetches.wait([bundle], self._patience) and fetches.have(bundle))

    def _write_status(self) -> None:
        status = Status(
            self._all_reasons(),
            self._heard_at,
            self._team.restarts(),
            self._releases.awaited(),
            written_at=time.time(),
        )
        try:
            files.write(self._pool.folder / files.STATUS, status)
        except OSError as error:  # in the log and the heartbeat; workers tell that it is old
            self._reasons.tell("status", Reason(str(DiskRefused(self._pool.folder, error))))
        else:
            self._reasons.clear("status")

    def _all_reasons(self) -> list[Reason]:
        return [*self._reasons.all(), *self._team.worker_reasons()]

    # ------------------------------------------------------------ ledger

    def _heard(self) -> list[Release] | None:
        """The pool's releases; none, and a reason, while the ledger does not answer."""
        try:
            self._ledger = self._ledger or self._open_ledger()
            self._follow_callers(self._ledger)  # first: a revoked token must not wait for a bundle
            if not isinstance(self._ledger, FixedLedger):
                self._tried = set()
                self._on_trial = self._trials.follow(self._pool.name, self._ledger)
            settings = self._ledger.settings.of(self._pool.name)
            released = self._ledger.releases.live(self._pool.name)
        except Exception as error:
            self._lose_ledger(error)
            return None
        self._settings = {name: _settings(found) for name, found in settings.items()}
        self._heard_at = time.time()
        self._reasons.clear("ledger")
        return released

    def _has_changed(self, now: float) -> bool:
        """Whether a release has, as far as a look tells: far cheaper than to read all, so that a release is soon here.

        A ledger that does not answer is lost, and opened anew at the next poll.
        """
        if now < self._next_look or self._ledger is None or isinstance(self._ledger, FixedLedger):
            return False
        self._next_look = now + LOOK
        try:
            before, self._changes = self._changes, self._ledger.releases.changes()
        except Exception as error:
            self._lose_ledger(error)
            return False
        return before != self._changes

    def _follow_callers(self, ledger: Ledger | FixedLedger) -> None:
        if self._callers is None:
            return
        assert not isinstance(ledger, FixedLedger), "it has no callers"
        try:
            told = self._callers.follow(ledger.tokens)
        except DiskRefused as error:
            told = f"A changed list of callers cannot be kept, the one before goes on. {error}"
        if told:
            self._reasons.tell("callers", Reason(told))
        else:
            self._reasons.clear("callers")

    def _lose_ledger(self, error: Exception) -> None:
        self._ledger = None
        text = f"The control ledger does not answer ({first_line(error)}); going on with what is live here."
        self._reasons.tell("ledger", Reason(text))

    def _drop_moved(self, listed: set[str]) -> None:
        """Models that the ledger no longer lists: dropped if it moved them to another pool, kept if it lost them."""
        for name in (self._file.models.keys() | self._reasons.models()) - listed:
            try:
                assert not isinstance(self._ledger, FixedLedger | None), "a fixed one lists its release for ever"
                known = self._ledger.releases.champion(name).release_id is not None
            except Exception as error:
                return self._lose_ledger(error)
            if known:
                self._reasons.clear(name)
                self._drop(name)
            elif name in self._file.models:
                text = f"The control ledger knows no release of {name}; going on with the version that is live here."
                self._reasons.tell(name, Reason(text, model=name))
        return None

    def _drop(self, name: str) -> None:
        if name in self._file.models:
            _log.info("%s is served by another pool now", name)
            self._file.change(models={n: release for n, release in self._file.models.items() if n != name})

    def _beat(self, versions: dict[str, int], told: tuple[str, ...]) -> None:
        assert self._ledger is not None
        replica = Replica(self._pool.name, self._pool.replica, self._pool.url, versions, reasons=told)
        try:
            self._ledger.replicas.beat(replica, datetime.now(UTC))
            self._beaten = (versions, told)
            if not isinstance(self._ledger, FixedLedger):
                self._trials.count(self._ledger)
        except Exception as error:
            self._lose_ledger(error)

    def _report_trips(self) -> bool:
        """Tell the ledger at once what this replica's guards have taken off trial; whether there was anything."""
        if self._ledger is None or isinstance(self._ledger, FixedLedger):
            return False
        try:
            return self._trials.report(self._on_trial.values(), self._ledger)
        except Exception as error:
            self._lose_ledger(error)
            return False


def _settings(found: ServingSettings) -> Settings:
    return Settings(found.pinned, found.log_sample, found.not_logged, found.max_concurrent)
