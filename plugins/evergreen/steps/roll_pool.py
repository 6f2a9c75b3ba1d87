"""roll_pool: a pool goes over to the image that its idle colour was made from, and no request is lost.

The idle colour is started beside the active one, and must answer every release's golden rows before callers are sent to
it. The ledger is written first, then the edge follows: killed anywhere and run again, a roll goes on from what the
ledger and the containers say. What goes wrong is undone: the colour before answers, the new one is stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused, EvergreenError, RollFailed, ServingFailed, SlotUnavailable
from evergreen.core.golden import golden_of
from evergreen.core.pool_roll import ENDED, POOL, active_colour, other
from evergreen.core.ports import Door
from evergreen.core.records import PoolChange, PoolEvent
from evergreen.core.slot_health import COLOURS
from evergreen.steps.rehearse import ask_golden_rows

if TYPE_CHECKING:
    from evergreen.core.ports import EdgeProxy, EdgeServer, Ledger, ServingClient, SlotContainers, Store
    from evergreen.core.slot_health import SlotFacts

LASTS = timedelta(minutes=10)  # of the lease: longer than a roll
log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Patience:
    """In seconds: until the new colour is ready, in which it must answer at the edge without a break, until the edge
    sends to it, until the colour before has no request left, from SIGTERM to SIGKILL, between two looks."""

    ready: float = 120.0
    settles: float = 1.5
    switches: float = 30.0
    drains: float = 30.0
    stops: float = 20.0
    look: float = 0.25
    clock: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Outside:
    """What a roll works with, beside the ledger."""

    containers: SlotContainers
    edge: EdgeProxy
    client: ServingClient
    store: Store
    url: Callable[[str], str] = "http://{}:8000".format  # of a colour, on the serving network


@dataclass(frozen=True)
class Rolled:
    """What a roll did: callers are sent to `active`, whose image is of this revision."""

    active: str
    before: str
    revision: str


def roll_pool(
    ledger: Ledger,
    outside: Outside,
    *,
    by: str,
    reason: str,
    act: str,
    since: datetime,
    pool: str = POOL,
    patience: Patience | None = None,
    tell: Callable[[str], None] = log.info,
) -> Rolled:
    """Take the pool to its other colour. `act` names this roll, `since` is when it was asked for.

    A roll that was killed is gone on with, whoever asks. Raises RollFailed where it was undone, or nothing was begun;
    LeaseBusy while another roll is at work; SlotUnavailable and EdgeUnavailable, where it stands as it is until it is
    run again.
    """
    waits, key = patience or Patience(), f"pool:{pool}"
    ledger.leases.acquire(key, act, LASTS, waits.clock())
    try:
        return _Roll(ledger, outside, pool, by, reason, since, waits, tell).to_its_end()
    finally:
        ledger.leases.release(key, act)


@dataclass(frozen=True)
class _Roll:
    ledger: Ledger
    outside: Outside
    pool: str
    by: str
    reason: str
    since: datetime
    waits: Patience
    tell: Callable[[str], None]

    def to_its_end(self) -> Rolled:
        newest = next(reversed(self.ledger.pools.history(self.pool)), None)
        if newest and newest.change in ENDED and newest.at >= self.since:
            return self._ended_before(newest)
        if newest and newest.change is PoolChange.SWITCHED:
            self.tell(f"going on with a roll that was broken off: callers are sent to {newest.active}")
            return self._change_over(newest.active)
        new = other(self._begin(newest))
        try:
            self._bring_up(new)
        except RollFailed as error:
            raise self._undone(new, error, switched=False) from error
        self._record(PoolChange.SWITCHED, new, self.reason)
        return self._change_over(new)

    def _ended_before(self, newest: PoolEvent) -> Rolled:
        """An earlier try of this act came to its end, and was killed before it could tell."""
        if newest.change is PoolChange.DONE:
            return self._rolled(newest.active)
        self._go_back(other(newest.active), switched=True)
        raise RollFailed(newest.reason)

    # ---------------------------------------------------------------- before the switch

    def _begin(self, newest: PoolEvent | None) -> str:
        """The active colour, the other one shut and not running. Raises RollFailed, where nothing was changed."""
        up = [colour for colour in COLOURS if self.outside.containers.look(colour).up]
        active = active_colour(newest, up, self.outside.edge.servers())
        if active is None:
            raise RollFailed("Both colours are stopped: there is none to roll from. `make up` starts one.")
        new = other(active)
        if self.outside.containers.look(new).state == "absent":
            raise RollFailed(f"There is no container {new}. `make roll` makes it, from the new image.")
        goes_on = newest is not None and (newest.change, newest.active) == (PoolChange.STARTED, active)
        if not goes_on:
            if new in up:  # nobody's, and not what this roll is for
                self._send_callers_to(active)
                self._drain(new, while_answering=active)
                self._shut_and_stop(new)
            self._record(PoolChange.STARTED, active, self.reason)
        return active

    def _bring_up(self, new: str) -> None:
        """Start it, shut at the edge, and wait until it answers rightly. Raises RollFailed where it does not."""
        self.outside.edge.set(new, Door.MAINT)
        self._start(new)
        self.tell(f"{new} is started, from the image of revision {self._revision(new)}; {other(new)} answers")
        deadline, said = self._in(self.waits.ready), ""
        while wrong := self._wrong(new):
            if wrong != said:
                said = wrong
                log.info("%s: not yet: %s", new, wrong)
            if self.waits.clock() >= deadline:
                raise RollFailed(f"{new} did not answer rightly within {self.waits.ready:g} s: {wrong}")
            self.waits.sleep(self.waits.look)
        self.tell(f"{new} is ready, and answers the golden rows of all {self._models()} as at training")

    def _start(self, colour: str) -> None:
        """Raises RollFailed where it cannot be started, SlotUnavailable where nobody can say so."""
        try:
            self.outside.containers.start(colour)
        except SlotUnavailable as error:
            if not self.outside.containers.look(colour).up:
                raise RollFailed(f"{colour} does not start: {error}") from error

    def _wrong(self, new: str) -> str:
        """What keeps it from answering, empty if nothing does. Raises RollFailed for what no waiting changes."""
        facts = self.outside.containers.look(new)
        if facts.restarts or facts.state != "running":
            raise RollFailed(f"{new} was started and {_end(facts)}. See `docker logs {new}`.")
        url = self.outside.url(new)
        return self.outside.client.readiness(url) or self._golden_rows(url)

    def _golden_rows(self, url: str) -> str:
        """Ask those of every live release; one that went live this moment is followed within seconds."""
        for release in self.ledger.releases.live(self.pool):
            try:
                golden = golden_of(release.bundle, self._files(release.bundle))
                with self.outside.client.connect(url) as connection:
                    ask_golden_rows(connection, release.model, release.version, golden)
            except ServingFailed as error:
                return f"{release.model}: {error}"
            except BundleRefused as error:
                raise RollFailed(f"{release.model} version {release.version}: {error}") from error
        return ""

    def _files(self, sealed: str) -> Callable[[str], bytes]:
        return lambda name: self.outside.store.get(bundle.key(sealed, name))

    # ---------------------------------------------------------------- the switch, and after it

    def _change_over(self, new: str) -> Rolled:
        """Callers to the new colour, the one before drained and stopped. The ledger says SWITCHED by now."""
        before = other(new)
        try:
            self._send_callers_to(new)
            self.tell(f"callers are sent to {new}; {before} answers what it has")
            self._drain(before, while_answering=new)
        except RollFailed as error:
            raise self._undone(new, error, switched=True) from error
        self._shut_and_stop(before)
        self._record(PoolChange.DONE, new, self.reason)
        return self._rolled(new)

    def _send_callers_to(self, new: str) -> None:
        """Open its door, and wait until it has answered for a while. Raises RollFailed where it does not."""
        self.outside.edge.set(new, Door.READY)
        deadline, since = self._in(self.waits.switches), None
        while since is None or self.waits.clock() < since + timedelta(seconds=self.waits.settles):
            if self._server(new).answering:
                since = since or self.waits.clock()
            elif self.waits.clock() >= deadline:
                raise RollFailed(f"{new} is ready and the edge does not reach it within {self.waits.switches:g} s")
            else:
                since = None
            self.waits.sleep(self.waits.look)

    def _drain(self, colour: str, *, while_answering: str) -> None:
        """Nobody new to it, until no request is left or the time is over. Raises RollFailed where the other one fails.

        An edge that restarts meanwhile has forgotten it, and is told again.
        """
        deadline = self._in(self.waits.drains)
        while True:
            if not self._server(while_answering).answering:
                raise RollFailed(f"{while_answering} stopped answering while {colour} drained")
            server = self._server(colour)
            if server.door is Door.READY:
                self.outside.edge.set(colour, Door.DRAIN)
            elif not server.requests:
                return
            if self.waits.clock() >= deadline:
                self.tell(f"{colour} still has {server.requests} requests; it answers them as it stops")
                return
            self.waits.sleep(self.waits.look)

    def _shut_and_stop(self, colour: str) -> None:
        self.outside.edge.set(colour, Door.MAINT)
        self.outside.containers.stop(colour, grace=self.waits.stops)

    # ---------------------------------------------------------------- the way back

    def _undone(self, new: str, error: EvergreenError, *, switched: bool) -> RollFailed:
        """Take callers back to the colour before and stop the new one, never the last that runs; what to raise."""
        before, what = other(new), f"{str(error).rstrip('.')}."
        why = f"{what} {before} answers{' again' if switched else ', as before'}; {new} is stopped."
        self._record(PoolChange.BACK, before, why)
        self.tell(f"way back: {what}")
        if self._go_back(new, switched=switched):
            return RollFailed(why)
        return RollFailed(f"{what} And {before} does not answer either: {new} is left as it is. See `make status`.")

    def _go_back(self, new: str, *, switched: bool) -> bool:
        """Whether the new colour could be stopped, because the one before answers (or, not switched, never stopped)."""
        before = other(new)
        answers = self._answers_again(before) if switched else self.outside.containers.look(before).up
        if answers:
            self._shut_and_stop(new)
        return answers

    def _answers_again(self, before: str) -> bool:
        """Start it, if it was stopped by then, open its door, and wait."""
        if not self.outside.containers.look(before).up:
            self.outside.containers.start(before)
        self.outside.edge.set(before, Door.READY)
        deadline = self._in(self.waits.ready)
        while not self._server(before).answering:
            if self.waits.clock() >= deadline:
                return False
            self.waits.sleep(self.waits.look)
        return True

    # ---------------------------------------------------------------- words

    def _record(self, change: PoolChange, active: str, reason: str) -> None:
        self.ledger.pools.record(PoolEvent(self.pool, active, change, self.by, reason, self.waits.clock()))

    def _rolled(self, active: str) -> Rolled:
        return Rolled(active, other(active), self._revision(active))

    def _revision(self, colour: str) -> str:
        return self.outside.containers.look(colour).revision or "unknown"

    def _models(self) -> str:
        count = len(self.ledger.releases.live(self.pool))
        return f"{count} model{'s' * (count != 1)}"

    def _server(self, colour: str) -> EdgeServer:
        return self.outside.edge.servers()[colour]

    def _in(self, seconds: float) -> datetime:
        return self.waits.clock() + timedelta(seconds=seconds)


def _end(facts: SlotFacts) -> str:
    """How it ended. One that Docker has started again meanwhile tells no exit code."""
    if facts.out_of_memory:
        return "ran out of memory"
    return "ended by itself" if facts.state == "running" else f"ended with exit code {facts.exit_code}"
