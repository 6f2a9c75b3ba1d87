"""Does serving answer with a version yet? The ledger decides at once; serving follows within seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Release, Replica

ALIVE = timedelta(seconds=15)  # a replica beats every 2 s; silent for longer, it is counted as gone
PAUSE = 0.1  # seconds between two looks
Ask: TypeAlias = "Callable[[Replica], str]"  # asks a replica itself: what is wrong, empty where it answers rightly


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Wait:
    """How long to wait, in seconds, and by which clock."""

    seconds: float
    clock: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Answering:
    """What serving did within the time. `replicas` were alive at the last look; `behind` says what is wrong with
    those of them that do not answer with the version."""

    version: int
    pool: str
    replicas: tuple[str, ...]
    behind: tuple[str, ...]

    @property
    def answers(self) -> bool:
        """Whether every replica that is alive answers with the version, and one is."""
        return bool(self.replicas) and not self.behind

    def __str__(self) -> str:
        """'version 2 answers (1 replica of pool default)', or what is in the way."""
        if not self.replicas:
            return f"no replica of pool '{self.pool}' is alive: version {self.version} answers once one is started"
        if self.behind:
            return f"version {self.version} does not answer everywhere yet: {'; '.join(self.behind)}"
        count = len(self.replicas)
        return f"version {self.version} answers ({count} replica{'s' * (count > 1)} of pool '{self.pool}')"


def wait_until_answering(ledger: Ledger, release: Release, wait: Wait, ask: Ask | None = None) -> Answering:
    """Wait until every live replica of the pool reports the version, and then answers `ask` rightly.

    Returns at once where no replica is alive, else when all answer or the time is over.
    """
    deadline = wait.clock() + timedelta(seconds=wait.seconds)
    while True:
        found = _look(ledger, release, wait.clock() - ALIVE, ask)
        if not found.behind or wait.clock() >= deadline:
            return found
        wait.sleep(PAUSE)


def _look(ledger: Ledger, release: Release, since: datetime, ask: Ask | None) -> Answering:
    alive = ledger.replicas.alive(release.pool, since)
    behind = [f"{one.replica} {wrong}" for one in alive if (wrong := _wrong(one, release, ask))]
    return Answering(release.version, release.pool, tuple(one.replica for one in alive), tuple(behind))


def _wrong(replica: Replica, release: Release, ask: Ask | None) -> str:
    reported = replica.versions.get(release.model)
    if reported != release.version:
        why = f" ({' '.join(replica.reasons)})" if replica.reasons else ""
        return f"reports {f'version {reported}' if reported else 'no version that all its workers answer with'}{why}"
    return ask(replica) if ask else ""
