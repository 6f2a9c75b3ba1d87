"""The control group that this process lives in: what the kernel lets it hold."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def own_cgroup() -> Path:
    """Its folder: in a container the root, else what the process says."""
    if (_ROOT / "memory.events").exists():
        return _ROOT
    try:
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return _ROOT
    return _ROOT / own.lstrip("/")


@cache
def memory_limit(folder: Path | None = None) -> int | None:
    """Bytes that all processes of the group may hold together; none where nothing limits them, or no cgroup v2 is."""
    try:
        return int(((folder or own_cgroup()) / "memory.max").read_text())
    except (OSError, ValueError):  # "max"
        return None
