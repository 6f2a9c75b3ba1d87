"""Faults to order: how it is shown that every step survives a kill at every point, and that a guard guards.

Nothing is watched unless EVERGREEN_FAULT names faults, several with a blank between them:

    ledger.models.add_candidate:after:/folder/struck     kills this process at a call of a port. The file is made when
                                                         the fault strikes, and where it is there the fault has
                                                         struck: so the retry goes on.
    predict:flight-delay:2:raise                         makes a version on trial in serving fail, each time; also
    predict:flight-delay:2:sleep=0.2                     take that many seconds longer, or
    predict:flight-delay:2:constant=0.5                  answer the same to every row
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen.core.errors import FoundProblem

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

VARIABLE = "EVERGREEN_FAULT"
BEFORE, AFTER, PREDICT = "before", "after", "predict:"
Hook = Callable[[str, str], None]  # is told the call ('store.put') and whether it is BEFORE or AFTER it
Predict = Callable[[Any], Any]  # matrix → an array that may be written to
Port = TypeVar("Port")
_PREDICT = re.compile(r"predict:([a-z0-9-]+):([0-9]+):(raise|(?:sleep|constant)=[0-9.]+)")


@dataclass(frozen=True)
class Fault:
    """Where a process is to die, once."""

    call: str
    when: str
    struck: Path

    @classmethod
    def of(cls, text: str) -> Fault:
        """Read 'call:when:file'. Raises FoundProblem where that is nothing to strike at."""
        call, _, rest = text.partition(":")
        when, _, struck = rest.partition(":")
        if when not in (BEFORE, AFTER) or not struck:
            allowed = "<port>.<method>:before|after:<file that is made as it strikes>"
            raise FoundProblem(VARIABLE, found=repr(text), allowed=allowed, do="Correct it, or unset it.")
        return cls(call, when, Path(struck))

    def __call__(self, call: str, when: str) -> None:
        """Die here, if it is the place and the first time."""
        if (call, when) == (self.call, self.when) and self._is_first():
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_first(self) -> bool:
        try:
            os.close(os.open(self.struck, os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True


def of_version(model: str, version: int, predict: Predict) -> Predict:
    """How a version answers: as it does, unless a fault is set for it. Raises FoundProblem for one that is none."""
    for text in os.environ.get(VARIABLE, "").split():
        if not text.startswith(PREDICT):
            continue
        found = _PREDICT.fullmatch(text)
        if not found:
            allowed = "predict:<model>:<version>:raise|sleep=<seconds>|constant=<number>"
            raise FoundProblem(VARIABLE, found=repr(text), allowed=allowed, do="Correct it, or unset it.")
        if found[1] == model and int(found[2]) == version:
            return _faulty(predict, *found[3].split("="))
    return predict


def _faulty(predict: Predict, what: str, how: str = "0") -> Predict:
    amount = float(how)

    def answer(matrix: Any) -> Any:
        if what == "raise":
            raise RuntimeError(f"{VARIABLE} asked for it")
        if what == "sleep":
            time.sleep(amount)
        answers = predict(matrix)
        if what == "constant":
            answers[...] = amount
        return answers

    return answer


def _from_environment() -> Hook | None:
    named = os.environ.get(VARIABLE, "").split()
    faults = [Fault.of(text) for text in named if not text.startswith(PREDICT)]

    def strike(call: str, when: str) -> None:
        for fault in faults:
            fault(call, when)

    return strike if faults else None


class _Watched:
    """A port whose calls are told to the hook."""

    def __init__(self, name: str, port: Any, hook: Hook) -> None:
        self._name, self._port, self._hook = name, port, hook

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._port, attribute)
        if not callable(found):
            return found
        call = f"{self._name}.{attribute}"

        @wraps(found)
        def told(*arguments: Any, **named: Any) -> Any:
            self._hook(call, BEFORE)
            result = found(*arguments, **named)
            self._hook(call, AFTER)
            return result

        return told


def watched(name: str, port: Port, hook: Hook | None = None) -> Port:
    """The port itself, unless a fault is set (or a hook given): then one that tells each call of it."""
    hook = hook or _from_environment()
    return port if hook is None else _Watched(name, port, hook)  # type: ignore[return-value]


def watched_ledger(ledger: Ledger, hook: Hook | None = None) -> Ledger:
    """The same of each part of the ledger: 'ledger.releases.go_live'."""
    parts = {part.name: getattr(ledger, part.name) for part in fields(ledger)}
    return replace(ledger, **{name: watched(f"ledger.{name}", port, hook) for name, port in parts.items()})
