"""What `make demo` plays: a first model, a retrain by new data, a batch stopped and repaired."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from evergreen import supervisor, wiring
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import EvergreenError
from evergreen.core.records import Cause, RequestState
from evergreen.demo.caller import Caller
from evergreen.demo.warehouse import Warehouse, corrupted, months

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from evergreen.core.ports import Ledger
    from evergreen.core.records import Release, TriggerRequest

MODEL = "flight-delay"
PATIENCE = 150.0  # seconds that one retrain may take before the demo gives up
POLL = 0.25
MARK = "made-by-demo"


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
    """The running demo."""

    console: Console
    settings: wiring.Settings
    stack: supervisor.Stack
    ledger: Ledger
    warehouse: Warehouse
    chapters: list[Chapter] = field(default_factory=list)

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """A live line that says what is waited for and where it stands."""
        began = time.monotonic()
        with self.console.status(what) as status:
            yield lambda now: status.update(f"{what} [dim]({now}, {time.monotonic() - began:.0f} s)[/dim]")

    def wait_for_request(
        self, what: str, known: set[str], *, accept: Callable[[TriggerRequest], bool]
    ) -> TriggerRequest:
        """The first new trigger request that ended as `accept` wants; DemoFailed if none does in time."""
        deadline = time.monotonic() + PATIENCE
        with self.waiting(what) as say:
            while time.monotonic() < deadline:
                for request in self._new_requests(known):
                    say(f"{request.cause}: {request.step or 'admitted'}")
                    if accept(request):
                        return request
                    if request.state is RequestState.FAILED:
                        raise DemoFailed(f"{what}: the run failed at {request.step}: {request.reason}")
                time.sleep(POLL)
        raise DemoFailed(
            f"{what}: not within {PATIENCE:.0f} s. Look at {self.stack.airflow_url} and {self.settings.home / 'logs'}"
        )

    def _new_requests(self, known: set[str]) -> list[TriggerRequest]:
        return [request for request in self.ledger.requests.latest(MODEL, limit=20) if request.id not in known]

    def known_requests(self) -> set[str]:
        """The ids of all requests so far."""
        return {request.id for request in self.ledger.requests.latest(MODEL, limit=1000)}

    def goes_live(self, what: str, caller: Caller, known: set[str], landed: float, *, cause: Cause) -> Release:
        """Wait until a request of this cause is served by a release that answers callers."""
        request = self.wait_for_request(
            what, known, accept=lambda r: r.state is RequestState.SERVED and r.cause is cause
        )
        releases = [r for r in self.ledger.releases.history(MODEL) if r.request_id == request.id]
        if not releases:
            raise DemoFailed(f"{what}: nothing was released: {request.reason}")
        release = releases[-1]
        if not caller.wait_for(release.version, 30):
            raise DemoFailed(f"{what}: version {release.version} was released and does not answer")
        seconds = time.monotonic() - landed
        self.tell(what, f"version {release.version} answers", seconds)
        return release

    def tell(self, what: str, outcome: str, seconds: float) -> None:
        """Note a chapter, and print it."""
        self.chapters.append(Chapter(what, outcome, seconds))
        self.console.print(f"[green]✓[/green] {what}: {outcome} after {seconds:.1f} s")


def play() -> int:
    """Run the whole demo; returns the exit status. The stack is left running, to be looked at."""
    console = Console()
    try:
        settings = _fresh_home(console)
        stack = supervisor.up(settings, progress=lambda line: console.print(f"[dim]{line}[/dim]"))
        story = Story(console, settings, stack, wiring.ledger(settings), Warehouse(settings.home / "warehouse.db"))
        with Caller(f"{stack.serving_url}/models/{MODEL}/predict", _record(settings)) as caller:
            _chapters(story, caller)
            _releases(story, caller)
    except EvergreenError as error:
        console.print(f"[red]The demo did not do what it promises.[/red] {error}", soft_wrap=True)
        return 1
    return 0


def _chapters(story: Story, caller: Caller) -> None:
    known, landed = _land(story, "January to March", months(1, 3))
    story.goes_live("January to March: the first model", caller, known, landed, cause=Cause.NEW_DATA)
    known, landed = _land(story, "April", months(4, 4))
    live = story.goes_live("April: new data, seen by the watcher", caller, known, landed, cause=Cause.NEW_DATA)
    may = months(5, 5)
    known, landed = _land(story, "May, with an impossible hour in 5 % of its rows", corrupted(may))
    _stopped(story, caller, known, landed, live)
    story.warehouse.load(may)
    story.console.print("May is repaired in the source; [bold]evergreen retrain flight-delay[/bold]")
    known, landed = story.known_requests(), time.monotonic()
    _retrain(story)
    story.goes_live("May, repaired: retrained by a person", caller, known, landed, cause=Cause.PERSON)
    if caller.failures:
        raise DemoFailed(f"{len(caller.failures)} request(s) failed meanwhile, the first: {caller.failures[0]}")


def _land(story: Story, name: str, batch: pl.DataFrame) -> tuple[set[str], float]:
    known = story.known_requests()
    rows = story.warehouse.load(batch)
    story.console.print(f"\n[bold]{name}[/bold]: {rows:,} flights land in the warehouse")
    return known, time.monotonic()


def _stopped(story: Story, caller: Caller, known: set[str], landed: float, live: Release) -> None:
    request = story.wait_for_request(
        "May: validation", known, accept=lambda r: r.state is RequestState.FAILED and r.step == "validate"
    )
    story.console.print(f"[dim]{request.reason}[/dim]", soft_wrap=True)
    before = caller.answers.get(live.version, 0)
    time.sleep(1)
    if caller.answers.get(live.version, 0) <= before or max(caller.answers) != live.version:
        raise DemoFailed(f"version {live.version} no longer answers alone after the batch was stopped")
    seconds = time.monotonic() - landed
    story.tell("May, corrupted: stopped by validation", f"version {live.version} goes on answering", seconds)


def _retrain(story: Story) -> None:
    api = wiring.airflow(story.stack.airflow_url, story.stack.user, story.stack.password)
    api.trigger(MODEL, {"requested_by": "demo", "reason": "May was repaired in the source"})


def _releases(story: Story, caller: Caller) -> None:
    table = Table(title="Releases", min_width=60)
    for name in ("version", "cause", "data until", "auc", "released (UTC)", "answers"):
        table.add_column(name, justify="right")
    for release in story.ledger.releases.history(MODEL):
        request = story.ledger.requests.get(release.request_id)
        candidate = story.ledger.models.candidate(MODEL, release.version)
        gate = (
            next((g.value for g in candidate.verdict.gates if g.metric == "auc"), None) if candidate.verdict else None
        )
        table.add_row(
            str(release.version), request.cause, f"{request.as_of:%Y-%m-%d}", f"{gate:.3f}" if gate else "–",
            f"{release.released_at:%H:%M:%S}", f"{caller.answers.get(release.version, 0):,}",
        )  # fmt: skip
    times = Table(title="From data landed to what callers see", min_width=60)
    times.add_column("what")
    times.add_column("outcome")
    times.add_column("seconds", justify="right")
    for chapter in story.chapters:
        times.add_row(chapter.what, chapter.outcome, f"{chapter.seconds:.1f}")
    story.console.print("", table, times)
    _where_to_look(story, caller)


def _where_to_look(story: Story, caller: Caller) -> None:
    stack, say = story.stack, story.console.print
    say(f"\n{sum(caller.answers.values()):,} requests answered while versions changed, {len(caller.failures)} failed.")
    say(f"  Airflow   {stack.airflow_url}   user {stack.user}, password {stack.password}", soft_wrap=True)
    say(f"  MLflow    {stack.mlflow_url}", soft_wrap=True)
    say(f"  Serving   {stack.serving_url}", soft_wrap=True)
    body = json.dumps({"records": [caller.record]}, separators=(",", ":"))
    say("Ask the model:", style="bold")
    say(
        f"  curl -s {caller.url} -H 'content-type: application/json' -d '{body}'",
        soft_wrap=True,
        highlight=False,
    )
    say("State of all models: [bold].venv/bin/evergreen status[/bold]     Stop everything: [bold]make down[/bold]")


def _record(settings: wiring.Settings) -> dict[str, Any]:
    """A flight of June: later than everything that the demo trains on."""
    features = load_catalog(settings.root).specs[MODEL].features.columns
    row: dict[str, Any] = months(6, 6).select(features).row(1000, named=True)
    return row


def _fresh_home(console: Console) -> wiring.Settings:
    """An empty home. What an earlier demo left is removed; anything else is not touched."""
    settings = wiring.Settings.load()
    home = settings.home
    if (home / "ledger.db").exists() and not (home / MARK).exists():
        raise DemoFailed(
            f"{home} holds models that no demo made. Play the demo in another clone, or set EVERGREEN_HOME to an "
            "empty folder."
        )
    if supervisor.down(settings):
        console.print("Stopped what an earlier demo left running.")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700, parents=True)
    (home / MARK).write_text(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n")
    return settings
