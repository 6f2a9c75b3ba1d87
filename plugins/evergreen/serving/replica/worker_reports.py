"""What the supervisor hears of its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from evergreen.serving import state as files
from evergreen.serving.state import Released, WorkerReport


class WorkerReports:
    """The reports of the living workers (`workers`: slot → process id). Each is read once a time it is written."""

    def __init__(self, folder: Path, workers: Callable[[], Mapping[str, int]]) -> None:
        self._folder, self._workers = folder / files.WORKERS, workers
        self._read: dict[str, tuple[tuple[int, int] | None, WorkerReport | None]] = {}
        self._compared: list[WorkerReport] = []
        self._acknowledged: dict[str, int] = {}

    def all(self) -> list[WorkerReport]:
        """All of them; none while one has not reported yet."""
        reports = []
        for slot, pid in self._workers().items():
            report = self._report(slot)
            if report is None or report.pid != pid:
                return []
            reports.append(report)
        return reports

    def acknowledged(self) -> dict[str, int]:
        """The version of each model that all living workers answer with. Not to be changed: it is kept for the next."""
        reports = self.all()
        if reports != self._compared:
            self._compared, self._acknowledged = reports, _common(reports)
        return self._acknowledged

    def answering(self, model: str) -> list[Released | None]:
        """What each worker answers with for a model."""
        return [report.loaded.get(model) for report in self.all()]

    def refused(self) -> set[str]:
        """The models of which a worker refused a release."""
        return {name for report in self.all() for name in report.refused}

    def _report(self, slot: str) -> WorkerReport | None:
        path = self._folder / f"{slot}.json"
        stamp = files.stamp(path)
        known = self._read.get(slot)
        if known is None or known[0] != stamp:
            known = self._read[slot] = (stamp, files.read(path, WorkerReport))
        return known[1]


def _common(reports: list[WorkerReport]) -> dict[str, int]:
    if not reports:
        return {}
    versions = [{name: r.version for name, r in report.loaded.items()} for report in reports]
    return {n: v for n, v in versions[0].items() if all(other.get(n) == v for other in versions)}
