"""Work on a cluster that writes down, in files, which process of it is how far: so that a test can kill one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from evergreen.core.ports.cluster import Cluster, Place


@dataclass(frozen=True)
class Followed:
    """A cluster whose workers each write what they tell, line by line, into '<number>-<pid>' of the folder."""

    cluster: Cluster
    folder: Path

    def together(self, begin: Callable[..., Any], work: Callable[..., Any], *, what: str) -> list[Any]:
        """See Cluster."""
        return self.cluster.together(begin, partial(_followed, self.folder, work), what=what)

    def tries(self) -> list[tuple[int, int, list[str]]]:
        """Each process that worked: its number, its pid and what it told, the oldest first."""
        files = sorted(self.folder.iterdir(), key=lambda file: file.stat().st_ctime_ns)
        return [(*map(int, file.name.split("-")), file.read_text().splitlines()) for file in files]  # type: ignore[misc]


def _followed(folder: Path, work: Callable[..., Any], terms: Any, place: Place) -> Any:
    file = folder / f"{place.number}-{os.getpid()}"

    def tell(what: str) -> None:
        with file.open("a") as written:
            written.write(f"{what}\n")
        place.tell(what)

    return work(terms, replace(place, tell=tell))


class Struck:
    """While it is entered, one worker process (the first of this number) gets a signal once it told `at`."""

    def __init__(self, followed: Followed, number: int, at: str, signal: int) -> None:
        self._followed, self._number, self._at, self._signal = followed, number, at, signal
        self._over = Event()
        self._thread = Thread(target=self._strike)
        self.pid: int | None = None

    def __enter__(self) -> Struck:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _strike(self) -> None:
        while not self._over.wait(0.005):
            with suppress(FileNotFoundError):
                for number, pid, told in self._followed.tries():
                    if number == self._number and self._at in told:
                        os.kill(pid, self._signal)
                        self.pid = pid
                        return


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to be true within so many seconds."""
    until = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return found
