"""Where answers are kept, for those who answer: a pool keeps them (serving.prediction_log), a rehearsal does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from evergreen.core.records import Truth, UserMetric
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.endpoint import Asked
from evergreen.serving.refusals import RequestRefused, refuse
from evergreen.serving.state import Reason, Shipping


class Log(Protocol):
    """Keeps what was answered. May be called from any thread."""

    def add(
        self, model: LoadedModel, arm: str, asked: Sequence[Asked], predictions: np.ndarray, ids: Sequence[str]
    ) -> None:
        """Keep one predict call: rows and predictions of all requests in it, an inference id a row. Never raises."""

    def add_truth(self, model: str, records: Sequence[Truth]) -> None:
        """Keep what turned out to be true. Raises RequestRefused (503) where it cannot be kept."""

    def add_metrics(self, model: str, records: Sequence[UserMetric]) -> None:
        """Keep values of users' metrics. Raises RequestRefused (503) where they cannot be kept."""

    def reasons(self) -> list[Reason]:
        """What ops should know of the log; nothing here blocks readiness."""

    def shipping(self) -> Shipping:
        """How far the supervisor is with shipping."""

    async def run(self) -> None:
        """For ever, beside the answers."""

    def close(self) -> None:
        """At the worker's end: what is written can be shipped."""


class NoLog:
    """Keeps nothing: in a rehearsal, whose callers are the platform's own."""

    def add(
        self, model: LoadedModel, arm: str, asked: Sequence[Asked], predictions: np.ndarray, ids: Sequence[str]
    ) -> None:
        """Nothing."""

    def add_truth(self, model: str, records: Sequence[Truth]) -> None:
        """Raises RequestRefused: a caller must not believe that it was kept."""
        raise _keeps_no_log("ground truth")

    def add_metrics(self, model: str, records: Sequence[UserMetric]) -> None:
        """Raises RequestRefused, for the same reason."""
        raise _keeps_no_log("metrics")

    def reasons(self) -> list[Reason]:
        """None."""
        return []

    def shipping(self) -> Shipping:
        """Nothing to ship."""
        return Shipping()

    async def run(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to close."""


def _keeps_no_log(what: str) -> RequestRefused:
    found = "a server that keeps no log"
    return refuse(503, what, found=found, allowed="a serving pool", do="Send it to a pool.")
