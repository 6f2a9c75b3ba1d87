"""Work that a trigger does again and again: blocking, and allowed to fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Result = TypeVar("Result")


class OwnThread(Generic[Result]):
    """Does `work` in a thread of its own: those that all triggers share may all be waiting for a source.

    An error (the ledger is away, above all) is logged by `log` as `complaint`, once and not each time; the answer is
    then none.
    """

    def __init__(self, work: Callable[[], Result], log: logging.Logger, complaint: str) -> None:
        self._work, self._log, self._complaint = work, log, complaint
        self._thread = ThreadPoolExecutor(1)
        self._said = ""

    async def __call__(self) -> Result | None:
        """Do it once."""
        try:
            found, self._said = await asyncio.get_running_loop().run_in_executor(self._thread, self._work), ""
        except Exception as error:
            if str(error) != self._said:
                self._said = str(error)
                self._log.warning("%s: %s", self._complaint, error)
            return None
        return found

    def __enter__(self) -> OwnThread[Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=False)  # what is under way ends by itself
