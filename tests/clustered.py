"""Work on a cluster that writes down, in files, which process of it is how far: so that a test can kill one of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

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
        _strike_if_told(folder, place.number, what)
        place.tell(what)

    return work(terms, replace(place, tell=tell))


class Struck:
    """While it is entered, the first worker process of this number to tell `at` gets a signal, then and there.

    The process sends it to itself: from outside it may come when the work is done. `pid` is that process, once struck.
    """

    def __init__(self, followed: Followed, number: int, at: str, signal: int) -> None:
        self._order, self._text = _order(followed.folder), json.dumps([number, at, signal])

    @property
    def pid(self) -> int | None:
        found = [int(path.suffix[1:]) for path in self._order.parent.glob(f"{self._order.name}.*")]
        return found[0] if found else None

    def __enter__(self) -> Struck:
        self._order.write_text(self._text)
        return self

    def __exit__(self, *_: object) -> None:
        self._order.unlink(missing_ok=True)


def _order(folder: Path) -> Path:
    """Where it is written whom to strike; whoever was renames it."""
    return folder.with_suffix(".strike")


def _strike_if_told(folder: Path, number: int, told: str) -> None:
    with suppress(FileNotFoundError):  # nobody is to be struck, or somebody was
        wanted, at, signal = json.loads((order := _order(folder)).read_text())
        if (number, told) == (wanted, at):
            order.rename(order.with_suffix(f"{order.suffix}.{os.getpid()}"))
            os.kill(os.getpid(), signal)


def command_of(process: psutil.Process) -> str:
    """Nothing of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to be true within so many seconds."""
    until = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return found
