"""The running demo: what it waits for, what it tells, and what it notes for the final table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError
from evergreen.core.records import ON_TRIAL, RequestState

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from evergreen.core.ports import Ledger
    from evergreen.core.records import Cause, Release, TriggerRequest
    from evergreen.demo.caller import Caller
    from evergreen.demo.stage import Stage
    from evergreen.demo.warehouse import Warehouse

DELAY, AIRTIME = "flight-delay", "flight-airtime"
PATIENCE = 150.0  # seconds that one retrain may take before the demo gives up
POLL = 0.25


class DemoFailed(EvergreenError):
    """Raised when something that the demo promises did not happen."""


@dataclass
class Chapter:
    """One row of the final table."""

    what: str
    outcome: str
    seconds: float


@dataclass
class Story:
    """The stage that it plays on, a caller of each model that never stops asking, and the chapters so far."""

    console: Console
    stage: Stage
    ledger: Ledger
    warehouse: Warehouse
    callers: dict[str, Caller]
    ask: bool = False  # whether a person answers the approval
    chapters: list[Chapter] = field(default_factory=list)

    def land(self, name: str, batch: pl.DataFrame) -> float:
        """Load a batch; the moment when it had landed."""
        rows = self.warehouse.load(batch)
        self.console.print(f"\n[bold]{name}[/bold]: {rows:,} flights land in the warehouse")
        return time.monotonic()

    def known_requests(self, model: str) -> set[str]:
        """The ids of a model's requests so far."""
        return {request.id for request in self.ledger.requests.latest(model, limit=1000)}

    def retrain(self, model: str, reason: str) -> None:
        """Ask for a retrain through Airflow's API, as `evergreen retrain` does."""
        self.stage.api(self.stage.admin).trigger(model, {"requested_by": "demo", "reason": reason})

    def wait_for(
        self,
        what: str,
        model: str,
        known: set[str],
        accept: Callable[[TriggerRequest], bool],
        patience: float = PATIENCE,
    ) -> TriggerRequest:
        """The first new request of the model that `accept` wants; DemoFailed if it fails, or none comes in time.

        The stages of a trial are told as they come.
        """
        deadline, stages = time.monotonic() + patience, self._stages_to_come(model)
        with self._waiting(what) as say:
            while time.monotonic() < deadline:
                for request in self.ledger.requests.latest(model, limit=20):
                    if request.id in known:
                        continue
                    say(f"{request.cause}: {request.step or 'admitted'}")
                    next(stages)
                    if accept(request):
                        return request
                    if request.state is RequestState.FAILED:
                        raise DemoFailed(f"{what}: the run failed at {request.step}: {request.reason}")
                time.sleep(POLL)
        raise DemoFailed(f"{what}: not within {patience:.0f} s. Look at {self.stage.pages} and {self.stage.logs}")

    def served(self, what: str, model: str, known: set[str], cause: Cause) -> TriggerRequest:
        """The new request of this cause, once it is served."""
        return self.wait_for(what, model, known, lambda r: r.state is RequestState.SERVED and r.cause is cause)

    def goes_live(self, what: str, model: str, known: set[str], began: float, cause: Cause) -> Release:
        """Wait until a request of this cause is served by a release that answers callers."""
        request = self.served(what, model, known, cause)
        release = next((r for r in self.ledger.releases.history(model) if r.request_id == request.id), None)
        if release is None:
            raise DemoFailed(f"{what}: nothing was released: {request.reason}")
        self.answers(what, release, began, self._trial_of(release))
        return release

    def answers(self, what: str, release: Release, began: float, by_way_of: str = "") -> None:
        """Wait until callers see the release, and note it. `by_way_of` says how it came to them."""
        if not self.callers[release.model].wait_for(release.version, 30):
            raise DemoFailed(f"{what}: version {release.version} was released and does not answer")
        self.tell(what, f"{release.model} version {release.version} answers{by_way_of}", time.monotonic() - began)

    def tell(self, what: str, outcome: str, seconds: float) -> None:
        """Note a chapter, and print it."""
        self.chapters.append(Chapter(what, outcome, seconds))
        self.console.print(f"[green]✓[/green] {what}: {outcome} after {seconds:.1f} s")

    def _stages_to_come(self, model: str) -> Iterator[None]:
        """Each `next` tells of the stages of the model's trials that have begun since the one before."""
        seen = len(self.ledger.releases.events(model))
        while True:
            events = self.ledger.releases.events(model)
            for event in events[seen:]:
                if event.state in ON_TRIAL:
                    told = f"version {event.version} is in {event.state}: {event.reason}"
                    self.console.print(f"[dim]{told}[/dim]", soft_wrap=True)
            seen = len(events)
            yield

    def _trial_of(self, release: Release) -> str:
        """' (shadow, canary, bake)'; empty for one that went live at once."""
        events = (e for e in self.ledger.releases.events(release.model) if e.release_id == release.id)
        stages = dict.fromkeys(str(event.state) for event in events if event.state in ON_TRIAL)
        return f" ({', '.join(stages)})" if stages else ""

    @contextmanager
    def _waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """A live line that says what is waited for and where it stands."""
        began = time.monotonic()
        with self.console.status(what) as status:
            yield lambda now: status.update(f"{what} [dim]({now}, {time.monotonic() - began:.0f} s)[/dim]")
