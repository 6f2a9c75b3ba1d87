"""Serving, as judge and roll_back ask it: over HTTP, and in throwaway copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from evergreen.core.slot_health import SlotFacts


GRACE = 5.0  # seconds from SIGTERM to SIGKILL


@dataclass(frozen=True)
class Answer:
    """What serving answered: one prediction a row (a number, or one a class), and how long it took."""

    version: int
    predictions: Sequence[Any]
    milliseconds: float


class ServingConnection(Protocol):
    """One keep-alive connection."""

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """POST the rows to the plain records endpoint. Raises ServingFailed when it refuses or does not answer."""

    def tell(self, model: str, records: Sequence[Mapping[str, Any]]) -> int:
        """POST ground truth (inference_id, label, at); how many records were kept. Raises ServingFailed as predict."""


class ServingClient(Protocol):
    """Asks serving over HTTP, as callers do."""

    def connect(self, url: str) -> AbstractContextManager[ServingConnection]:
        """One connection to the serving process at this URL, closed with the context."""

    def readiness(self, url: str) -> str:
        """What keeps the serving process at this URL from being ready, in its own words; empty where it is."""


class Slot(Protocol):
    """A throwaway serving process that is up."""

    @property
    def url(self) -> str:
        """Where it answers."""

    def memory_mb(self) -> float:
        """The highest resident memory of the process that answers, so far, in MB (10^6 bytes)."""


class RehearsalSlots(Protocol):
    """Throwaway copies of the serving program."""

    @property
    def beside(self) -> bool:
        """Whether two can be up at once. Where not, another start waits until the slot is free."""

    def start(self, model: str, version: int, bundle: str) -> AbstractContextManager[Slot]:
        """Serve this version of this model, and nothing else; stopped with the context.

        Returns once it answers for the model. Raises RehearsalFailed, with what it said, where it does not get
        ready in time, refuses the bundle or dies, also at the end of the context where it ran out of memory
        meanwhile. Raises LeaseBusy where others have the slot for long, SlotUnavailable where there is none.
        """


class SlotContainers(Protocol):
    """The container slots, by name: looked at, started, restarted, stopped, and nothing else."""

    def look(self, slot: str) -> SlotFacts:
        """What Docker says of it now; state `absent` where there is no such container. Raises SlotUnavailable."""

    def start(self, slot: str) -> None:
        """Start it; one that runs stays as it is. Raises SlotUnavailable."""

    def restart(self, slot: str) -> None:
        """Stop it, if it runs, and start it. Raises SlotUnavailable."""

    def stop(self, slot: str, grace: float = GRACE) -> None:
        """Stop it, with so many seconds to end by itself; one that does not run stays as it is.

        Raises SlotUnavailable.
        """
