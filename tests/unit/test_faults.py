"""A fault kills the process at exactly the call that it names, once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from evergreen import faults
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger
from evergreen.fakes.ledger import in_memory_ledger
from records import NOW


def exit_of(act: object) -> int:
    """How a fork ended that did this: 0, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        act()  # type: ignore[operator]
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("when", [faults.BEFORE, faults.AFTER])
def test_it_strikes_once_at_the_call_that_is_named(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    struck, done = tmp_path / "struck", tmp_path / "done"
    monkeypatch.setenv(faults.VARIABLE, f"ledger.holds.place:before:{tmp_path / 'other'} store.put:{when}:{struck}")

    class Port:
        size = 3

        def put(self) -> None:
            done.touch()

        def get(self) -> None:
            pass

    port = faults.watched("store", Port())
    assert exit_of(port.get) == 0
    assert port.size == 3
    assert not struck.exists()
    assert exit_of(port.put) == -signal.SIGKILL
    assert done.exists() is (when == faults.AFTER)
    assert exit_of(port.put) == 0  # the retry goes on
    assert done.exists()


def test_every_part_of_the_ledger_is_told() -> None:
    told: list[tuple[str, str]] = []
    ledger: Ledger = faults.watched_ledger(in_memory_ledger(), lambda call, when: told.append((call, when)))
    ledger.holds.place("m", by="ada", reason="looking", now=NOW)
    ledger.releases.champion("m")
    assert [call for call, when in told if when == faults.AFTER] == ["ledger.holds.place", "ledger.releases.champion"]


def test_without_a_fault_the_port_itself_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    port, ledger = object(), in_memory_ledger()
    assert faults.watched("store", port) is port
    assert faults.watched_ledger(ledger) == ledger


def test_a_version_in_serving_answers_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    named = "predict:fares:2:raise predict:fares:3:constant=0.5 predict:fares:4:sleep=0.05"
    monkeypatch.setenv(faults.VARIABLE, named)

    def predict(rows: list[float]) -> list[float]:
        return list(rows)

    assert faults.watched("store", predict) is predict  # nothing to kill at
    assert faults.of_version("fares", 1, predict) is faults.of_version("other", 2, predict) is predict
    with pytest.raises(RuntimeError, match="EVERGREEN_FAULT asked for it"):
        faults.of_version("fares", 2, predict)([1.0])
    begun = time.monotonic()
    assert faults.of_version("fares", 4, predict)([1.0]) == [1.0]
    assert time.monotonic() - begun >= 0.05
    assert faults.of_version("fares", 3, np.array)([1.0, 2.0]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("text", ["predict:fares:2", "predict:fares:two:raise", "predict:fares:2:sleep"])
def test_what_is_no_fault_of_a_version_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, text)
    with pytest.raises(FoundProblem, match=r"EVERGREEN_FAULT: found .*allowed: predict:<model>:"):
        faults.of_version("fares", 2, list)


@pytest.mark.parametrize(
    "text", ["store.put", "store.put:now:/tmp/x", "store.put:after:", "store.put:after:/tmp/x other"]
)
def test_what_is_no_fault_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, text)
    with pytest.raises(FoundProblem, match=r"EVERGREEN_FAULT: found .*allowed: <port>"):
        faults.watched("store", object())
