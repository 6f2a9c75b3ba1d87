"""What a worker answered, kept: each predict call is written to a local segment before its answers leave.

The supervisor ships segments to the store (serving.shipper). One write a predict call and no fsync: what was answered
survives the death of any process, not that of the host. Nothing here stops an answer: rows that cannot be kept are
dropped and counted, by reason.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np

from evergreen.core.records import LoggedBy, LoggedFeature, Truth, UserMetric
from evergreen.serving import state as files
from evergreen.serving.limits import LogLimits
from evergreen.serving.log import log_frames as frames
from evergreen.serving.log.segments import FOLDER, Segment
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.endpoint import Asked
from evergreen.serving.refusals import refuse
from evergreen.serving.state import Reason, Settings, Shipping

SEGMENT_BYTES = 8_000_000
TICK = 1.0  # seconds between two looks at age, disk and backlog
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger(__name__)


class _Source:
    """Who makes rows, as a segment has it: its number there, and which columns are kept (none: all)."""

    def __init__(self, number: int, model: LoadedModel, arm: str, settings: Settings) -> None:
        features = model.schema.features
        kept = [at for at, feature in enumerate(features) if feature.name not in settings.not_logged]
        self.number, self.settings = number, settings
        self.kept = kept if len(kept) < len(features) else None
        self.hidden = frozenset(settings.not_logged)
        release = model.release
        named = tuple(
            LoggedFeature(one.name, tuple(one.categories or ()) if one.kind == "category" else None)
            for one in (features[at] for at in kept)
        )
        self.by = LoggedBy(model.name, release.version, release.release_id, release.bundle, arm, named)


class PredictionLog:
    """A Log in segments below a pool's folder."""

    def __init__(
        self,
        folder: Path,
        settings_of: Callable[[str], Settings],
        metrics: Metrics,
        limits: LogLimits | None = None,
    ) -> None:
        self._folder, self._settings_of, self._metrics = folder, settings_of, metrics
        self._limits = limits or LogLimits()
        self._lock = Lock()
        self._segment: Segment | None = None
        self._opened = 0.0
        self._sources: dict[tuple[str, str, str], _Source] = {}  # not by the model itself: it would never be evicted
        self._blocked = ""  # why nothing is written until the next tick
        self._trouble = ""  # the same in words, for people
        self._shipping, self._seen = Shipping(), files.stamp(folder / files.SHIPPING)
        self._told = ""
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        self._look()

    # ------------------------------------------------------------ what is kept

    def add(
        self, model: LoadedModel, arm: str, asked: Sequence[Asked], predictions: np.ndarray, ids: Sequence[str]
    ) -> None:
        """Keep one predict call. Never raises: what cannot be kept is counted."""
        try:
            settings = self._settings_of(model.name)
            if settings.log_sample < 1:
                asked, predictions, ids = self._sampled(model.name, settings.log_sample, asked, predictions, ids)
                if not ids:
                    return
            if self._blocked:
                return self._drop(model.name, self._blocked, len(ids))
            with self._lock:
                self._append(model, arm, settings, asked, predictions, ids)
        except OSError as error:
            self._fail(error)
            self._drop(model.name, self._blocked, len(ids))
        except Exception as error:  # a fault of ours: it must not cost an answer
            self._tell_once(error)
            self._drop(model.name, "failed", len(ids))

    def _append(
        self,
        model: LoadedModel,
        arm: str,
        settings: Settings,
        asked: Sequence[Asked],
        predictions: np.ndarray,
        ids: Sequence[str],
    ) -> None:
        segment = self._segment or self._open()
        key = model.name, model.release.release_id, arm
        source, definition = self._sources.get(key), b""
        if source is None or (source.settings is not settings and source.settings != settings):
            source = _Source(segment.numbered, model, arm, settings)
            definition = frames.source(source.number, source.by)
        matrices = [one.matrix for one in asked]
        if predictions.dtype != np.float32:
            predictions = predictions.astype(np.float32)
        if source.kept is not None:
            matrices = [np.ascontiguousarray(matrix[:, source.kept]) for matrix in matrices]
        details = frames.details(asked, source.hidden)
        segment.append(definition + frames.rows(source.number, matrices, predictions, ids, details))
        self._trouble = ""
        if definition:  # only now: a write that failed has left nothing behind
            segment.numbered += 1
            self._sources[key] = source
        if segment.size >= SEGMENT_BYTES:
            self._close()

    def add_truth(self, model: str, records: Sequence[Truth]) -> None:
        """Keep what turned out to be true. Raises RequestRefused (503) where it cannot be kept."""
        self._keep("ground truth", frames.truth(model, records))

    def add_metrics(self, model: str, records: Sequence[UserMetric]) -> None:
        """Keep values of users' metrics. Raises RequestRefused (503) where they cannot be kept."""
        self._keep("metrics", frames.metrics(model, records))

    def _keep(self, what: str, frame: bytes) -> None:
        try:
            if self._blocked:
                raise OSError(errno.EAGAIN, self._trouble)
            with self._lock:
                segment = self._segment or self._open()
                segment.append(frame)
                self._trouble = ""
        except OSError as error:
            if not self._blocked:
                self._fail(error)
            do = "Send it again later."
            raise refuse(503, what, found=self._trouble, allowed="room on its disk", do=do) from error

    @staticmethod
    def _chosen(share: float, first_id: str) -> bool:
        return zlib.crc32(first_id.encode()) < share * 2**32

    def _sampled(
        self, name: str, share: float, asked: Sequence[Asked], predictions: np.ndarray, ids: Sequence[str]
    ) -> tuple[list[Asked], np.ndarray, list[str]]:
        """Whole requests, chosen by the id of their first row: a retry of the same decision comes out the same."""
        kept: list[Asked] = []
        rows: list[int] = []
        begin = 0
        for one in asked:
            end = begin + len(one.matrix)
            if self._chosen(share, ids[begin]):
                kept.append(one)
                rows.extend(range(begin, end))
            begin = end
        if begin > len(rows):
            self._drop(name, "sampled", begin - len(rows))
        return kept, predictions[rows], [ids[row] for row in rows]

    # ------------------------------------------------------------ segments

    def _open(self) -> Segment:
        self._segment = Segment.open(self._folder / FOLDER)
        self._opened = time.monotonic()
        self._sources = {}
        return self._segment

    def _close(self) -> None:
        if self._segment:
            self._segment.close()
        self._segment, self._sources = None, {}

    async def run(self) -> None:
        """Once a second: close a segment that is old enough, look at disk and backlog."""
        while True:
            await asyncio.sleep(TICK)
            self.tick()

    def tick(self) -> None:
        """One look. Whatever it finds, the answers go on."""
        try:
            with self._lock:
                if self._segment and time.monotonic() - self._opened >= self._limits.seconds:
                    self._close()
            self._look()
        except Exception as error:
            self._tell_once(error)

    def close(self) -> None:
        """At the worker's end."""
        with self._lock:
            self._close()

    def _look(self) -> None:
        """Read how shipping fares. A disk that was full is tried again; a backlog is waited for."""
        stamp = files.stamp(self._folder / files.SHIPPING)
        if stamp != self._seen or not self._shipping.written_at:
            self._shipping = files.read(self._folder / files.SHIPPING, Shipping) or Shipping()
            self._seen = stamp
        if self._shipping.backlog > self._limits.backlog:
            self._blocked = "backlog"
            have, most = self._shipping.backlog / 1e6, self._limits.backlog / 1e6
            self._trouble = (
                f"{have:,.0f} MB of the prediction log wait here for the store, more than the {most:,.0f} MB allowed"
            )
        elif self._blocked and (self._blocked == "backlog" or self._takes_a_write()):
            self._blocked = self._trouble = ""

    def _takes_a_write(self) -> bool:
        """Whether the disk does again: nobody may ask for hours, and what is told must be true meanwhile."""
        probe = self._folder / FOLDER / f".probe-{os.getpid()}"
        try:
            probe.parent.mkdir(exist_ok=True)
            probe.write_bytes(bytes(4096))
            probe.unlink()
        except OSError:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
            return False
        return True

    # ------------------------------------------------------------ what is told

    def reasons(self) -> list[Reason]:
        """What ops should know: rows that are dropped now, and what the supervisor says of shipping."""
        told = [Reason(f"{self._trouble}; answers go on, and are not logged.")] if self._trouble else []
        return [*told, *self._shipping.reasons]

    def shipping(self) -> Shipping:
        """How far the supervisor is with shipping, as of the last tick."""
        return self._shipping

    def _fail(self, error: OSError) -> None:
        self._blocked = "disk_full" if error.errno in _FULL else "disk_error"
        text = f"The prediction log cannot be written in {self._folder / FOLDER}: {error.strerror or error}"
        if text != self._trouble:
            _log.error("%s", text)
        self._trouble = text

    def _drop(self, model: str, reason: str, rows: int) -> None:
        self._metrics.add("evergreen_log_dropped_rows_total", rows, model=model, reason=reason)

    def _tell_once(self, error: Exception) -> None:
        if self._told != repr(error):
            self._told = repr(error)
            _log.error("the prediction log fails", exc_info=error)
