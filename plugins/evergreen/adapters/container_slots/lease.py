"""The lease of a slot in the ledger: waited for, renewed while it is held, given back."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from evergreen.core.errors import LeaseBusy, LeaseLost, SlotUnavailable
from evergreen.core.ports import Leases
from evergreen.core.records import Lease

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """In seconds: how long a lease lasts without renewal, how long another's is waited for, and between two looks.

    A lease outlives a ledger that is away for three quarters of `lasts`, and a killed holder is waited for no longer
    than `waits`.
    """

    lasts: float = 90.0
    waits: float = 120.0
    look: float = 0.5

    @property
    def renewed(self) -> float:
        """Seconds between two renewals."""
        return self.lasts / 4


class SlotLease:
    """A lease that is held now, until `lost` says why it is not."""

    def __init__(self, leases: Leases, key: str, what: str, terms: Terms) -> None:
        self._leases, self._key, self._what, self._terms = leases, key, what, terms
        self._holder = f"{what} ({socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]})"[-250:]
        self._over = Event()
        self._lease: Lease | None = None
        self.lost = ""

    def check(self) -> None:
        """Raise SlotUnavailable if it was lost: what was measured since may be of another's slot."""
        if self.lost:
            raise SlotUnavailable(f"{self._what}: the lease of {self._key} was lost meanwhile: {self.lost}")

    def still_ours(self) -> bool:
        """Whether nobody else has it, asked of the ledger: a process that stood still knows nothing of what came after.

        A ledger that is away does not take it from us; whoever renews sees to that.
        """
        try:
            if self._lease and not self.lost:
                self._leases.check(self._lease)
        except LeaseLost as error:
            self.lost = str(error)
        except Exception as error:
            _log.warning("The lease of %s could not be looked at: %s", self._key, error)
        return not self.lost

    @contextmanager
    def held(self) -> Iterator[SlotLease]:
        """Wait for it, keep it, give it back. Raises LeaseBusy where another has it for longer than we wait."""
        self._lease = self._wait()
        renewing = Thread(target=self._renew, args=(self._lease.fence, time.monotonic()), daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            self._over.set()
            renewing.join()
            if not self.lost:
                self._leases.release(self._key, self._holder)

    def _wait(self) -> Lease:
        deadline, told = time.monotonic() + self._terms.waits, False
        while True:
            try:
                return self._take()
            except LeaseBusy as busy:
                if time.monotonic() > deadline:
                    raise LeaseBusy(
                        f"{self._what} waited {self._terms.waits:g} s for its rehearsal: {busy}. There is one slot, "
                        "and it serves one version at a time."
                    ) from busy
                if not told:
                    _log.info("%s waits for its rehearsal: %s", self._what, busy)
                told = True
            time.sleep(self._terms.look)

    def _take(self) -> Lease:
        now, lasts = datetime.now(UTC), timedelta(seconds=self._terms.lasts)
        return self._leases.acquire(self._key, self._holder, lasts, now)

    def _renew(self, fence: int, renewed_at: float) -> None:
        """Until it is over. A ledger that is away is asked again; what is not renewed in time is lost."""
        while not self._over.wait(self._terms.renewed):
            try:
                if self._take().fence != fence:
                    self.lost = "another rehearsal had it for a while"
                renewed_at = time.monotonic()
            except LeaseBusy as busy:
                self.lost = str(busy)
            except Exception as error:
                _log.warning("The lease of %s could not be renewed: %s", self._key, error)
                if time.monotonic() - renewed_at > self._terms.lasts:
                    self.lost = f"it could not be renewed: {error}"
            if self.lost:
                return
