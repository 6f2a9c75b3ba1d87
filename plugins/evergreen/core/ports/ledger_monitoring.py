"""The parts of the ledger that the monitor writes: values of metrics, the state of rules, alerts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import Alert, MetricPoint, RuleState


class Points(Protocol):
    """Values of metrics by period. What was computed earlier stays, beside what counts now."""

    def put(self, points: Iterable[MetricPoint]) -> int:
        """Keep those that say something new, in one transaction; how many did.

        One says nothing new where the point that counts (of the same model, version, name, slice and period) has the
        same value, rows, low and high, or was computed later. Values that are not finite are left out, bounds that
        are not become none. Written for as many as a pass over a thousand models makes, in one call.
        """

    def latest(
        self, model: str, *, names: Collection[str] | None = None, since: datetime | None = None
    ) -> list[MetricPoint]:
        """Of each version, name, slice and period the point that counts, which is the one computed last, by name,
        slice, version and start.

        `since`: of periods that end after then. It is fast where `since` is given.
        """

    def newest(self, models: Collection[str], names: Collection[str], since: datetime) -> list[MetricPoint]:
        """Of each of these models, its versions and these metrics, over all rows: the point that counts of the newest
        period that ends after `since`, by model, name and version. For many models at once.
        """

    def history(self, model: str, name: str, slice: str, start: datetime) -> list[MetricPoint]:
        """All points of the periods that begin then, of all versions, in order of `computed_at`."""

    def thin(
        self,
        model: str,
        before: datetime,
        *,
        keep: Collection[str] = (),
        longest: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove points of a model's periods that ended before then; how many went, or in a dry run would go.

        Those that count of the metrics in `keep` stay where their period ended after `longest` (None: however old). A
        name in `keep` that ends in a dot stands for all that begin with it.
        """


class Alerts(Protocol):
    """The state of rules, and alerts with their history."""

    def states(self, models: Collection[str] | None = None) -> dict[tuple[str, str], RuleState]:
        """By model and rule; None: of all models."""

    def save(self, states: Iterable[RuleState]) -> None:
        """Keep each in place of the one before, in one transaction."""

    def open(self, alert: Alert, state: RuleState) -> Alert:
        """Open an alert and keep its rule's state, in one transaction.

        A rule that has an open one keeps that: it comes back. One of this id that was closed since comes back as it
        is. The state is kept with the id of the alert that is open now, whatever it says itself.
        """

    def update(self, alert_id: str, *, worst: float | None = None, request_id: str | None = None) -> None:
        """Tell what became of an open one; a closed one stays as it is. KeyError if there is no such alert."""

    def close(self, alert_id: str, state: RuleState, *, why: str, value: float | None, now: datetime) -> Alert:
        """Close it and keep its rule's state, in one transaction. Closed already: it stays as it is.

        KeyError if there is no such alert: then no state is kept either.
        """

    def open_ones(self, model: str | None = None) -> list[Alert]:
        """Those that are open, oldest first."""

    def history(self, model: str | None = None, *, since: datetime | None = None, limit: int = 1000) -> list[Alert]:
        """The newest that were open after `since`, newest first."""

    def caused(self, request_id: str) -> Alert | None:
        """The alert that asked for this retrain, whether or not it asked again since."""
