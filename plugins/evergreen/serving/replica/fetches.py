"""Bundles on their way from the store, several at a time, in threads that die with the process.

A store that is slow or hangs holds up its threads and nobody else; one thread is kept for what is urgent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from threading import Condition, Thread, current_thread

from evergreen.core.ports import Store
from evergreen.serving.replica.local_bundles import LocalBundles

THREADS = 4  # and one more for what is urgent


class Fetches:
    """What is asked for with `have` is fetched in that order, urgent ones first. For one thread, which follows."""

    def __init__(self, bundles: LocalBundles, open_store: Callable[[], Store]) -> None:
        self._bundles, self._open_store = bundles, open_store
        self._changed = Condition()
        self._waiting: dict[str, bool] = {}  # bundle → whether it is urgent
        self._under_way: set[str] = set()
        self._done: dict[str, Exception | None] = {}
        self._threads: set[Thread] = set()

    def have(self, bundle: str, *, urgent: bool = False) -> bool:
        """Whether the bundle is here, verified; else it is on its way from now on.

        Raises what its fetch raised (see LocalBundles.fetch), once: the next call tries anew.
        """
        with self._changed:
            if bundle in self._done:
                if error := self._done.pop(bundle):
                    raise error
                return True
            if bundle not in self._under_way:
                self._waiting[bundle] = urgent or self._waiting.get(bundle, False)
                self._staff()
        return False

    def wait(self, bundles: Iterable[str], seconds: float) -> bool:
        """Until these are here or refused, or the time is over; whether any has come."""
        wanted, deadline = set(bundles), time.monotonic() + seconds
        with self._changed:
            while not wanted <= self._done.keys() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return bool(wanted & self._done.keys())

    def only(self, bundles: Collection[str]) -> None:
        """Give up what else still waits: nobody wants it any more."""
        with self._changed:
            self._waiting = {bundle: urgent for bundle, urgent in self._waiting.items() if bundle in bundles}
            self._done = {bundle: error for bundle, error in self._done.items() if bundle in bundles}

    def known(self) -> set[str]:
        """Those that are on their way, or here and not asked for again yet: no other clears them away."""
        with self._changed:
            return {*self._waiting, *self._under_way, *self._done}

    def _staff(self) -> None:
        """A thread for what waits, and that of the urgent ones if one of them does."""
        for is_spare in (False, True):
            some = [thread for thread in self._threads if (thread.name == "urgent") == is_spare]
            if len(some) < (1 if is_spare else THREADS) and self._next(only_urgent=is_spare):
                name = "urgent" if is_spare else "fetching"
                thread = Thread(target=self._run, args=(is_spare,), name=name, daemon=True)
                self._threads.add(thread)
                thread.start()

    def _next(self, *, only_urgent: bool) -> str | None:
        urgent = next((bundle for bundle, is_urgent in self._waiting.items() if is_urgent), None)
        return urgent if urgent or only_urgent else next(iter(self._waiting), None)

    def _run(self, is_spare: bool) -> None:
        """Fetch until nothing waits."""
        store: Store | None = None
        while True:
            with self._changed:
                bundle = self._next(only_urgent=is_spare)
                if bundle is None:
                    self._threads = {thread for thread in self._threads if thread is not current_thread()}
                    return
                del self._waiting[bundle]
                self._under_way.add(bundle)
            try:
                store = store or self._open_store()
                self._bundles.fetch(bundle, store)
                error = None
            except Exception as failed:
                store, error = None, failed  # opened anew for the next
            with self._changed:
                self._under_way.discard(bundle)
                self._done[bundle] = error
                self._changed.notify_all()
