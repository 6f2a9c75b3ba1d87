"""What a worker tells the supervisor and the other workers of its replica, and what it hears of them."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import msgspec

from evergreen.serving import state as files
from evergreen.serving.metrics import Metrics
from evergreen.serving.state import Platform, Reason, Released, Status, WorkerReport

REPORT_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Reports:
    """One worker's report in the folder `workers/`, and the files that others write."""

    def __init__(self, folder: Path, slot: str, metrics: Metrics) -> None:
        self._folder, self._slot, self._metrics = folder, slot, metrics
        self._told: object = None
        self._told_at = float("-inf")
        self._unwritten = ""  # why the report cannot be written

    def tell(self, revision: int, answering: dict[str, Released], refused: dict[str, str], *, metrics: bool) -> None:
        """Write the report: at a change at once, else every second."""
        now, current = time.monotonic(), (revision, answering, refused)
        if current == self._told and now - self._told_at < REPORT_SECONDS:
            return
        counted = self._metrics.families(self._slot) if metrics else {}
        self._told, self._told_at = current, now
        try:
            report = WorkerReport(os.getpid(), revision, answering, refused, counted)
            files.write(self._folder / files.WORKERS / f"{self._slot}.json", report)
        except OSError as error:
            if not self._unwritten:
                _log.error("the report in %s cannot be written: %s", self._folder, error.strerror)
            self._unwritten = str(error.strerror)
        else:
            self._unwritten = ""

    def reasons(self) -> list[Reason]:
        """Why the others do not hear of this worker, if so."""
        if not self._unwritten:
            return []
        return [Reason(f"A worker cannot write its report to {self._folder}: {self._unwritten}.")]

    def status(self) -> Status:
        """The supervisor's view, as far as it can be read."""
        try:
            return files.read(self._folder / files.STATUS, Status) or Status()
        except (ValueError, OSError) as error:
            return Status(reasons=[Reason(f"{files.STATUS} cannot be read: {error}")])

    def platform(self) -> Platform:
        """What the supervisor read last of the platform; nothing where that cannot be read."""
        try:
            return files.read(self._folder / files.PLATFORM, Platform) or Platform()
        except (ValueError, OSError):
            return Platform()

    def others_metrics(self) -> list[dict[str, list[str]]]:
        """What the other workers counted, from their reports."""
        own = f"{self._slot}.json"
        found = []
        for path in sorted((self._folder / files.WORKERS).glob("[0-9]*.json")):
            if path.name != own:
                try:
                    report = files.read(path, WorkerReport)
                except (ValueError, msgspec.MsgspecError):
                    continue
                if report:
                    found.append(report.metrics)
        return found
