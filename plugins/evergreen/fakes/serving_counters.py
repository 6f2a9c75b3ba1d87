"""What serving counts, in memory."""

from __future__ import annotations

from evergreen.core.errors import ServingFailed
from evergreen.core.ports import Served


class InMemoryServingCounters:
    """Twin of adapters.serving_counters: a test says what each replica has counted, by URL."""

    def __init__(self) -> None:
        self.counted: dict[str, list[Served]] = {}

    def read(self, url: str) -> list[Served]:
        """Those of the replica at this URL. Raises ServingFailed where it does not answer."""
        if url not in self.counted:
            raise ServingFailed(f"{url}/metrics: ConnectError")
        return sorted(self.counted[url], key=lambda one: (one.boot, one.model, one.version, one.arm))
