"""What both demos play on a year of flights: first models, retrains, a version's trial, a batch stopped, an approval,
a candidate refused, and the way back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from evergreen import wiring
from evergreen.core.catalog import load_catalog
from evergreen.core.records import Cause, GateState, RequestState
from evergreen.demo.caller import TIMEOUT, Caller
from evergreen.demo.ending import show
from evergreen.demo.story import AIRTIME, DELAY, DemoFailed, Story
from evergreen.demo.warehouse import corrupted, months

if TYPE_CHECKING:
    from rich.console import Console

    from evergreen.core.records import Release, TriggerRequest
    from evergreen.demo.stage import Stage
    from evergreen.demo.warehouse import Warehouse

BEFORE_A_CLICK = 3.0  # seconds: Airflow asks again where an answer comes while it is still noting its question
A_PERSON_TAKES = 1800.0  # seconds at most, with --ask


def play(console: Console, stage: Stage, warehouse: Warehouse, *, ask: bool = False) -> None:
    """The whole story on this stage, which is left as it is then. Raises DemoFailed where it is not as promised."""
    callers = {model: _caller(stage, model) for model in (DELAY, AIRTIME)}
    story = Story(console, stage, wiring.ledger(stage.settings), warehouse, callers, ask)
    with ExitStack() as asking:
        for caller in callers.values():
            asking.enter_context(caller)
        _chapters(story)
    show(story)


def _chapters(story: Story) -> None:
    known = story.known_requests(DELAY)
    landed = story.land("January to March", months(1, 3))
    story.goes_live("January to March: the first model", DELAY, known, landed, Cause.NEW_DATA)
    _approved(story)
    known = story.known_requests(DELAY)
    landed = story.land("April", months(4, 4))
    live = story.goes_live("April: new data, seen by the watcher", DELAY, known, landed, Cause.NEW_DATA)
    _stopped(story, live)
    _repaired(story)
    _refused(story)
    _rolled_back(story)
    if failures := [failure for caller in story.callers.values() for failure in caller.failures]:
        raise DemoFailed(f"{len(failures)} request(s) failed meanwhile, the first: {failures[0]}")


def _approved(story: Story) -> None:
    """A model whose spec asks a person."""
    what, known, began = "Another model, approved by on-call", story.known_requests(AIRTIME), time.monotonic()
    story.console.print(f"\n[bold]evergreen retrain {AIRTIME}[/bold]: its spec says that a person approves")
    story.retrain(AIRTIME, "the first model")
    request = story.wait_for(what, AIRTIME, known, lambda request: _question(story, request))
    _answer(story, request)
    patience = A_PERSON_TAKES if story.ask else 60
    story.wait_for(what, AIRTIME, known, lambda request: request.state is RequestState.SERVED, patience)
    story.answers(what, _release_of(story, request), began)


def _question(story: Story, request: TriggerRequest) -> bool:
    return story.stage.api(story.stage.oncall).question(AIRTIME, request.run_id) is not None


def _answer(story: Story, request: TriggerRequest) -> None:
    """A person's click, or the same answer through the same API."""
    stage = story.stage
    page = f"{stage.pages}/dags/{AIRTIME}/runs/{request.run_id}/tasks/approve/required_actions"
    story.console.print(f"On-call is asked: [underline]{page}[/underline]", soft_wrap=True)
    if story.ask:
        story.console.print(f"Your turn: sign in as {stage.oncall}, read the evidence, and approve.", soft_wrap=True)
        return
    time.sleep(BEFORE_A_CLICK)
    stage.api(stage.oncall).approve(AIRTIME, request.run_id, "Approve", reason="the demo has looked at the evidence")


def _release_of(story: Story, request: TriggerRequest) -> Release:
    found = [r for r in story.ledger.releases.history(request.model) if r.request_id == request.id]
    if not found:
        reason = story.ledger.requests.get(request.id).reason
        raise DemoFailed(f"{request.model}: nothing was released: {reason}")
    return found[-1]


def _stopped(story: Story, live: Release) -> None:
    known = story.known_requests(DELAY)
    landed = story.land("May, with an impossible hour in 5 % of its rows", corrupted(months(5, 5)))
    request = story.wait_for(
        "May: validation", DELAY, known, lambda r: r.state is RequestState.FAILED and r.step == "validate"
    )
    story.console.print(f"[dim]{request.reason}[/dim]", soft_wrap=True)
    _goes_on(story, live)
    seconds = time.monotonic() - landed
    story.tell("May, corrupted: stopped by validation", f"version {live.version} goes on answering", seconds)


def _goes_on(story: Story, live: Release) -> None:
    """Callers still get the live version, and no other one."""
    caller = story.callers[live.model]
    before = caller.answers.get(live.version, 0)
    time.sleep(1)
    deadline = time.monotonic() + TIMEOUT
    while caller.answers.get(live.version, 0) <= before and time.monotonic() < deadline:
        time.sleep(0.1)
    if caller.answers.get(live.version, 0) <= before or caller.newest != live.version:
        raise DemoFailed(f"{live.model}: version {live.version} no longer answers alone")


def _repaired(story: Story) -> None:
    story.warehouse.load(months(5, 5))
    story.console.print(f"May is repaired in the source; [bold]evergreen retrain {DELAY}[/bold]")
    known, began = story.known_requests(DELAY), time.monotonic()
    story.retrain(DELAY, "May was repaired in the source")
    story.goes_live("May, repaired: retrained by a person", DELAY, known, began, Cause.PERSON)


def _refused(story: Story) -> None:
    """Late in the year a model of the autumn is worse than that of the spring: the gates see it on the same rows."""
    what, known = "December: a worse candidate", {model: story.known_requests(model) for model in (DELAY, AIRTIME)}
    began = story.land("June to December", months(6, 12))
    live = _champion(story, AIRTIME)
    story.retrain(AIRTIME, "a year of flights")
    request = story.served(what, AIRTIME, known[AIRTIME], Cause.PERSON)
    gate = next((g for g in _verdict(story, request) if g.state is GateState.FAILED), None)
    if gate is None or _champion(story, AIRTIME).id != live.id:
        raise DemoFailed(f"{what}: it was not refused: {request.reason}")
    story.console.print(f"[dim]{request.reason}[/dim]", soft_wrap=True)
    _goes_on(story, live)
    outcome = f"refused ({gate.metric} {gate.candidate:.1f}, champion's {gate.champion:.1f})"
    story.tell(what, outcome, time.monotonic() - began)
    other = story.served(f"{DELAY} on the same data", DELAY, known[DELAY], Cause.NEW_DATA)
    story.console.print(f"[dim]{DELAY}, retrained by the watcher: {other.reason}[/dim]", soft_wrap=True)


def _verdict(story: Story, request: TriggerRequest) -> tuple[Any, ...]:
    candidate = next((c for c in story.ledger.models.candidates(request.model) if c.request_id == request.id), None)
    return candidate.verdict.gates if candidate and candidate.verdict else ()


def _champion(story: Story, model: str) -> Release:
    release = story.ledger.releases.champion(model).release_id
    if release is None:
        raise DemoFailed(f"{model}: nothing was released")
    return story.ledger.releases.get(release)


def _rolled_back(story: Story) -> None:
    """The command that on-call types."""
    reason = "callers saw too many false alarms"
    story.console.print(f'\n[bold]evergreen rollback {DELAY} --reason "{reason}"[/bold]')
    began, left = time.monotonic(), _champion(story, DELAY)
    command = [sys.executable, "-m", "evergreen.cli", "rollback", DELAY, "--reason", reason]
    environment = {**os.environ, **story.stage.environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    story.console.print(f"[dim]{(done.stdout or done.stderr).strip()}[/dim]", soft_wrap=True)
    release = _champion(story, DELAY)
    if done.returncode or release.version >= left.version:
        raise DemoFailed(f"`evergreen rollback` did not go back from version {left.version}")
    story.answers("Rollback by on-call", release, began)


def _caller(stage: Stage, model: str) -> Caller:
    """Asks about a flight of June."""
    features = load_catalog(stage.settings.root).specs[model].features.columns
    row: dict[str, Any] = months(6, 6).select(features).row(1000, named=True)
    return Caller(f"{stage.serving}/models/{model}/predict", row, stage.token)
