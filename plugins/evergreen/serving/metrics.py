"""Counters of one worker, as Prometheus text. Written only on the event loop, so without locks."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds

_FAMILIES = {
    "evergreen_requests_total": ("counter", "Requests by model, version, outcome (ok, refused, failed) and caller"),
    "evergreen_unauthorised_total": ("counter", "Requests refused for want of a valid token"),
    "evergreen_request_seconds": ("histogram", "Time from a request's headers to its answer, in seconds"),
    "evergreen_rows_total": ("counter", "Rows answered"),
    "evergreen_unseen_categories_total": ("counter", "Values that training did not see, answered as missing"),
    "evergreen_swaps_total": ("counter", "Versions that began to answer"),
    "evergreen_load_failures_total": ("counter", "Releases refused at loading"),
    "evergreen_model_version": ("gauge", "The version that answers"),
    "evergreen_ready": ("gauge", "1 if every released bundle is loaded"),
    "evergreen_ledger_up": ("gauge", "1 if the control ledger answered within the last 15 s"),
    "evergreen_reasons": ("gauge", "Reasons that /v2/health/ready tells"),
    "evergreen_worker_restarts_total": ("counter", "Workers that died or hung and were started again"),
    "evergreen_worker_hangs_total": ("counter", "Workers that were killed because they hung"),
    "evergreen_memory_peak_bytes": ("gauge", "The most that a worker has held since its start (VmHWM)"),
}


class Metrics:
    """What one worker counts."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(lambda: defaultdict(float))
        self._times: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def add(self, family: str, value: float = 1, **labels: str) -> None:
        """Count up."""
        self._values[family][tuple(labels.items())] += value

    def observe(self, model: str, seconds: float) -> None:
        """Count one request's time."""
        self._times[model][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[model] += seconds

    def families(self, worker: str) -> dict[str, list[str]]:
        """Sample lines by family, each labelled with the worker: a restart resets its own counters only."""
        lines: dict[str, list[str]] = {
            family: [_line(family, dict(labels), value, worker) for labels, value in values.items()]
            for family, values in self._values.items()
        }
        lines["evergreen_memory_peak_bytes"] = [_line("evergreen_memory_peak_bytes", {}, memory_peak(), worker)]
        for model in self._times:
            lines.setdefault("evergreen_request_seconds", []).extend(self._histogram(model, worker))
        return lines

    def _histogram(self, model: str, worker: str) -> list[str]:
        name, total, lines = "evergreen_request_seconds", 0, []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], self._times[model], strict=True):
            total += count
            lines.append(_line(f"{name}_bucket", {"model": model, "le": bound}, total, worker))
        lines.append(_line(f"{name}_sum", {"model": model}, self._seconds[model], worker))
        lines.append(_line(f"{name}_count", {"model": model}, total, worker))
        return lines


def memory_peak() -> int:
    """VmHWM of this process, in bytes. Not ru_maxrss, which counts what the process was before its exec too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) * 1024


def gauge(family: str, value: float, **labels: str) -> dict[str, list[str]]:
    """One sample that belongs to the whole replica."""
    return {family: [_line(family, labels, value, None)]}


def exposition(*parts: Mapping[str, list[str]]) -> str:
    """All parts as one Prometheus page, each family once."""
    page = []
    for family, (kind, text) in _FAMILIES.items():
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
