"""What ends a replica: a signal, or the end of its standard input. The first drains it, a second ends it at once."""

from __future__ import annotations

import os
import signal
from threading import Thread


class Stop:
    """How often the end was asked for. Plain numbers: a lock taken in a signal handler might be held already."""

    def __init__(self) -> None:
        self._times = 0

    def asked(self) -> bool:
        """Whether it is to end."""
        return self._times > 0

    def asked_again(self) -> bool:
        """Whether somebody does not want to wait."""
        return self._times > 1

    def on_signals(self) -> None:
        """SIGTERM and SIGINT. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask())

    def on_end_of_stdin(self) -> None:
        """The pipe's other end is closed by whoever started us, or by the kernel when that process is gone."""
        Thread(target=self._await_end, daemon=True).start()

    def _await_end(self) -> None:
        while os.read(0, 4096):
            pass
        self._ask()

    def _ask(self) -> None:
        self._times += 1
