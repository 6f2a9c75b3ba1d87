"""The end of the demo: who was released when and why, how long each chapter took, and where to look now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table

from evergreen.core.records import ReleaseKind
from evergreen.demo.story import AIRTIME, DELAY

if TYPE_CHECKING:
    from evergreen.core.records import Release
    from evergreen.demo.story import Story

MEASURE = {DELAY: "auc", AIRTIME: "mae"}


def show(story: Story) -> None:
    """Print both tables, and where everything runs."""
    releases = Table(title="Releases")
    for name in ("model", "v.", "why", "data until", "holdout", "released", "answers"):
        releases.add_column(name, justify="left" if name in ("model", "why") else "right", no_wrap=True)
    for release in story.ledger.releases.history():
        if release.model in MEASURE:
            releases.add_row(*_row(story, release))
    times = Table(title="From data landed, or asked for, to what callers see")
    times.add_column("what")
    times.add_column("outcome")
    times.add_column("seconds", justify="right")
    for chapter in story.chapters:
        times.add_row(chapter.what, chapter.outcome, f"{chapter.seconds:.1f}")
    story.console.print("", releases, times)
    _where_to_look(story)


def _row(story: Story, release: Release) -> tuple[str, ...]:
    request = story.ledger.requests.get(release.request_id)
    candidate = story.ledger.models.candidate(release.model, release.version)
    metric = MEASURE[release.model]
    value = candidate.verdict.metrics.get(metric) if candidate.verdict else None
    return (
        release.model,
        str(release.version),
        "rollback" if release.kind is ReleaseKind.ROLLBACK else str(request.cause),
        f"{request.as_of:%Y-%m-%d}",
        "–" if value is None else f"{metric} {value:.3g}",
        f"{release.released_at:%H:%M:%S}",
        f"{story.callers[release.model].answers.get(release.version, 0):,}",
    )


def _where_to_look(story: Story) -> None:
    stage, say, callers = story.stage, story.console.print, story.callers.values()
    answered = sum(sum(caller.answers.values()) for caller in callers)
    failed = sum(len(caller.failures) for caller in callers)
    say(f"\n{answered:,} requests answered while versions changed, {failed} failed.")
    for name, text in (
        ("Airflow", f"{stage.pages}   {stage.admin}"),
        ("", f"{stage.pages}   {stage.oncall} (approves, rolls back)"),
        ("Models", f"{stage.pages}/evergreen/   history and evidence of every version, same sign-in"),
        *stage.notes,
        ("Serving", stage.answers),
    ):
        say(f"  {name:<9} {text}", soft_wrap=True, highlight=False)
    say("Ask the model:", style="bold")
    say(f"  {_curl(story)}", soft_wrap=True, highlight=False, markup=False)
    say(f"See what happened: [bold]{stage.command} history {DELAY}[/bold]", soft_wrap=True)
    say(f"Where the version that answers came from: [bold]{stage.command} trace {DELAY}[/bold]", soft_wrap=True)
    say(
        f"And one of its answers, from its canary: [bold]{stage.command} trace {_an_answer(story)}[/bold]",
        soft_wrap=True,
    )
    say(f"State of all models: [bold]{stage.command} status[/bold]", soft_wrap=True)
    say(
        f"The next version of {DELAY} is tried beside this one, and waits for callers: ask, or "
        f"[bold]{stage.command} promote {DELAY} --reason …[/bold]",
        soft_wrap=True,
    )
    say("Stop everything: [bold]make down[/bold]")


def _an_answer(story: Story) -> str:
    """The inference id of the first that callers had of the version that answers now: long in the store by now."""
    caller = story.callers[DELAY]
    assert caller.newest, "the story ends with a version that answers"
    return caller.first[caller.newest]


def _curl(story: Story) -> str:
    """What a caller of the model would send."""
    body = json.dumps({"records": [story.callers[DELAY].record]}, separators=(",", ":"))
    sign = ' -H "authorization: Bearer $TOKEN"' if story.stage.token else ""
    url = f"{story.stage.answers}/models/{DELAY}/predict"
    return f"curl -s {url} -H 'content-type: application/json'{sign} -d '{body}'"
