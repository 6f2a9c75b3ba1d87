"""Counters of one worker, as Prometheus text. Written only on the event loop, so without locks."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from evergreen.serving.platform_families import PLATFORM_FAMILIES

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds

FAMILIES = {
    "evergreen_requests_total": (
        "counter",
        "Requests by model, version, arm, caller and outcome (ok, refused, failed)",
    ),
    "evergreen_request_errors_total": ("counter", "Requests that were not answered, by model and reason"),
    "evergreen_requests_in_flight": ("gauge", "Requests under way"),
    "evergreen_requests_in_flight_peak": ("gauge", "The most requests under way at a time since the start"),
    "evergreen_requests_in_flight_limit": ("gauge", "More under way than this in one worker are refused with 429"),
    "evergreen_unauthorised_total": ("counter", "Requests refused for want of a valid token"),
    "evergreen_request_seconds": ("histogram", "Time from a request's headers to its answer, in seconds"),
    "evergreen_rows_total": ("counter", "Rows answered, by model, version and arm"),
    "evergreen_loaded_models": ("gauge", "Models in a worker's memory"),
    "evergreen_model_memory_bytes": ("gauge", "What these take, by the size of their boosters"),
    "evergreen_model_loads_total": ("counter", "Models loaded: a new version, or one that was asked and not in memory"),
    "evergreen_evictions_total": ("counter", "Models evicted to make room for another"),
    "evergreen_ground_truth_total": ("counter", "Records of ground truth that were kept"),
    "evergreen_user_metrics_total": ("counter", "Values of users' metrics that were kept"),
    "evergreen_unseen_categories_total": ("counter", "Values that training did not see, answered as missing"),
    "evergreen_swaps_total": ("counter", "Versions that began to answer"),
    "evergreen_load_failures_total": ("counter", "Releases refused at loading"),
    "evergreen_challenger_failures_total": (
        "counter",
        "Requests that a version on trial did not answer, by arm (canary, shadow) and reason",
    ),
    "evergreen_shadow_dropped_total": ("counter", "Copies for a version in shadow that were dropped, being too many"),
    "evergreen_guard_trips_total": ("counter", "Versions that a guard of this worker took off trial, by reason"),
    "evergreen_model_version": ("gauge", "The version that answers"),
    "evergreen_ready": ("gauge", "1 if every released bundle is loaded"),
    "evergreen_ledger_up": ("gauge", "1 if the control ledger answered within the last 15 s"),
    "evergreen_reasons": ("gauge", "Reasons that /v2/health/ready tells"),
    "evergreen_worker_start_seconds": ("gauge", "When a worker began to count, in Unix seconds"),
    "evergreen_worker_restarts_total": (
        "counter",
        "Workers that were started again, by why they ended (crashed, hung, killed, oom)",
    ),
    "evergreen_log_dropped_rows_total": ("counter", "Answered rows that were not logged, by model and reason"),
    "evergreen_log_lag_seconds": ("gauge", "Age of the oldest logged rows that are not in the store"),
    "evergreen_log_backlog_bytes": ("gauge", "Logged rows that wait on the local disk"),
    "evergreen_log_shipped_rows_total": ("counter", "Logged rows brought into the store since the supervisor's start"),
    "evergreen_memory_bytes": ("gauge", "What a worker holds now (VmRSS)"),
    "evergreen_memory_peak_bytes": ("gauge", "The most that a worker has held since its start (VmHWM)"),
    "evergreen_memory_limit_bytes": ("gauge", "What the replica may hold in all; absent where nothing limits it"),
    **PLATFORM_FAMILIES,
}


class ArmCounts:
    """What is counted for each answer of one version as one arm: plain attributes, bound once."""

    __slots__ = ("answered", "rows", "seconds", "times")

    def __init__(self) -> None:
        self.rows, self.seconds = 0, 0.0
        self.times = [0] * (len(BUCKETS) + 1)
        self.answered: dict[str, int] = {}  # by caller

    def observe(self, caller: str, seconds: float) -> None:
        """Count an answered request and its time."""
        self.times[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds
        self.answered[caller] = self.answered.get(caller, 0) + 1


class Metrics:
    """What one worker counts."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(lambda: defaultdict(float))
        self._arms: dict[tuple[str, int, str], ArmCounts] = {}
        self._began = time.time()

    def add(self, family: str, value: float = 1, **labels: str) -> None:
        """Count up."""
        self._values[family][tuple(labels.items())] += value

    def of(self, model: str, version: int, arm: str) -> ArmCounts:
        """The counts of one version as one arm."""
        key = (model, version, arm)
        found = self._arms.get(key)
        if found is None:
            found = self._arms[key] = ArmCounts()
        return found

    def families(self, worker: str) -> dict[str, list[str]]:
        """Sample lines by family, each labelled with the worker: a restart resets its own counters only."""
        lines: dict[str, list[str]] = defaultdict(list)
        for family, values in self._values.items():
            lines[family] = [_line(family, dict(labels), value, worker) for labels, value in values.items()]
        for (model, version, arm), counts in list(self._arms.items()):
            labels = {"model": model, "version": str(version)}
            for caller, answered in counts.answered.items():
                one = {**labels, "outcome": "ok", **({"caller": caller} if caller else {}), "arm": arm}
                lines["evergreen_requests_total"].append(_line("evergreen_requests_total", one, answered, worker))
            labels["arm"] = arm
            lines["evergreen_rows_total"].append(_line("evergreen_rows_total", labels, counts.rows, worker))
            lines["evergreen_request_seconds"] += _histogram(labels, counts, worker)
        for family, value in (
            ("evergreen_worker_start_seconds", self._began),
            ("evergreen_memory_bytes", memory()),
            ("evergreen_memory_peak_bytes", memory_peak()),
        ):
            lines[family] = [_line(family, {}, value, worker)]
        return dict(lines)


def _histogram(labels: dict[str, str], counts: ArmCounts, worker: str) -> list[str]:
    name, total, lines = "evergreen_request_seconds", 0, []
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts.times, strict=True):
        total += count
        lines.append(_line(f"{name}_bucket", {**labels, "le": bound}, total, worker))
    lines.append(_line(f"{name}_sum", labels, counts.seconds, worker))
    lines.append(_line(f"{name}_count", labels, total, worker))
    return lines


def memory() -> int:
    """VmRSS of this process, in bytes."""
    return _status("VmRSS:")


def memory_peak() -> int:
    """VmHWM of this process, in bytes. Not ru_maxrss, which counts what the process was before its exec too."""
    return _status("VmHWM:")


def _status(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field))) * 1024


def gauge(family: str, value: float, **labels: str) -> dict[str, list[str]]:
    """One sample that belongs to the whole replica."""
    return {family: [_line(family, labels, value, None)]}


def exposition(*parts: Mapping[str, list[str]]) -> str:
    """All parts as one Prometheus page, each family once."""
    page = []
    for family, (kind, text) in FAMILIES.items():
        if lines := [line for part in parts for line in part.get(family, [])]:
            page += [f"# HELP {family} {text}", f"# TYPE {family} {kind}", *lines]
    return "\n".join(page) + "\n"


def _line(name: str, labels: dict[str, str], value: float, worker: str | None) -> str:
    if worker is not None:
        labels = {**labels, "worker": worker}
    text = ",".join(f'{key}="{_escaped(content)}"' for key, content in labels.items())
    number = int(value) if float(value).is_integer() else value
    return f"{name}{{{text}}} {number}" if text else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
