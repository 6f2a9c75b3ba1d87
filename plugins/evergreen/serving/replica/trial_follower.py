"""Follows the releases on trial of a pool, and tells the ledger what this replica counts of them and what tripped here.

Runs in the serving supervisor's follower. While the ledger is away the last trials go on, and a trip here is obeyed
here; it is told when the ledger is back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from evergreen.core.errors import BundleRefused
from evergreen.core.guarding import judge
from evergreen.core.ports import Ledger
from evergreen.core.records import CHALLENGER, CHAMPION, ArmCount, Release, Trip, TripKind
from evergreen.serving.reasons import Reasons, first_line
from evergreen.serving.replica.local_bundles import DiskRefused
from evergreen.serving.state import Reason, Released, Rules, Trial
from evergreen.serving.trials.guard_file import GUARD, GuardFile, files_of
from evergreen.serving.trials.latch import Latched, latch, latched, unlatch

RETRY = 5.0  # seconds until a bundle is fetched again
PATIENCE = 0.5  # seconds from a flag to its latch
LINGERS = 10.0  # seconds that counts are kept and told after a trial: workers end theirs a moment later
_log = logging.getLogger(__name__)


class TrialFollower:
    """Of one replica.

    `fetch` says whether a bundle is here, verified; else it is on its way. It raises as Fetches.have does.
    """

    def __init__(self, folder: Path, replica: str, fetch: Callable[[str], bool], reasons: Reasons) -> None:
        self._folder, self._replica, self._fetch, self._reasons = folder, replica, fetch, reasons
        self._here: set[str] = set()  # releases whose bundle is here
        self._retry_at: dict[str, float] = {}
        self._trips: set[str] = set()  # releases that the ledger knows to have tripped
        self._flagged: dict[str, float] = {}  # release without a latch → when its flag was first seen
        self._ended: dict[str, float] = {}  # release of a guard file → when it was first seen to be off trial
        self._files: dict[tuple[str, str], GuardFile] = {}
        self._told: dict[str, str] = {}  # reasons, by model

    def follow(self, pool: str, ledger: Ledger) -> dict[str, Trial]:
        """The trials that workers are to run, by model. Raises what the ledger raises."""
        releases = ledger.releases.on_trial(pool)
        trips = ledger.trials.trips([release.id for release in releases])
        self._trips = set(trips)
        trials, reasons = {}, {}
        for release in releases:
            tripped = trips[release.id].reason if release.id in trips else ""
            reasons[release.model] = self._off(release, tripped) or self._bundle(release)
            if tripped or release.id in self._here:
                trials[release.model] = _trial(release, tripped)
        self._tell(reasons)
        self._forget({release.id for release in releases})
        return trials

    def report(self, trials: Iterable[Trial], ledger: Ledger) -> bool:
        """Tell the ledger what has tripped here; whether there was anything. Raises what the ledger raises."""
        told = False
        for trial in trials:
            release_id = trial.release.release_id
            if trial.tripped or release_id in self._trips:
                continue
            if found := self._tripped(trial):
                at = datetime.fromtimestamp(found.at, UTC)
                ledger.trials.trip(Trip(release_id, self._replica, found.kind, found.reason, at))
                self._trips.add(release_id)
                told = True
        return told

    def count(self, ledger: Ledger) -> None:
        """Tell the ledger what this replica has counted, also of trials that have just ended.

        Whole sums, each in place of the one before: told twice or after a restart, nothing counts twice.
        """
        counts = [
            self._arm_count(file, arm)
            for release_id, stage in files_of(self._folder)
            if (file := self._file(release_id, stage))
            for arm in (CHAMPION, CHALLENGER)
        ]
        counts = [count for count in counts if count.requests]
        if counts:
            ledger.trials.count(counts)

    def _arm_count(self, file: GuardFile, arm: str) -> ArmCount:
        c, where = file.counted(arm), (file.release_id, file.stage, arm, self._replica, file.boot)
        return ArmCount(*where, c.requests, c.faults, tuple(c.latency), tuple(c.predictions))

    def _off(self, release: Release, tripped: str) -> str:
        """Why it is off trial, here or in the whole pool; empty if it is not."""
        found = latched(self._folder, release.id)
        if found:
            self._here.add(release.id)  # to be tripped in the ledger, it must be among the trials
        if not (reason := tripped or (found.reason if found else "")):
            return ""
        return f"{release.model} version {release.version} is off trial, the champion answers: {reason}."

    def _bundle(self, release: Release) -> str:
        """Have its bundle here; why that is not so. A bundle that no waiting would change takes it off trial."""
        if release.id in self._here or time.monotonic() < self._retry_at.get(release.id, 0):
            return self._told.get(release.model, "")
        try:
            if not self._fetch(release.bundle):
                return ""
        except (BundleRefused, KeyError) as error:
            text = f"the store has no {error}" if isinstance(error, KeyError) else str(error)
            latch(self._folder, release.id, TripKind.FAULTS, f"its bundle is refused: {text}")
            return self._off(release, "")
        except Exception as error:
            self._retry_at[release.id] = time.monotonic() + RETRY
            why = str(error) if isinstance(error, DiskRefused) else first_line(error)
            name = f"{release.model} version {release.version}"
            return f"{name} cannot be tried yet, the champion answers: its bundle cannot be fetched ({why})."
        self._here.add(release.id)
        _log.info("%s version %d is on trial, %s (%s)", release.model, release.version, release.stage, release.id)
        return ""

    def _tripped(self, trial: Trial) -> Latched | None:
        """By its latch, else by the flag alone: who set it may have died before the latch was there."""
        release_id = trial.release.release_id
        if found := latched(self._folder, release_id):
            return found
        file = self._file(release_id, trial.stage)
        if file is None or (kind := file.tripped) is None:
            return None
        now = time.monotonic()
        if now - self._flagged.setdefault(release_id, now) < PATIENCE:
            return None  # who set it is about to say why
        finding = judge(trial.rules, file.counted(CHALLENGER), file.counted(CHAMPION))
        return latch(self._folder, release_id, kind, finding.reason if finding else f"its {kind} are over the limit")

    def _file(self, release_id: str, stage: str) -> GuardFile | None:
        """None where no worker counts yet, or what is there cannot be read."""
        key = (release_id, stage)
        if key not in self._files and (self._folder / GUARD / ".".join(key)).exists():
            try:
                self._files[key] = GuardFile(self._folder, *key)
            except (OSError, ValueError) as error:
                _log.error("%s", error)
        return self._files.get(key)

    def _tell(self, reasons: dict[str, str]) -> None:
        """What ops should know, as long as the ledger has the release on trial."""
        for model in self._told.keys() | reasons.keys():
            if text := reasons.get(model):
                self._reasons.tell(f"trial of {model}", Reason(text, model=model))
            else:
                self._reasons.clear(f"trial of {model}")
        self._told = {model: text for model, text in reasons.items() if text}

    def _forget(self, on_trial: set[str]) -> None:
        """Remove what belongs to trials that have ended, once it has been told for the last time."""
        now = time.monotonic()
        kept = {release_id for release_id, _ in files_of(self._folder)} - on_trial
        self._ended = {release_id: self._ended.get(release_id, now) for release_id in kept}
        for release_id, stage in files_of(self._folder):
            if now - self._ended.get(release_id, now) > LINGERS:
                self._files.pop((release_id, stage), None)
                (self._folder / GUARD / f"{release_id}.{stage}").unlink(missing_ok=True)
        unlatch(self._folder, on_trial | {release for release, since in self._ended.items() if now - since <= LINGERS})
        self._here &= on_trial
        self._flagged = {release_id: since for release_id, since in self._flagged.items() if release_id in on_trial}


def _trial(release: Release, tripped: str) -> Trial:
    plan = release.plan
    assert plan, "what is on trial has a plan"
    rules = Rules(plan.min_requests, plan.error_rate, plan.latency_p99_ms, plan.prediction_psi)
    released = Released(release.version, release.id, release.bundle, release.generation)
    return Trial(released, release.stage, release.weight, rules, tripped)
