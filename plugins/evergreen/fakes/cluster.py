"""A cluster of one worker: the process that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from evergreen.core.errors import ClusterFailed
from evergreen.core.ports.cluster import BrokenOff, Place

Terms = TypeVar("Terms")
Result = TypeVar("Result")


class OneProcess:
    """Twin of adapters.dask_cluster. `told`: what the work said of its progress."""

    def __init__(self, tries: int = 4) -> None:
        self._tries = tries
        self.told: list[str] = []

    def together(
        self, begin: Callable[[str, int], Terms], work: Callable[[Terms, Place], Result], *, what: str
    ) -> list[Result]:
        """See Cluster."""
        last = ""
        for _ in range(self._tries):
            try:
                return [work(begin("127.0.0.1", 1), Place(0, 1, 1, self.told.append))]
            except BrokenOff as broken:
                last = str(broken)
        raise ClusterFailed(what, found=f"{self._tries} tries that broke off, the last: {last}", allowed="one", do="-")
