"""Worker processes, on this machine or on several, that do one piece of work together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

Terms = TypeVar("Terms")
Result = TypeVar("Result")


class BrokenOff(Exception):
    """Raised by work whose fellow workers no longer answer: for no fault of its own, so it is worth beginning anew."""


@dataclass(frozen=True)
class Place:
    """Where a worker stands: the `number`-th (from 0) of `count`, with so many threads of its own.

    `tell` says that the work gets on; it costs next to nothing. It raises BrokenOff where nobody waits for the work
    any more. Work that tells nothing for long is ended.
    """

    number: int
    count: int
    threads: int
    tell: Callable[[str], None]


class Cluster(Protocol):
    """What it runs goes to other processes: functions of a module, and arguments that can be pickled."""

    def together(
        self, begin: Callable[[str, int], Terms], work: Callable[[Terms, Place], Result], *, what: str
    ) -> list[Result]:
        """`work` once on each worker, all at once, after `begin(host, count)` on the first, whose answer all are given.

        `host` is the address at which the others reach the first. Returns the workers' answers, in order of their
        number. Where a worker is lost, or nothing gets on, or the work raises BrokenOff, all of it is begun anew, a few
        times (`what` is its name in the log). Raises ClusterFailed if that does not help or the cluster cannot be
        reached, and anything else that the work itself raises at once. Nothing of it runs on afterwards.
        """
