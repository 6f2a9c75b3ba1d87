"""One pass of the reconciler over all that waits in the ledger.

Passes change nothing that is as it should be, and each part writes by what the ledger holds: two reconcilers at once (a
second triggerer, or the stand-in of a silent one) do twice the work and once the effect. So there is no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core.reconciling import RECONCILER, Trouble, detail_of
from evergreen.steps.advance_rollouts import advance_rollouts
from evergreen.steps.hear_scheduler import hear_scheduler
from evergreen.steps.publish_settings import publish_settings
from evergreen.steps.repair_aliases import repair_aliases
from evergreen.steps.serve_requests import serve_requests
from evergreen.steps.tell_people import tell_people
from evergreen.steps.tend_approvals import tend_approvals
from evergreen.steps.tend_edge import tend_edge
from evergreen.steps.watch_recall import watch_recall
from evergreen.steps.watch_silence import watch_silence
from evergreen.steps.watch_sources import watch_sources
from evergreen.steps.watch_upstream import watch_upstream

if TYPE_CHECKING:
    from evergreen.core.addresses import Addresses
    from evergreen.core.ports import Aliases, EdgeProxy, Ledger, Runs, Source
    from evergreen.core.spec import ModelSpec

Clock: TypeAlias = Callable[[], datetime]
Part: TypeAlias = Callable[[datetime], list[str]]

# Seconds from one turn of a part to the next; a part that is not named here has its turn in each pass.
EVERY = {
    "edge": timedelta(seconds=2),
    "settings": timedelta(seconds=5),
    "people": timedelta(seconds=10),
    "silence": timedelta(seconds=30),
    "scheduler": timedelta(seconds=15),
    "recalls": timedelta(seconds=30),
    "watermarks": timedelta(seconds=15),
    "aliases": timedelta(seconds=30),
}
SHARE = 5  # a part that took long is left out for this many times as long: the others shall not wait for it …
LONGEST = timedelta(minutes=5)  # … but for no longer than this
LENGTH = 300  # characters of an error


@dataclass(frozen=True)
class Outside:
    """What a pass works with, beside the ledger. `addresses` are those of the pages to act on; `edge` is none where
    serving does not run in slots."""

    specs: Mapping[str, ModelSpec]
    runs: Runs
    aliases: Aliases
    open_source: Callable[[ModelSpec], Source]
    addresses: Addresses
    edge: EdgeProxy | None = None


@dataclass
class Pace:
    """What lasts from one pass to the next; whoever makes passes keeps it.

    `seen` is the memory of watch_sources, `dismissed` that of tend_approvals, `asked` and `turns` those of
    serve_requests, `known` that of watch_upstream, `recalled` that of watch_recall; `troubles` is what fails, by part.
    """

    seen: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    dismissed: dict[str, datetime] = field(default_factory=dict)
    asked: dict[str, datetime] = field(default_factory=dict)
    turns: dict[str, datetime] = field(default_factory=dict)
    known: set[tuple[str, str]] = field(default_factory=set)
    recalled: set[tuple[str, int]] = field(default_factory=set)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    _due: dict[str, datetime] = field(default_factory=dict)

    def due(self, part: str, now: datetime) -> bool:
        """Whether it is the part's turn."""
        return part not in self._due or now >= self._due[part]

    def took(self, part: str, began: datetime, ended: datetime) -> None:
        """The part had its turn."""
        pause = min((ended - began) * SHARE, LONGEST) if part in EVERY else timedelta(0)
        self._due[part] = max(began + EVERY.get(part, timedelta(0)), ended + pause)


@dataclass(frozen=True)
class Report:
    """What a pass did, in sentences, and what fails, by part: now, or when the part last had its turn."""

    done: tuple[str, ...]
    troubles: Mapping[str, Trouble]


def reconcile(ledger: Ledger, outside: Outside, pace: Pace, clock: Clock, *, name: str = RECONCILER) -> Report:
    """Make one pass, and beat `name`. Raises only where the ledger does not take the heartbeat."""
    done: list[str] = []
    for part, work in _parts(ledger, outside, pace).items():
        if pace.due(part, clock()):
            done += _guarded(part, work, pace, clock)
    ledger.heartbeats.beat(name, detail_of(pace.troubles), clock())
    return Report(tuple(done), dict(pace.troubles))


def _parts(ledger: Ledger, outside: Outside, pace: Pace) -> dict[str, Part]:
    """In the order of their urgency: what answers, then who waits, then what looks further."""
    specs, runs, source, pages = outside.specs, outside.runs, outside.open_source, outside.addresses
    edge = outside.edge
    return {
        "rollouts": lambda now: advance_rollouts(ledger, now=now),
        **({"edge": lambda now: tend_edge(ledger, edge)} if edge else {}),
        "settings": lambda now: publish_settings(ledger, specs),
        "approvals": lambda now: tend_approvals(
            ledger, specs, runs, now=now, page=pages.question, dismissed=pace.dismissed
        ),
        "upstream": lambda now: watch_upstream(ledger, specs, now=now, known=pace.known),
        "recalls": lambda now: watch_recall(ledger, specs, now=now, known=pace.recalled),
        "requests": lambda now: serve_requests(
            ledger, specs, runs, source, now=now, asked=pace.asked, turns=pace.turns
        ),
        "silence": lambda now: watch_silence(ledger, specs, pages, now=now),
        "people": lambda now: tell_people(ledger, specs, pages, now=now),
        "scheduler": lambda now: hear_scheduler(ledger, runs),
        "watermarks": lambda now: watch_sources(ledger, specs, source, now=now, seen=pace.seen),
        "aliases": lambda now: repair_aliases(ledger, outside.aliases, specs, now=now),
    }


def _guarded(part: str, work: Part, pace: Pace, clock: Clock) -> list[str]:
    """What the part did; one that fails has done nothing that it could tell of, and the others go on."""
    began = clock()
    try:
        done = work(began)
        pace.troubles.pop(part, None)
    except Exception as error:  # whatever it is: nothing may end the reconciler
        done, before = [], pace.troubles.get(part)
        text = f"{type(error).__name__}: {error}"[:LENGTH]
        pace.troubles[part] = Trouble(part, before.since if before else began, text)
    pace.took(part, began, clock())
    return done
