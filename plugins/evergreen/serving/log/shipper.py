"""Brings what workers logged from local segments into the store, as Parquet parts. Runs in a thread of the supervisor.

A segment that nobody writes any more (closed, or its worker is dead) becomes one part for each model and day in it, and
is removed. Its parts are named after it, so that shipping it again after a crash replaces what is there: no row twice,
none lost. While the store does not answer, segments wait on the local disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from threading import Event, get_native_id
from typing import TypeVar

from evergreen.core import logged_parts as parts
from evergreen.core.forgotten import Forgetting, Forgotten
from evergreen.core.ports import PartWriter, Store
from evergreen.core.records import LoggedRows, Truth, UserMetric
from evergreen.serving import state as files
from evergreen.serving.log.segment_content import Content, kept_of
from evergreen.serving.log.segments import FOLDER, SUFFIX, Damaged, finished, made_at
from evergreen.serving.reasons import first_line
from evergreen.serving.state import Reason, Shipping

TICK, RETRY = 1.0, 5.0  # seconds between two passes, and after one in which the store did not answer
LATE = 60.0  # seconds of lag that are told
DAMAGED = ".damaged"
_NICE = 10
_UNNAMED = 60.0  # seconds after which a segment whose worker died before it had a name is removed
_log = logging.getLogger(__name__)


class Shipper:
    """Ships the segments of one pool's folder."""

    def __init__(self, folder: Path, open_store: Callable[[], Store], open_writer: Callable[[], PartWriter]) -> None:
        self._folder, self._open_store, self._open_writer = folder, open_store, open_writer
        self._store: Store | None = None
        self._writer: PartWriter | None = None
        self._known: dict[str, Forgotten] = {}
        self._rows = 0
        self._trouble = ""

    def run(self, stop: Event) -> None:
        """Pass after pass until stopped, in the background: no answer waits for it."""
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)  # of this thread alone, on Linux
        wait = TICK
        while not stop.wait(wait):
            wait = TICK if self.ship_all() else RETRY

    def finish(self, seconds: float) -> None:
        """Once the workers have ended: ship what is left, if that is possible within so many seconds."""
        until = time.monotonic() + seconds
        self.ship_all(lambda: time.monotonic() > until)

    def ship_all(self, enough: Callable[[], bool] = lambda: False) -> bool:
        """One pass over all segments, oldest first; whether the store took what there was. Never raises."""
        try:
            for path in self._segments():
                if enough():
                    break
                self._ship(path)
            self._trouble = ""
        except Exception as error:
            told = f"The store does not take the prediction log ({first_line(error)}); it is kept here and tried again."
            if told != self._trouble:
                _log.warning("%s", told, exc_info=not isinstance(error, OSError))
            self._store, self._trouble = None, told
        self._tell()
        return not self._trouble

    # ------------------------------------------------------------ one segment

    def _ship(self, path: Path) -> None:
        with finished(path) as file:
            if file is None:
                return
            try:
                found = Content.of(file)
                if found.rows:
                    self._put(path.stem, found)
            except Damaged as error:  # it must not hold up the others
                _log.error("%s cannot be shipped and is set aside: %s", path, error, exc_info=error.__cause__)
                path.rename(path.with_suffix(DAMAGED))
                return
            path.unlink()
            self._rows += found.rows

    def _put(self, segment: str, found: Content) -> None:
        """Once more where somebody was forgotten in the meantime: then the rows may have come after the search."""
        store = self._store = self._store or self._open_store()
        known = self._forgotten(store)
        while True:
            self._put_kept(store, segment, found, Forgetting(known.values()))
            before, known = known.keys(), self._forgotten(store)
            if all(_is_of(segment, key) for key in known.keys() - before):
                return

    def _put_kept(self, store: Store, segment: str, found: Content, forgetting: Forgetting) -> None:
        writer = self._writer = self._writer or self._open_writer()
        gone: dict[Forgotten, list[str]] = defaultdict(list)
        kept = {group: kept_of(batches, forgetting, gone) for group, batches in found.predictions.items()}
        for told, ids in gone.items():  # before the rows are away: labels that name them are to go as well
            ours = Forgotten(told.key_sha256, told.before, told.model, tuple(ids))
            store.put(ours.stored_at(segment), ours.to_json())
        ids_gone = forgetting.ids.union(*gone.values())
        numbers: dict[tuple[str, date], int] = defaultdict(int)
        for (model, day, _), batches in kept.items():
            key = parts.part_key(parts.PREDICTIONS, model, day, segment, numbers[model, day])
            numbers[model, day] += 1
            _put(store, key, writer.predictions, batches)
        for (model, day), records in found.truths.items():
            key = parts.part_key(parts.TRUTH, model, day, segment)
            left = [one for one in records if one.inference_id not in ids_gone]
            _put(store, key, writer.truth, left)
        for (model, day), values in found.metrics.items():
            _put(store, parts.part_key(parts.METRICS, model, day, segment), writer.metrics, values)

    def _forgotten(self, store: Store) -> Mapping[str, Forgotten]:
        """All that is forgotten, by its key in the store. Each is read once: they do not change."""
        keys = store.keys(parts.FORGOTTEN)
        self._known = {key: self._known.get(key) or Forgotten.from_json(store.get(key)) for key in keys}
        return self._known

    # ------------------------------------------------------------ the folder

    def _segments(self) -> list[Path]:
        """Oldest first, which is in order of their names."""
        folder = self._folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for unnamed in folder.glob(".*"):
            if time.time() - made_at(unnamed.name[1:]) > _UNNAMED:
                unnamed.unlink(missing_ok=True)
        return sorted(folder.glob(f"*{SUFFIX}"))

    def _tell(self) -> None:
        """To the workers, who tell it in /metrics and readiness."""
        sizes = _sizes(self._folder / FOLDER)
        lag = max((time.time() - made_at(segment) for segment, _ in sizes), default=0.0)
        reasons = [Reason(self._trouble)] if self._trouble else []
        if lag > LATE:
            reasons.append(Reason(f"The prediction log is {lag:.0f} s behind: the store has no row after that."))
        if damaged := len(list((self._folder / FOLDER).glob(f"*{DAMAGED}"))):
            text = f"{damaged} damaged segments of the prediction log are set aside in {self._folder / FOLDER}."
            reasons.append(Reason(text))
        told = Shipping(round(max(lag, 0), 1), sum(size for _, size in sizes), self._rows, reasons, time.time())
        try:
            files.write(self._folder / files.SHIPPING, told)
        except OSError as error:
            _log.warning("%s cannot be written: %s", files.SHIPPING, error.strerror)


_Rows = TypeVar("_Rows", LoggedRows, Truth, UserMetric)


def _put(store: Store, key: str, as_part: Callable[[Sequence[_Rows]], bytes], rows: Sequence[_Rows]) -> None:
    """Write the part, or where nothing is left of it remove that of an earlier try."""
    if not rows:
        store.remove(key)
        return
    try:
        data = as_part(rows)
    except Exception as error:
        raise Damaged(f"no part {key} can be made of it") from error
    store.put(key, data)


def _is_of(segment: str, key: str) -> bool:
    """Whether this list of forgotten rows was written while the segment was shipped."""
    return key.endswith(f"-{segment}.json")


def _sizes(folder: Path) -> list[tuple[str, int]]:
    """Id and bytes of each segment that is there."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):
            found.append((path.stem, path.stat().st_size))
    return found
