"""Follows the releases of a pool: ledger → store → local bundles → state file, and heartbeats back.

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

from evergreen.core.errors import BundleRefused
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import Release, Replica
from evergreen.serving import state as files
from evergreen.serving.caller_list import CallerList
from evergreen.serving.fixed import FixedLedger
from evergreen.serving.local_bundles import DiskRefused, LocalBundles
from evergreen.serving.reasons import Reasons, first_line
from evergreen.serving.state import PoolState, Reason, Released, Status, WorkerReport

TICK, POLL, BEAT, RETRY = 0.1, 1.0, 2.0, 5.0  # seconds
_BEATEN_REASONS = 5  # told in a heartbeat
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """Who follows: the pool's name, this replica's name and URL, and its folder."""

    name: str
    replica: str
    url: str
    folder: Path


class Follower:
    """Keeps the state file equal to the ledger, and the list of callers if there is one.

    `workers` names the living workers' slots and pids; `counts` are their restarts and hangs.
    """

    def __init__(
        self,
        pool: Pool,
        open_ledger: Callable[[], Ledger | FixedLedger],
        open_store: Callable[[], Store],
        workers: Callable[[], Mapping[str, int]],
        callers: CallerList | None = None,
        counts: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._pool, self._workers, self._callers, self._counts = pool, workers, callers, counts
        self._open_ledger, self._open_store = open_ledger, open_store
        self._ledger: Ledger | FixedLedger | None = None
        self._store: Store | None = None
        self._bundles = LocalBundles(pool.folder / files.BUNDLES)
        self._state = _last_state(pool.folder / files.STATE)
        self._reasons = Reasons()
        self._retry_at: dict[str, float] = {}
        self._heard_at = 0.0
        self._next_poll = self._next_beat = 0.0
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

    def tick(self) -> None:
        """Poll and beat when due; beat at once when the workers answer with something new."""
        now = time.monotonic()
        if now >= self._next_poll:
            self.poll()
            self._next_poll = time.monotonic() + POLL
        told = tuple(reason.text for reason in self._reasons.all()[:_BEATEN_REASONS])
        beat = (self.acknowledged(), told)
        if self._ledger and (now >= self._next_beat or beat != self._beaten):
            self._beat(*beat)
            self._next_beat = time.monotonic() + BEAT

    def poll(self) -> None:
        """Read what is released and who may ask, and bring what is new into the local files."""
        try:
            self._follow_releases()
            self._mend()
            self._reasons.clear("disk")
        except DiskRefused as error:
            self._reasons.tell("disk", Reason(f"{error} What is live here goes on answering."))
        self._write_status()

    def _follow_releases(self) -> None:
        released = self._live()
        if released is None:
            return
        for release in released:
            self._follow(release)
        self._drop_moved({release.model for release in released})
        if self._state is None:
            self._write(PoolState())

    def _write_status(self) -> None:
        status = Status(self._reasons.all(), self._heard_at, *self._counts(), written_at=time.time())
        try:
            files.write(self._pool.folder / files.STATUS, status)
        except OSError as error:  # in the log and the heartbeat; workers tell that it is old
            self._reasons.tell("status", Reason(str(DiskRefused(self._pool.folder, error))))
        else:
            self._reasons.clear("status")

    def acknowledged(self) -> dict[str, int]:
        """The version of each model that all living workers answer with."""
        reports = self._reports()
        if not reports:
            return {}
        versions = [{name: r.version for name, r in report.loaded.items()} for report in reports]
        return {n: v for n, v in versions[0].items() if all(other.get(n) == v for other in versions)}

    # ------------------------------------------------------------ ledger

    def _live(self) -> list[Release] | None:
        """The pool's releases; none, and a reason, while the ledger does not answer."""
        try:
            self._ledger = self._ledger or self._open_ledger()
            self._follow_callers(self._ledger)  # first: a revoked token must not wait for a bundle
            released = self._ledger.releases.live(self._pool.name)
        except Exception as error:
            self._lose_ledger(error)
            return None
        self._heard_at = time.time()
        self._reasons.clear("ledger")
        return released

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
        for name in (self._models().keys() | self._reasons.models()) - listed:
            try:
                assert self._ledger is not None
                known = self._ledger.releases.champion(name).release_id is not None
            except Exception as error:
                return self._lose_ledger(error)
            if known:
                self._reasons.clear(name)
                self._drop(name)
            elif name in self._models():
                text = f"The control ledger knows no release of {name}; going on with the version that is live here."
                self._reasons.tell(name, Reason(text, model=name))
        return None

    def _drop(self, name: str) -> None:
        if name in self._models():
            _log.info("%s is served by another pool now", name)
            self._write_models({n: release for n, release in self._models().items() if n != name})

    def _beat(self, versions: dict[str, int], told: tuple[str, ...]) -> None:
        assert self._ledger is not None
        replica = Replica(self._pool.name, self._pool.replica, self._pool.url, versions, reasons=told)
        try:
            self._ledger.replicas.beat(replica, datetime.now(UTC))
            self._beaten = (versions, told)
        except Exception as error:
            self._lose_ledger(error)

    # ------------------------------------------------------------ bundles

    def _follow(self, release: Release) -> None:
        """Bring one release into the state file, unless it is there or was just refused."""
        live = self._models().get(release.model)
        if live is not None and live.release_id == release.id:
            return self._reasons.clear(release.model)
        if time.monotonic() < self._retry_at.get(release.id, 0):
            return None
        entry = Released(release.version, release.id, release.bundle, release.generation, self._good(live, release))
        try:
            self._fetch(release.bundle)
            self._write_models({**self._models(), release.model: entry})
        except Exception as error:
            return self._cannot_fetch(release, live, error)
        self._reasons.clear(release.model)
        _log.info("%s: version %d is to be served (release %s)", release.model, release.version, release.id)
        return None

    def _fetch(self, bundle: str) -> None:
        self._store = self._store or self._open_store()
        try:
            self._bundles.fetch(bundle, self._store)
        except DiskRefused:
            raise
        except Exception:
            self._store = None  # opened anew at the next try
            raise

    def _cannot_fetch(self, release: Release, live: Released | None, error: Exception) -> None:
        self._retry_at[release.id] = time.monotonic() + RETRY
        kept = f"version {live.version} goes on answering" if live else "no version answers here"
        if isinstance(error, BundleRefused):
            text = f"{release.model} version {release.version} is refused, {kept}. {error}"
        elif isinstance(error, DiskRefused):
            text = f"{release.model} version {release.version} cannot be kept here, {kept}. {error}"
        else:
            missing = f"the store has no {error}" if isinstance(error, KeyError) else first_line(error)
            text = f"{release.model} version {release.version} cannot be fetched, {kept}: {missing}"
        refused = isinstance(error, BundleRefused | KeyError)
        blocks = live is None or isinstance(error, BundleRefused)
        self._reasons.tell(release.model, Reason(text, model=release.model, blocks=blocks, refused=refused))

    def _good(self, live: Released | None, release: Release) -> Released | None:
        """What to fall back on: the release before, or the one before that if workers refused it."""
        if live is None:
            return None
        answering = [report.loaded.get(release.model) for report in self._reports()]
        refused = any(loaded is not None and loaded.release_id != live.release_id for loaded in answering)
        good = live.previous if refused and live.previous else live
        return Released(good.version, good.release_id, good.bundle, good.generation)

    def _mend(self) -> None:
        """Where a worker refused a bundle because the local copy is damaged: fetch it again."""
        refused = {name for report in self._reports() for name in report.refused}
        for name in refused & self._models().keys():
            entry = self._models()[name]
            if time.monotonic() < self._retry_at.get(entry.release_id, 0) or self._bundles.is_intact(entry.bundle):
                continue
            self._retry_at[entry.release_id] = time.monotonic() + RETRY
            try:
                self._fetch(entry.bundle)
            except Exception as error:
                text = f"{name}: its damaged local bundle cannot be fetched again ({first_line(error)})."
                self._reasons.tell(name, Reason(text, model=name))
            else:
                self._write_models(self._models())

    # ------------------------------------------------------------ files

    def _reports(self) -> list[WorkerReport]:
        """The living workers' reports; none of them while one has not reported yet."""
        reports = []
        for slot, pid in self._workers().items():
            report = files.read(self._pool.folder / files.WORKERS / f"{slot}.json", WorkerReport)
            if report is None or report.pid != pid:
                return []
            reports.append(report)
        return reports

    def _models(self) -> dict[str, Released]:
        return self._state.models if self._state else {}

    def _write_models(self, models: dict[str, Released]) -> None:
        self._write(PoolState((self._state.revision if self._state else 0) + 1, models))

    def _write(self, state: PoolState) -> None:
        """Raises DiskRefused; the state before goes on then."""
        try:
            files.write(self._pool.folder / files.STATE, state, durable=True)
        except OSError as error:
            raise DiskRefused(self._pool.folder, error) from error
        self._state = state
        both = [entry for release in state.models.values() for entry in (release, release.previous) if entry]
        self._bundles.keep_only({entry.bundle for entry in both})


def _last_state(path: Path) -> PoolState | None:
    try:
        return files.read(path, PoolState)
    except ValueError as error:
        _log.error("%s. It is written anew from the ledger", error)
        return None
